#include "kernels/batchnorm.h"

#include <cmath>

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {
namespace {

constexpr int64_t kHalf = kLanes / 2;
constexpr int64_t kBlock = 256;  // channels whose factors are at hand at a time

// x as pixels of C channels, cut into chunks: by the shape alone.
struct Pixels {
  int64_t C, count, per_chunk, chunks;

  Pixels(const Shape& x, int64_t most_chunks) : C(x[x.rank - 1]), count(C == 0 ? 0 : x.count() / C) {
    chunks = smaller(most_chunks, larger(1, smaller(count / 16, count * C / 32768)));
    per_chunk = divide_up(count, chunks);
    chunks = divide_up(count, larger(1, per_chunk));
  }
};
constexpr int64_t kSumChunks = 64;

Pixels checked_pixels(const In& x, int64_t most_chunks) {
  CONVOY_CHECK(x.shape.rank == 2 || x.shape.rank == 4, "x is ", x.shape, ", expected N x C or N x H x W x C");
  return Pixels(x.shape, most_chunks);
}

// Channels one at a time (float), or half a vector of them: the other half of the register is for their
// doubles.
double widen(float v) {
  return v;
}
Doubles widen(HalfFloats v) {
  return __builtin_convertvector(v, Doubles);
}

// sums[0..C) += the first of terms(i, c)'s two values over a chunk's pixels, sums[C..2C) += the second: in
// double, in registers, J vectors of channels at a time.
template <class T, class D, int64_t J, class Terms>
void sum_block(const Terms& terms, int64_t C, int64_t c, int64_t first, int64_t last, double* sums) {
  constexpr int64_t kStep = static_cast<int64_t>(sizeof(T) / sizeof(float));
  D a[J] = {}, b[J] = {};
  for (int64_t i = first; i < last; ++i)
    for (int64_t j = 0; j < J; ++j) terms.template add<T>(i * C + c + j * kStep, c + j * kStep, a[j], b[j]);
  for (int64_t j = 0; j < J; ++j) {
    put(sums + c + j * kStep, a[j]);
    put(sums + C + c + j * kStep, b[j]);
  }
}
template <class Terms>
void sum_chunks(Exec& ex, const Pixels& px, int64_t work, double* sums, const Terms& terms) {
  constexpr int64_t kWide =
      CONVOY_VECTOR_BYTES == 64 ? 8 : 4;  // 2 · kWide accumulators in 32 or 16 registers
  for_items(ex, px.chunks, work, [&](int64_t chunk) {
    const int64_t first = chunk * px.per_chunk, last = smaller(px.count, first + px.per_chunk);
    double* out = sums + chunk * 2 * px.C;
    int64_t c = 0;
    for (; c + kWide * kHalf <= px.C; c += kWide * kHalf)
      sum_block<HalfFloats, Doubles, kWide>(terms, px.C, c, first, last, out);
    for (; c + kHalf <= px.C; c += kHalf) sum_block<HalfFloats, Doubles, 1>(terms, px.C, c, first, last, out);
    for (; c < px.C; ++c) sum_block<float, double, 1>(terms, px.C, c, first, last, out);
  });
  if (px.chunks == 0)
    for (int64_t i = 0; i < 2 * px.C; ++i) sums[i] = 0;
  for (int64_t chunk = 1; chunk < px.chunks; ++chunk)
    for (int64_t i = 0; i < 2 * px.C; ++i) sums[i] += sums[chunk * 2 * px.C + i];
}
Support sum_scratch(const Shape& x) {
  const Pixels px(x, kSumChunks);
  return {true, larger(1, px.chunks) * 2 * px.C * static_cast<int64_t>(sizeof(double))};
}

struct Moments {
  const float* x;
  template <class T, class D>
  void add(int64_t i, int64_t, D& sum, D& squares) const {
    const D v = widen(get<T>(x + i));
    sum += v;
    squares += v * v;  // exact: a square of floats fits in a double
  }
};

struct GradientTerms {
  const float *x, *dy, *mean, *mask;
  template <class T, class D>
  void add(int64_t i, int64_t c, D& sum, D& product) const {
    T d = get<T>(dy + i);
    if (mask != nullptr) d = get<T>(mask + i) <= T{} ? T{} : d;
    const D wide = widen(d);
    sum += wide;
    product += wide * widen(get<T>(x + i) - get<T>(mean + c));
  }
};

float inverse_std(float m2, float count, float eps) {
  return 1.0f / __builtin_sqrtf(m2 / count + eps);
}

// factors(c, last) prepares the channels from c on, pixel(i) computes the elements from i = pixel · C + c on.
template <class Prepare, class Apply>
void for_pixels(Exec& ex, const Pixels& px, int64_t work, const Prepare& prepare, const Apply& apply) {
  for_items(ex, px.chunks, work, [&](int64_t chunk) {
    const int64_t first = chunk * px.per_chunk, last = smaller(px.count, first + px.per_chunk);
    for (int64_t c = 0; c < px.C; c += kBlock) {
      const int64_t channels = smaller(kBlock, px.C - c);
      const auto factors = prepare(c, channels);
      for (int64_t i = first; i < last; ++i) apply(factors, i * px.C + c, channels);
    }
  });
}
constexpr int64_t kAnyChunks = int64_t{1} << 40;

}  // namespace

Support query(const BatchNormStatistics& a, int) {
  return sum_scratch(a.x.shape);
}

void batchnorm_statistics(Exec& ex, const BatchNormStatistics& a) {
  const Pixels px = checked_pixels(a.x, kSumChunks);
  const Shape channels{px.C};
  float* mean = output(a.mean, channels, "mean");
  float* m2 = output(a.m2, channels, "m2");
  double* sums = static_cast<double*>(scratch(ex, query(a, ex.threads).scratch_bytes));
  sum_chunks(ex, px, a.x.count(), sums, Moments{input(a.x, a.x.shape, "x")});
  const double count = static_cast<double>(larger(1, px.count));
  for (int64_t c = 0; c < px.C; ++c) {
    const double squares = sums[px.C + c] - sums[c] * sums[c] / count;
    mean[c] = static_cast<float>(sums[c] / count);
    m2[c] = squares < 0 ? 0.0f : static_cast<float>(squares);
  }
}

void batchnorm_merge(Exec&, const BatchNormMerge& a) {
  CONVOY_CHECK(a.counts != nullptr, "no counts");
  const Shape& channels = a.mean.shape;
  const int64_t C = channels.count(), workers = static_cast<int64_t>(a.counts->size());
  const float* all = input(a.all, Shape{workers, 2 * C}, "all");
  float* mean = output(a.mean, channels, "mean");
  float* m2 = output(a.m2, channels, "m2");
  for (const int64_t count : *a.counts) CONVOY_CHECK(count >= 0, "count ", count);
  for (int64_t c = 0; c < C; ++c) {
    double merged_mean = 0, merged_m2 = 0, elements = 0;
    for (int64_t worker = 0; worker < workers; ++worker) {
      const double own = static_cast<double>((*a.counts)[static_cast<size_t>(worker)]),
                   own_mean = all[worker * 2 * C + c], own_m2 = all[worker * 2 * C + C + c];
      if (own > 0 && elements == 0) {  // as it is, -0 and infinity included
        merged_mean = own_mean;
        merged_m2 = own_m2;
      } else if (own > 0) {
        const double delta = own_mean - merged_mean, share = own / (elements + own);
        merged_mean += delta * share;
        merged_m2 += own_m2 + delta * delta * elements * share;
      }
      elements += own;
    }
    mean[c] = static_cast<float>(merged_mean);
    m2[c] = static_cast<float>(merged_m2);
  }
}

namespace {

struct ForwardFactors {
  float mean[kBlock], scale[kBlock], beta[kBlock];
};
template <bool has_residual, bool relu>
void forward(Exec& ex, const BatchNormForward& a, const Pixels& px) {
  const Shape channels{px.C};
  const float* x = input(a.x, a.x.shape, "x");
  const float* mean = input(a.mean, channels, "mean");
  const float* m2 = input(a.m2, channels, "m2");
  const float* gamma = input(a.gamma, channels, "gamma");
  const float* beta = input(a.beta, channels, "beta");
  const float* residual = has_residual ? input(a.residual, a.x.shape, "residual") : nullptr;
  float* y = output(a.y, a.x.shape, "y");
  const float count = static_cast<float>(a.count), eps = a.eps;
  for_pixels(
      ex, px, a.x.count(),
      [=](int64_t from, int64_t n) {
        ForwardFactors f;
        for (int64_t c = 0; c < n; ++c) {
          f.mean[c] = mean[from + c];
          f.scale[c] = gamma[from + c] * inverse_std(m2[from + c], count, eps);
          f.beta[c] = beta[from + c];
        }
        return f;
      },
      [=](const ForwardFactors& f, int64_t i, int64_t n) {
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) {
          float v = (x[i + c] - f.mean[c]) * f.scale[c] + f.beta[c];
          if (has_residual) v += residual[i + c];
          y[i + c] = relu && v < 0 ? 0.0f : v;
        }
      });
}

}  // namespace

void batchnorm_forward(Exec& ex, const BatchNormForward& a) {
  const Pixels px = checked_pixels(a.x, kAnyChunks);
  CONVOY_CHECK(a.count >= 1, "count ", a.count);
  if (a.residual.empty()) {
    a.relu ? forward<false, true>(ex, a, px) : forward<false, false>(ex, a, px);
  } else {
    a.relu ? forward<true, true>(ex, a, px) : forward<true, false>(ex, a, px);
  }
}

Support query(const BatchNormBackwardSums& a, int) {
  return sum_scratch(a.x.shape);
}

void batchnorm_backward_sums(Exec& ex, const BatchNormBackwardSums& a) {
  const Pixels px = checked_pixels(a.x, kSumChunks);
  const Shape channels{px.C};
  CONVOY_CHECK(a.count >= 1, "count ", a.count);
  const float* m2 = input(a.m2, channels, "m2");
  float* dgamma = output(a.dgamma, channels, "dgamma");
  float* dbeta = output(a.dbeta, channels, "dbeta");
  float* sums = output(a.sums, Shape{2 * px.C}, "sums");
  const GradientTerms terms{input(a.x, a.x.shape, "x"), input(a.dy, a.x.shape, "dy"),
                            input(a.mean, channels, "mean"),
                            a.mask.empty() ? nullptr : input(a.mask, a.x.shape, "mask")};
  double* partial = static_cast<double*>(scratch(ex, query(a, ex.threads).scratch_bytes));
  sum_chunks(ex, px, 2 * a.x.count(), partial, terms);
  for (int64_t c = 0; c < px.C; ++c) {
    const float inv_std = inverse_std(m2[c], static_cast<float>(a.count), a.eps);
    sums[c] = static_cast<float>(partial[c]);
    sums[px.C + c] = static_cast<float>(partial[px.C + c] * inv_std);
    dbeta[c] = a.overwrite ? sums[c] : dbeta[c] + sums[c];
    dgamma[c] = a.overwrite ? sums[px.C + c] : dgamma[c] + sums[px.C + c];
  }
}

namespace {

struct BackwardFactors {
  float mean[kBlock], scale[kBlock], offset[kBlock], slope[kBlock];
};
template <bool has_mask, bool has_residual>
void backward(Exec& ex, const BatchNormBackwardData& a, const Pixels& px) {
  const Shape channels{px.C};
  const float* x = input(a.x, a.x.shape, "x");
  const float* dy = input(a.dy, a.x.shape, "dy");
  const float* mean = input(a.mean, channels, "mean");
  const float* m2 = input(a.m2, channels, "m2");
  const float* gamma = input(a.gamma, channels, "gamma");
  const float* sums = input(a.sums, Shape{2 * px.C}, "sums");
  const float* mask = has_mask ? input(a.mask, a.x.shape, "mask") : nullptr;
  float* dx = output(a.dx, a.x.shape, "dx");
  float* dresidual = has_residual ? output(a.dresidual, a.x.shape, "dresidual") : nullptr;
  const float count = static_cast<float>(a.count), eps = a.eps;
  const int64_t C = px.C;
  for_pixels(
      ex, px, 2 * a.x.count(),
      [=](int64_t from, int64_t n) {
        BackwardFactors f;
        for (int64_t c = 0; c < n; ++c) {
          const float inv_std = inverse_std(m2[from + c], count, eps);
          f.mean[c] = mean[from + c];
          f.scale[c] = gamma[from + c] * inv_std;
          f.offset[c] = sums[from + c] / count;
          f.slope[c] = sums[C + from + c] / count * inv_std;
        }
        return f;
      },
      [=](const BackwardFactors& f, int64_t i, int64_t n) {
#pragma omp simd
        for (int64_t c = 0; c < n; ++c) {
          float d = dy[i + c];
          if (has_mask) d = mask[i + c] <= 0 ? 0.0f : d;
          if (has_residual) dresidual[i + c] = d;
          dx[i + c] = f.scale[c] * (d - f.offset[c] - (x[i + c] - f.mean[c]) * f.slope[c]);
        }
      });
}

}  // namespace

void batchnorm_backward_data(Exec& ex, const BatchNormBackwardData& a) {
  const Pixels px = checked_pixels(a.x, kAnyChunks);
  CONVOY_CHECK(a.count >= 1, "count ", a.count);
  if (a.mask.empty()) {
    a.dresidual.empty() ? backward<false, false>(ex, a, px) : backward<false, true>(ex, a, px);
  } else {
    a.dresidual.empty() ? backward<true, false>(ex, a, px) : backward<true, true>(ex, a, px);
  }
}

void batchnorm_running(Exec&, const BatchNormRunning& a) {
  const Shape& channels = a.mean.shape;
  const float* mean = input(a.mean, channels, "mean");
  const float* m2 = input(a.m2, channels, "m2");
  float* running_mean = output(a.running_mean, channels, "running_mean");
  float* running_var = output(a.running_var, channels, "running_var");
  // One element has no unbiased variance: as in PyTorch's kernels the division by zero shows.
  const float unbiased = static_cast<float>(a.count - 1), keep = 1 - a.momentum;
  for (int64_t c = 0; c < channels.count(); ++c) {
    running_mean[c] = keep * running_mean[c] + a.momentum * mean[c];
    running_var[c] = keep * running_var[c] + a.momentum * (m2[c] / unbiased);
  }
}

}  // namespace convoy::CONVOY_CPU
