#include "kernels/lrn.h"

#include <cmath>

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {
namespace {

constexpr int64_t kPixels = 64;  // per item

// base^-beta. The networks' beta of 0.75 needs no powf.
struct Power {
  float beta;
  float operator()(float base) const { return powf(base, -beta); }
};
struct ThreeQuarters {
  float operator()(float base) const {
    const float root = __builtin_sqrtf(base);
    return 1.0f / (root * __builtin_sqrtf(root));
  }
};

// The channels [first, last) that output channel c sums over: `before` below it, `after` above.
struct Reach {
  int64_t before, after, channels;
  int64_t first(int64_t c) const { return larger(0, c - before); }
  int64_t last(int64_t c) const { return smaller(channels, c + after + 1); }
};

// sum over the window of f(c'), recomputed for each channel: a running sum would lose digits. The channels
// whose window is whole are the vectorised middle.
template <class F>
void window_sums(const Reach& reach, int64_t begin, int64_t end, float* sums, const F& f) {
  const int64_t from = larger(begin, smaller(reach.before, end));
  const int64_t to = larger(from, smaller(end, reach.channels - reach.after));
  const auto edge = [&](int64_t c) {
    float sum = 0;
    for (int64_t i = reach.first(c); i < reach.last(c); ++i) sum += f(i);
    sums[c - begin] = sum;
  };
  for (int64_t c = begin; c < from; ++c) edge(c);
  for (int64_t c = from; c < to; ++c) sums[c - begin] = 0;
  for (int64_t shift = -reach.before; shift <= reach.after; ++shift) {
#pragma omp simd
    for (int64_t c = from; c < to; ++c) sums[c - begin] += f(c + shift);
  }
  for (int64_t c = to; c < end; ++c) edge(c);
}

constexpr int64_t kBlock = 256;  // channels at a time

template <class Scale>
void forward(Exec& ex, const LrnForward& a, const float* x, float* y, Scale power) {
  const int64_t C = a.x.shape[3], pixels = a.x.count() / larger(C, 1);
  const Reach reach{a.lrn.window / 2, (a.lrn.window - 1) / 2, C};
  const float alpha = a.lrn.alpha / static_cast<float>(a.lrn.window), k = a.lrn.k;
  for_items(ex, divide_up(pixels, kPixels), a.x.count(), [&](int64_t item) {
    float sums[kBlock];
    for (int64_t i = item * kPixels; i < smaller(pixels, (item + 1) * kPixels); ++i)
      for (int64_t begin = 0; begin < C; begin += kBlock) {
        const int64_t end = smaller(C, begin + kBlock);
        const float* from = x + i * C;
        float* to = y + i * C;
        window_sums(reach, begin, end, sums, [=](int64_t c) { return from[c] * from[c]; });
#pragma omp simd
        for (int64_t c = begin; c < end; ++c) to[c] = from[c] * power(k + alpha * sums[c - begin]);
      }
  });
}

// With s[c] = k + alpha/size · sum of x²:  dx[j] = dy[j] · s[j]^-beta
//   - 2 · alpha/size · beta · x[j] · sum over the c whose window holds j of dy[c] · x[c] · s[c]^(-beta - 1).
template <class Scale>
void backward(Exec& ex, const LrnBackward& a, const float* x, const float* dy, float* dx, Scale power) {
  const int64_t C = a.x.shape[3], pixels = a.x.count() / larger(C, 1);
  const Reach reach{a.lrn.window / 2, (a.lrn.window - 1) / 2, C};
  const Reach reverse{reach.after, reach.before, C};
  const float alpha = a.lrn.alpha / static_cast<float>(a.lrn.window), k = a.lrn.k;
  const float factor = 2 * alpha * a.lrn.beta;
  for_items(ex, divide_up(pixels, kPixels), 2 * a.x.count(), [&](int64_t item) {
    float sums[kBlock], terms[2 * kBlock];
    for (int64_t i = item * kPixels; i < smaller(pixels, (item + 1) * kPixels); ++i)
      for (int64_t begin = 0; begin < C; begin += kBlock) {
        const int64_t end = smaller(C, begin + kBlock);
        const float *in = x + i * C, *grad = dy + i * C;
        float* out = dx + i * C;
        // The terms of the channels that this block's channels hear from, then their sums; by blocks, so that
        // the arrays have a fixed extent: a window wider than a block is refused.
        const int64_t low = reverse.first(begin), high = reverse.last(end - 1);
        const auto square = [=](int64_t c) { return in[c] * in[c]; };
        for (int64_t part = low; part < high; part += kBlock) {
          const int64_t stop = smaller(high, part + kBlock);
          window_sums(reach, part, stop, sums, square);
#pragma omp simd
          for (int64_t c = part; c < stop; ++c) {
            const float s = k + alpha * sums[c - part], scale = power(s);
            terms[c - low] = grad[c] * in[c] * (scale / s);
            if (c >= begin && c < end) out[c] = grad[c] * scale;
          }
        }
        window_sums(reverse, begin, end, sums, [=, t = terms - low](int64_t c) { return t[c]; });
#pragma omp simd
        for (int64_t c = begin; c < end; ++c) out[c] -= factor * in[c] * sums[c - begin];
      }
  });
}

void check(const LrnWindow& lrn, const Shape& x) {
  CONVOY_CHECK(x.rank == 4, "x is ", x, ", expected N x H x W x C");
  CONVOY_CHECK(lrn.window >= 1 && lrn.window <= kBlock, "window ", lrn.window, ", expected 1 to ", kBlock);
}

}  // namespace

void lrn_forward(Exec& ex, const LrnForward& a) {
  check(a.lrn, a.x.shape);
  const float* x = input(a.x, a.x.shape, "x");
  float* y = output(a.y, a.x.shape, "y");
  if (a.lrn.beta == 0.75f) {
    forward(ex, a, x, y, ThreeQuarters{});
  } else {
    forward(ex, a, x, y, Power{a.lrn.beta});
  }
}

void lrn_backward(Exec& ex, const LrnBackward& a) {
  check(a.lrn, a.x.shape);
  const float* x = input(a.x, a.x.shape, "x");
  const float* dy = input(a.dy, a.x.shape, "dy");
  float* dx = output(a.dx, a.x.shape, "dx");
  if (a.lrn.beta == 0.75f) {
    backward(ex, a, x, dy, dx, ThreeQuarters{});
  } else {
    backward(ex, a, x, dy, dx, Power{a.lrn.beta});
  }
}

}  // namespace convoy::CONVOY_CPU
