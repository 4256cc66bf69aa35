#include <algorithm>
#include <cmath>
#include <cstring>

#include "image_file.h"

namespace convoy {
namespace {

// The input values that one output value is made of. Weights are whole numbers of 2^-22, as in Pillow's
// resize: with 8-bit values the sums fit in 32 bits.
constexpr int kBits = 22;
struct Tap {
  int64_t first = 0;
  std::vector<int32_t> weights;
};

// Outputs [offset, offset + count) of `to` that `from` inputs are resized to: a triangle filter, as wide as
// one output is on the input's scale (at least two inputs).
std::vector<Tap> make_taps(int64_t from, int64_t to, int64_t offset, int64_t count) {
  const double scale = static_cast<double>(from) / static_cast<double>(to);
  const double support = std::max(scale, 1.0);
  std::vector<Tap> taps(static_cast<size_t>(count));
  std::vector<double> exact;
  for (int64_t i = 0; i < count; ++i) {
    const double center = (static_cast<double>(offset + i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(std::floor(center - support + 0.5)));
    const int64_t last = std::min(from, static_cast<int64_t>(std::floor(center + support + 0.5)));
    exact.clear();
    double sum = 0;
    for (int64_t x = first; x < last; ++x) {
      exact.push_back(std::max(0.0, 1.0 - std::abs((static_cast<double>(x) + 0.5 - center) / support)));
      sum += exact.back();
    }
    Tap& tap = taps[static_cast<size_t>(i)];
    tap.first = first;
    for (const double weight : exact)
      tap.weights.push_back(static_cast<int32_t>(std::lround(weight / sum * (1 << kBits))));
  }
  return taps;
}

uint8_t to_byte(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255));
}
constexpr int32_t kHalf = 1 << (kBits - 1);

template <int64_t C>
void resize_row(const uint8_t* from, const std::vector<Tap>& taps, uint8_t* out) {
  for (const Tap& tap : taps) {
    int32_t sum[C];
    for (int64_t c = 0; c < C; ++c) sum[c] = kHalf;
    const uint8_t* value = from + tap.first * C;
    for (const int32_t weight : tap.weights)
      for (int64_t c = 0; c < C; ++c) sum[c] += weight * *value++;
    for (int64_t c = 0; c < C; ++c) *out++ = to_byte(sum[c]);
  }
}

// Resizes to rh x rw and cuts h x w out of the middle; only what is cut out is computed.
void resize_and_crop(const Pixels& from, int64_t rh, int64_t rw, int64_t h, int64_t w, uint8_t* out) {
  const std::vector<Tap> across = make_taps(from.w, rw, (rw - w) / 2, w);
  const std::vector<Tap> down = make_taps(from.h, rh, (rh - h) / 2, h);
  const int64_t top = down.front().first;
  const int64_t bottom = down.back().first + static_cast<int64_t>(down.back().weights.size());
  const size_t row = static_cast<size_t>(w * from.c);
  std::vector<uint8_t> narrow(static_cast<size_t>(bottom - top) * row);
  for (int64_t y = top; y < bottom; ++y) {
    const uint8_t* source = from.data.data() + y * from.w * from.c;
    uint8_t* target = narrow.data() + static_cast<size_t>(y - top) * row;
    from.c == 1 ? resize_row<1>(source, across, target) : resize_row<3>(source, across, target);
  }
  std::vector<int32_t> sums(row);
  for (const Tap& tap : down) {
    std::fill(sums.begin(), sums.end(), kHalf);
    const uint8_t* source = narrow.data() + static_cast<size_t>(tap.first - top) * row;
    for (const int32_t weight : tap.weights) {
      for (size_t i = 0; i < row; ++i) sums[i] += weight * source[i];
      source += row;
    }
    for (size_t i = 0; i < row; ++i) *out++ = to_byte(sums[i]);
  }
}

void convert_channels(const std::vector<uint8_t>& from, int64_t from_c, int64_t to_c, uint8_t* out) {
  CONVOY_CHECK((from_c == 1 && to_c == 3) || (from_c == 3 && to_c == 1), from_c, " channels to ", to_c);
  for (size_t i = 0; i < from.size(); i += static_cast<size_t>(from_c)) {
    const uint8_t* p = from.data() + i;
    if (from_c == 1) {
      for (int c = 0; c < 3; ++c) *out++ = p[0];
    } else {
      *out++ = static_cast<uint8_t>((299 * p[0] + 587 * p[1] + 114 * p[2] + 500) / 1000);  // ITU-R 601
    }
  }
}

}  // namespace

void fit_image(const Pixels& from, const Input& image, uint8_t* out) {
  if (from.c != image.c) {
    Input same = image;
    same.c = from.c;
    std::vector<uint8_t> fitted(static_cast<size_t>(image.h * image.w * from.c));
    fit_image(from, same, fitted.data());
    convert_channels(fitted, from.c, image.c, out);
    return;
  }
  if (from.h == image.h && from.w == image.w) {
    std::memcpy(out, from.data.data(), from.data.size());
    return;
  }
  const int64_t cover_h = image.h * 256 / 224, cover_w = image.w * 256 / 224;
  if (cover_h * from.w >= cover_w * from.h)
    resize_and_crop(from, cover_h, std::max(cover_w, from.w * cover_h / from.h), image.h, image.w, out);
  else
    resize_and_crop(from, std::max(cover_h, from.h * cover_w / from.w), cover_w, image.h, image.w, out);
}

}  // namespace convoy
