#include "kernels/sgd.h"

#include <cmath>

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {
namespace {

constexpr int64_t kSumChunk = 16384;

// What every gradient sum is multiplied by: the mean over the rows, clipped to the norm.
float gradient_factor(const StepScalars& s, float clip_norm, const In& sum_of_squares) {
  if (sum_of_squares.empty()) return s.gradient_scale;
  const double norm =
      s.gradient_scale * std::sqrt(static_cast<double>(*input(sum_of_squares, Shape{1}, "sum_of_squares")));
  const double clip = clip_norm / (norm + 1e-6);
  return static_cast<float>(clip < 1 || std::isnan(clip) ? s.gradient_scale * clip : s.gradient_scale);
}

// Four vectors of partial sums hide the latency of an addition.
double sum_squares(const float* x, int64_t count) {
  constexpr int64_t kHalf = kLanes / 2;
  Doubles sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kHalf <= count; i += 4 * kHalf)
    for (int64_t j = 0; j < 4; ++j) {
      const Doubles v = __builtin_convertvector(get<HalfFloats>(x + i + j * kHalf), Doubles);
      sums[j] += v * v;
    }
  const Doubles all = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  double total = 0;
  for (int64_t j = 0; j < kHalf; ++j) total += all[j];
  for (; i < count; ++i) total += static_cast<double>(x[i]) * x[i];
  return total;
}

template <class Args>
void check_f32_alone(const Args& a) {
  CONVOY_CHECK(a.low.empty(), "low is for CUDA: the CPU's operations read w itself");
  CONVOY_CHECK(a.skip.empty(), "skip is for CUDA: who calls the CPU's operations knows whether to");
}

template <bool nesterov>
void momentum_update(Exec& ex, const SgdUpdate& a, float factor, float* w, const float* g, float* v) {
  const float lr = a.scalars->lr, momentum = a.momentum, decay = a.weight_decay;
  for_chunks(ex, a.w.count(), [&](int64_t first, int64_t last) {
#pragma omp simd
    for (int64_t i = first; i < last; ++i) {
      const float grad = g[i] * factor + decay * w[i];
      const float velocity = momentum * v[i] + grad;
      v[i] = velocity;
      w[i] -= lr * (nesterov ? grad + momentum * velocity : velocity);
    }
  });
}

}  // namespace

void sgd_update(Exec& ex, const SgdUpdate& a) {
  CONVOY_CHECK(a.scalars != nullptr, "no scalars");
  check_f32_alone(a);
  float* w = output(a.w, a.w.shape, "w");
  const float* g = input(a.g, a.w.shape, "g");
  const float factor = gradient_factor(*a.scalars, a.clip_norm, a.sum_of_squares);
  if (!a.velocity.empty()) {
    float* v = output(a.velocity, a.w.shape, "velocity");
    if (a.nesterov) {
      momentum_update<true>(ex, a, factor, w, g, v);
    } else {
      momentum_update<false>(ex, a, factor, w, g, v);
    }
    return;
  }
  CONVOY_CHECK(a.momentum == 0, "momentum ", a.momentum, " without a velocity");
  const float lr = a.scalars->lr, decay = a.weight_decay;
  map(ex, a.w.count(), w, w, g, [=](float u, float d) { return u - lr * (d * factor + decay * u); });
}

void adamw_update(Exec& ex, const AdamwUpdate& a) {
  CONVOY_CHECK(a.scalars != nullptr, "no scalars");
  check_f32_alone(a);
  float* w = output(a.w, a.w.shape, "w");
  const float* g = input(a.g, a.w.shape, "g");
  float* m = output(a.m, a.w.shape, "m");
  float* v = output(a.v, a.w.shape, "v");
  const float factor = gradient_factor(*a.scalars, a.clip_norm, a.sum_of_squares);
  const double t = static_cast<double>(a.scalars->update + 1);
  const double lr = a.scalars->lr;
  // The bias corrections as factors of the two places where m and v are used, in double: 1 - b2^t loses
  // digits in float.
  const float step = static_cast<float>(lr / (1 - std::pow(static_cast<double>(a.beta1), t)));
  const float root = static_cast<float>(1 / std::sqrt(1 - std::pow(static_cast<double>(a.beta2), t)));
  const float keep = static_cast<float>(1 - lr * a.weight_decay);
  const float b1 = a.beta1, b2 = a.beta2, eps = a.eps;
  const float c1 = static_cast<float>(1 - static_cast<double>(b1)),
              c2 = static_cast<float>(1 - static_cast<double>(b2));
  for_chunks(ex, a.w.count(), [&](int64_t first, int64_t last) {
#pragma omp simd
    for (int64_t i = first; i < last; ++i) {
      const float grad = g[i] * factor;
      m[i] = b1 * m[i] + c1 * grad;
      v[i] = b2 * v[i] + c2 * grad * grad;
      w[i] = keep * w[i] - step * m[i] / (__builtin_sqrtf(v[i]) * root + eps);
    }
  });
}

Support query(const SumOfSquares& a, int) {
  return {true, divide_up(a.x.count(), kSumChunk) * 8};
}

void sum_of_squares(Exec& ex, const SumOfSquares& a) {
  const float* x = input(a.x, a.x.shape, "x");
  float* out = output(a.out, Shape{1}, "out");
  const int64_t count = a.x.count(), chunks = divide_up(count, kSumChunk);
  double* sums = static_cast<double*>(scratch(ex, query(a, ex.threads).scratch_bytes));
  for_items(ex, chunks, count, [&](int64_t chunk) {
    const int64_t first = chunk * kSumChunk;
    sums[chunk] = sum_squares(x + first, smaller(kSumChunk, count - first));
  });
  double total = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) total += sums[chunk];
  *out = static_cast<float>(total);
}

}  // namespace convoy::CONVOY_CPU
