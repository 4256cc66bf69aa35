#include <climits>

#include "kernels/each.cuh"
#include "kernels/lrn.h"

namespace convoy::cuda {
namespace {

constexpr int kMostWindow = 256, kChannels = 1024;  // of a block, where a pixel has more
constexpr int kTile = 2048;                         // channels, and pixels times channels, that a block holds
static_assert(kChannels + 2 * (kMostWindow - 1) <= kTile, "a block holds the neighbours' neighbours too");

// base^-beta. The networks' beta of 0.75 needs no powf.
struct Power {
  float beta;
  __device__ float operator()(float base) const { return powf(base, -beta); }
};
struct ThreeQuarters {
  __device__ float operator()(float base) const {
    const float root = sqrtf(base);
    return 1.0f / (root * sqrtf(root));
  }
};

struct Lrn {
  int channels, before, after;  // output channel c sums over [c - before, c + after]
  float alpha, k, factor;       // alpha: divided by the window
  int pixels, parts;            // a block's pixels, and how many blocks share the channels of a pixel
  int64_t all_pixels;
};

// [first, last) of the channels, clipped to those that there are.
struct Span {
  int first, last;
  __device__ Span(const Lrn& a, int from, int to)
      : first(from > 0 ? from : 0), last(to < a.channels ? to : a.channels) {}
  __device__ int width() const { return last - first; }
};

// Over the span's channels; the first that `row` holds is `origin`.
__device__ float sum(const float* row, int origin, const Span& span) {
  float total = 0;
  for (int c = span.first; c < span.last; ++c) total += row[c - origin];
  return total;
}

// dy null: forward, y = x · s^-beta. Else backward, with s = k + alpha · sum of x²:
//   dx[j] = dy[j] · s[j]^-beta - factor · x[j] · sum over the c whose window holds j of dy[c] · x[c] · s[c]^(-beta - 1).
template <class T, class Scale>
__global__ void __launch_bounds__(kEachThreads)
    lrn_kernel(Lrn a, Scale power, const T* x, const T* dy, T* y) {
  CONVOY_SHARED(float, squares, [kTile]);
  CONVOY_SHARED(float, terms, [kTile]);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t first_pixel = int64_t{blockIdx.x} / a.parts * a.pixels;
  const int64_t left = a.all_pixels - first_pixel;
  const int pixels = left < a.pixels ? static_cast<int>(left) : a.pixels;
  const int begin = static_cast<int>(blockIdx.x % a.parts) * kChannels;
  const bool backward = dy != nullptr;
  const int reach = a.before + a.after;
  // What this block writes, whose terms that needs, and whose squares those need.
  const Span own(a, begin, begin + (a.parts == 1 ? a.channels : kChannels));
  const Span sent(a, own.first - a.after, own.last + a.before);
  const Span seen(a, own.first - reach, own.last + reach);
  const auto f = [&](const T* from, int pixel, int c) {
    return static_cast<float>(from[(first_pixel + pixel) * a.channels + c]);
  };
  const auto base = [&](int pixel, int c) {
    const float* row = squares + pixel * seen.width();
    return a.k + a.alpha * sum(row, seen.first, Span(a, c - a.before, c + a.after + 1));
  };

  for (int i = thread; i < pixels * seen.width(); i += kEachThreads) {
    const float v = f(x, i / seen.width(), seen.first + i % seen.width());
    squares[i] = v * v;
  }
  __syncthreads();
  if (backward) {
    for (int i = thread; i < pixels * sent.width(); i += kEachThreads) {
      const int pixel = i / sent.width(), c = sent.first + i % sent.width();
      const float s = base(pixel, c);
      terms[i] = f(dy, pixel, c) * f(x, pixel, c) * (power(s) / s);
    }
    __syncthreads();
  }
  for (int i = thread; i < pixels * own.width(); i += kEachThreads) {
    const int pixel = i / own.width(), c = own.first + i % own.width();
    const float v = f(x, pixel, c), scale = power(base(pixel, c));
    float result = v * scale;
    if (backward) {
      const float* row = terms + pixel * sent.width();
      const Span heard(a, c - a.after, c + a.before + 1);
      result = f(dy, pixel, c) * scale - a.factor * v * sum(row, sent.first, heard);
    }
    y[(first_pixel + pixel) * a.channels + c] = T(result);
  }
}

template <class T, class Scale>
void launch(Exec& ex, const LrnWindow& lrn, const Shape& shape, Scale power, const T* x, const T* dy, T* y) {
  if (shape.count() == 0) return;
  Lrn a{};
  a.channels = static_cast<int>(shape[3]);
  a.all_pixels = shape.count() / shape[3];
  a.before = static_cast<int>(lrn.window / 2);
  a.after = static_cast<int>((lrn.window - 1) / 2);
  a.alpha = lrn.alpha / static_cast<float>(lrn.window);
  a.k = lrn.k;
  a.factor = 2 * a.alpha * lrn.beta;
  a.pixels = a.channels <= kTile ? kTile / a.channels : 1;
  a.parts = a.channels <= kTile ? 1 : (a.channels + kChannels - 1) / kChannels;
  const int64_t blocks = (a.all_pixels + a.pixels - 1) / a.pixels * a.parts;
  CONVOY_CHECK(blocks <= INT_MAX, "x is ", shape, ": ", blocks, " blocks");
  CONVOY_LAUNCH((lrn_kernel<T, Scale>), dim3(static_cast<unsigned>(blocks)), dim3(kEachThreads), 0,
                stream(ex), a, power, x, dy, y);
  CONVOY_CUDA(cudaGetLastError());
}

template <class T>
void launch(Exec& ex, const LrnWindow& lrn, const Shape& shape, const T* x, const T* dy, T* y) {
  if (lrn.beta == 0.75f) {
    launch(ex, lrn, shape, ThreeQuarters{}, x, dy, y);
  } else {
    launch(ex, lrn, shape, Power{lrn.beta}, x, dy, y);
  }
}

void check(const LrnWindow& lrn, const Shape& x) {
  CONVOY_CHECK(x.rank == 4, "x is ", x, ", expected N x H x W x C");
  CONVOY_CHECK(x[3] < INT_MAX / 2, "x is ", x);
  CONVOY_CHECK(lrn.window >= 1 && lrn.window <= kMostWindow, "window ", lrn.window, ", expected 1 to ",
               kMostWindow);
}

}  // namespace

void lrn_forward(Exec& ex, const LrnForward& a) {
  check(a.lrn, a.x.shape);
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = operand<T>(a.x, a.x.shape, "x");
    launch<T>(ex, a.lrn, a.x.shape, x, nullptr, operand<T>(a.y, a.x.shape, "y"));
  });
}

void lrn_backward(Exec& ex, const LrnBackward& a) {
  check(a.lrn, a.x.shape);
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = operand<T>(a.x, a.x.shape, "x");
    const T* dy = operand<T>(a.dy, a.x.shape, "dy");
    launch<T>(ex, a.lrn, a.x.shape, x, dy, operand<T>(a.dx, a.x.shape, "dx"));
  });
}

}  // namespace convoy::cuda
