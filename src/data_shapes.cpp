// shapes: generated images, 32x32x3, 10 classes. One figure of random place, size, direction and colour on a
// shaded background, with noise. Either of figure and background may be the brighter one, so that no weighted
// sum of pixels tells the classes apart; which figure it is shows in edges, corners and holes only.
//
// Only + - * / and sqrt are used, so that every machine makes the same bytes.
#include <algorithm>
#include <array>
#include <cmath>

#include "convoy/philox.h"
#include "data_readers.h"

namespace convoy {
namespace {

constexpr int64_t kSide = 32;
constexpr float kMiddle = 16;
constexpr int kFigures = 10;
const char* const kNames[kFigures] = {"circle", "ring",  "square",          "triangle",      "star",
                                      "cross",  "check", "horizontal_bars", "vertical_bars", "diagonal_bars"};
enum Figure { kCircle, kRing, kSquare, kTriangle, kStar, kCross, kCheck, kHorizontal, kVertical, kDiagonal };

struct Point {
  float x, y;
};

// Numbers drawn one after another for one image; blocks from kNoise on are its noise.
class Draws {
 public:
  Draws(uint64_t seed, int64_t image, uint32_t part)
      : seed_(seed), image_(static_cast<uint32_t>(image)), part_(part) {}
  Philox4 block(uint32_t i) const { return philox(seed_, i, image_, part_, kShapesStream); }
  float uniform(float low, float high) {
    if (at_ % 4 == 0) words_ = block(at_ / 4);
    return low + (high - low) * uniform_float(words_.v[at_++ % 4]);
  }
  Point direction() {  // a point of the unit disc, away from its centre, pushed to the circle
    for (;;) {
      const Point p{uniform(-1, 1), uniform(-1, 1)};
      const float square = p.x * p.x + p.y * p.y;
      if (square > 0.01f && square <= 1) return {p.x / std::sqrt(square), p.y / std::sqrt(square)};
    }
  }

 private:
  uint64_t seed_;
  uint32_t image_, part_, at_ = 0;
  Philox4 words_{};
};
constexpr uint32_t kNoise = 1000;

// Signed distances (negative inside) to figures of radius 1.
float half_planes(Point p, int count, float inner, int skip) {
  // Normals every 72 or 120 degrees. A pentagram is where at most one of its five half-planes is left: skip
  // = 1.
  constexpr Point kFive[5] = {{0, -1},
                              {0.95105652f, -0.30901699f},
                              {0.58778525f, 0.80901699f},
                              {-0.58778525f, 0.80901699f},
                              {-0.95105652f, -0.30901699f}};
  constexpr Point kThree[3] = {{0, -1}, {0.86602540f, 0.5f}, {-0.86602540f, 0.5f}};
  const Point* normals = count == 5 ? kFive : kThree;
  float first = -9, second = -9;
  for (int i = 0; i < count; ++i) {
    const float d = p.x * normals[i].x + p.y * normals[i].y - inner;
    second = std::max(second, std::min(first, d));
    first = std::max(first, d);
  }
  return skip == 0 ? first : second;
}

float box(Point p, float half_w, float half_h) {
  return std::max(std::abs(p.x) - half_w, std::abs(p.y) - half_h);
}

float bars(float across, float per_unit, float phase) {
  const float t = across * per_unit + phase;
  return (std::abs(t - std::floor(t) - 0.5f) - 0.25f) / per_unit;
}

struct Style {
  Figure figure;
  float bars_per_unit, phase, phase2;
  bool falling;  // which diagonal
};

float distance(Point p, const Style& s) {
  constexpr float kHalfRoot = 0.70710678f;
  switch (s.figure) {
    case kCircle:
      return std::sqrt(p.x * p.x + p.y * p.y) - 0.95f;
    case kRing:
      return std::abs(std::sqrt(p.x * p.x + p.y * p.y) - 0.74f) - 0.26f;
    case kSquare:
      return box(p, 0.85f, 0.85f);
    case kTriangle:
      return half_planes(p, 3, 0.55f, 0);
    case kStar:
      return half_planes(p, 5, 0.36f, 1);
    case kCross:
      return std::min(box(p, 1, 0.28f), box(p, 0.28f, 1));
    case kHorizontal:
      return std::max(box(p, 1, 1), bars(p.y, s.bars_per_unit, s.phase));
    case kVertical:
      return std::max(box(p, 1, 1), bars(p.x, s.bars_per_unit, s.phase));
    case kDiagonal:
      return std::max(box(p, 1, 1),
                      bars((s.falling ? p.x + p.y : p.x - p.y) * kHalfRoot, s.bars_per_unit, s.phase));
    case kCheck: {
      const float a = bars(p.x, s.bars_per_unit, s.phase), b = bars(p.y, s.bars_per_unit, s.phase2);
      return std::max(box(p, 1, 1), std::max(std::min(a, b), -std::max(a, b)));
    }
  }
  return 1;
}

using Color = std::array<float, 3>;
float brightness(const Color& c) {
  return 0.299f * c[0] + 0.587f * c[1] + 0.114f * c[2];
}

void draw_image(Draws draws, Figure figure, uint8_t* pixels) {
  Style style{};
  style.figure = figure;
  const bool patterned = figure >= kCheck;
  const float radius = patterned ? draws.uniform(8, 13) : draws.uniform(7, 13);
  style.bars_per_unit = radius / draws.uniform(5, 8);  // a bar and its gap are 5 to 8 pixels
  style.phase = draws.uniform(0, 1);
  style.phase2 = draws.uniform(0, 1);
  style.falling = draws.uniform(0, 1) < 0.5f;
  const Point center{draws.uniform(radius, 2 * kMiddle - radius),
                     draws.uniform(radius, 2 * kMiddle - radius)};
  Point turn = draws.direction();
  if (patterned) {  // their direction is what tells them apart: lean a little only
    const float lean = draws.uniform(-0.15f, 0.15f);
    turn = {std::sqrt(1 - lean * lean), lean};
  }
  Color back, front, shade;
  do {
    for (size_t c = 0; c < 3; ++c) {
      back[c] = draws.uniform(20, 235);
      front[c] = draws.uniform(20, 235);
      shade[c] = draws.uniform(-25, 25);
    }
  } while (std::abs(brightness(back) - brightness(front)) < 50);
  const Point light = draws.direction();

  Philox4 noise{};
  uint32_t value = 0;
  for (int64_t y = 0; y < kSide; ++y)
    for (int64_t x = 0; x < kSide; ++x) {
      const float dx = (static_cast<float>(x) + 0.5f - center.x) / radius;
      const float dy = (static_cast<float>(y) + 0.5f - center.y) / radius;
      const Point p{dx * turn.x + dy * turn.y, dy * turn.x - dx * turn.y};
      const float cover = std::clamp(0.5f - distance(p, style) * radius, 0.0f, 1.0f);  // of this pixel
      const float shading =
          ((static_cast<float>(x) - kMiddle) * light.x + (static_cast<float>(y) - kMiddle) * light.y) /
          kMiddle;
      for (size_t c = 0; c < 3; ++c, ++value) {
        if (value % 16 == 0) noise = draws.block(kNoise + value / 16);
        const auto byte = static_cast<int>(noise.v[value % 16 / 4] >> 8 * (value % 4) & 255);
        const float clean = back[c] + shading * shade[c] + cover * (front[c] - back[c]);
        *pixels++ = static_cast<uint8_t>(std::clamp(static_cast<int>(clean) + (byte * 49 >> 8) - 24, 0, 255));
      }
    }
}

DataSet make_set(const std::string& name, int64_t count, uint64_t seed, uint32_t part) {
  constexpr int64_t kImageBytes = kSide * kSide * 3;
  std::vector<int32_t> labels;
  std::vector<uint8_t> pixels(static_cast<size_t>(count * kImageBytes));
  for (int64_t i = 0; i < count; ++i) {
    labels.push_back(static_cast<int32_t>(i % kFigures));
    draw_image(Draws(seed, i, part), static_cast<Figure>(i % kFigures), pixels.data() + i * kImageBytes);
  }
  return memory_set(name, Input{kSide, kSide, 3}, {kNames, kNames + kFigures}, std::move(labels),
                    std::move(pixels));
}

}  // namespace

DataSets load_shapes(const DataOptions& options) {
  DataSets sets;
  sets.train = make_set("shapes train", 8000, options.seed, 0);
  sets.test = make_set("shapes test", 2000, options.seed, 1);
  sets.normalization = measure_normalization(sets.train);
  sets.augment_flip = true;
  sets.augment_pad = 4;
  return sets;
}

}  // namespace convoy
