#include "kernels/normalize.h"

#include "convoy/philox.h"
#include "kernels/each.h"

namespace convoy::CONVOY_CPU {
namespace {

constexpr int64_t kPeriod = 512;  // elements of the repeated pattern of scales; more channels go one by one
constexpr int64_t kLine = 512;    // bytes of mirrored pixels at a time

// y = pixel · scale[c] - shift[c], the pattern repeated to whole vectors where the channels are few.
struct Channels {
  int64_t period = 0;
  float scale[kPeriod], shift[kPeriod];
  const float *mean, *stddev;
  int64_t C;

  Channels(const float* m, const float* s, int64_t channels) : mean(m), stddev(s), C(channels) {
    period = C * kLanes <= kPeriod ? C * kLanes : 0;
    for (int64_t i = 0; i < period; ++i) {
      scale[i] = scale_of(i % C);
      shift[i] = shift_of(i % C);
    }
  }
  float scale_of(int64_t c) const { return 1.0f / (255.0f * stddev[c]); }
  float shift_of(int64_t c) const { return mean[c] / stddev[c]; }

  // count elements, the first of channel 0.
  void convert(const uint8_t* pixels, int64_t count, float* y) const {
    if (period == 0) {
      for (int64_t i = 0; i < count; ++i)
        y[i] = static_cast<float>(pixels[i]) * scale_of(i % C) - shift_of(i % C);
      return;
    }
    for (int64_t i = 0; i < count; i += period) {
      const int64_t span = smaller(period, count - i);
#pragma omp simd
      for (int64_t j = 0; j < span; ++j) y[i + j] = static_cast<float>(pixels[i + j]) * scale[j] - shift[j];
    }
  }
};

struct Move {
  int64_t dh = 0, dw = 0;
  bool flipped = false;
};

Move move_of(const NormalizeArgs& a, const int32_t* index, int64_t n) {
  Move m;
  if (index == nullptr) return m;
  const Philox4 v = philox(a.augmentation.seed, 0, static_cast<uint32_t>(index[n]),
                           static_cast<uint32_t>(a.scalars->epoch), kAugmentStream);
  const uint32_t places = static_cast<uint32_t>(2 * a.augmentation.pad + 1);
  m.dh = static_cast<int64_t>(v.v[0] % places) - a.augmentation.pad;
  m.dw = static_cast<int64_t>(v.v[1] % places) - a.augmentation.pad;
  m.flipped = a.augmentation.flip && v.v[2] % 2 == 1;
  return m;
}

// The pixels from, from - 1, ... of a line, in that order.
void convert_mirrored(const Channels& channels, const uint8_t* line, int64_t from, int64_t count, float* y) {
  const int64_t C = channels.C;
  if (C > kLine) {
    for (int64_t i = 0; i < count; ++i) channels.convert(line + (from - i) * C, C, y + i * C);
    return;
  }
  uint8_t mirrored[kLine];
  const int64_t most = kLine / C;
  for (int64_t done = 0; done < count; done += most) {
    const int64_t now = smaller(most, count - done);
    for (int64_t i = 0; i < now; ++i)
      for (int64_t c = 0; c < C; ++c) mirrored[i * C + c] = line[(from - done - i) * C + c];
    channels.convert(mirrored, now * C, y + done * C);
  }
}

}  // namespace

void normalize(Exec& ex, const NormalizeArgs& a) {
  const Shape& shape = a.pixels.shape;
  CONVOY_CHECK(shape.rank == 4, "pixels are ", shape, ", expected N x H x W x C");
  const int64_t N = shape[0], H = shape[1], W = shape[2], C = shape[3];
  check_operand(a.pixels, shape, "pixels");
  const uint8_t* pixels = a.pixels.as<uint8_t>();
  const Channels channels(input(a.mean, Shape{C}, "mean"), input(a.stddev, Shape{C}, "stddev"), C);
  float* y = output(a.y, shape, "y");
  const int32_t* index = nullptr;
  CONVOY_CHECK(a.augmentation.pad >= 0, "pad ", a.augmentation.pad);
  if (a.augmentation.pad > 0 || a.augmentation.flip) {
    CONVOY_CHECK(a.scalars != nullptr, "augmentation without scalars");
    check_operand(a.index, Shape{N}, "index");
    index = a.index.as<int32_t>();
  }
  for_items(ex, N, a.y.count(), [&](int64_t n) {
    const Move m = move_of(a, index, n);
    const uint8_t* image = pixels + n * H * W * C;
    float* out = y + n * H * W * C;
    if (index == nullptr) {
      channels.convert(image, H * W * C, out);
      return;
    }
    // w' = w + dw, or W - 1 - w + dw, lies inside for w in [first, last).
    const int64_t first = smaller(W, larger(0, m.flipped ? m.dw : -m.dw));
    const int64_t last = larger(first, smaller(W, m.flipped ? W + m.dw : W - m.dw));
    for (int64_t h = 0; h < H; ++h) {
      const int64_t from = h + m.dh;
      float* line = out + h * W * C;
      const bool outside = from < 0 || from >= H;
      const int64_t left = outside ? W : first;
      for (int64_t i = 0; i < left * C; ++i) line[i] = 0;
      if (outside) continue;
      const uint8_t* source = image + from * W * C;
      if (m.flipped) {
        convert_mirrored(channels, source, W - 1 - first + m.dw, last - first, line + first * C);
      } else {
        channels.convert(source + (first + m.dw) * C, (last - first) * C, line + first * C);
      }
      for (int64_t i = last * C; i < W * C; ++i) line[i] = 0;
    }
  });
}

}  // namespace convoy::CONVOY_CPU
