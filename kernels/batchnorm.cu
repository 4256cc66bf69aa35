#include "kernels/batchnorm.h"
#include "kernels/rows.cuh"

namespace convoy::cuda {
namespace {

// x as pixels of C channels.
struct Pixels {
  int64_t C, count;
  explicit Pixels(const Shape& x) : C(x[x.rank - 1]), count(C == 0 ? 0 : x.count() / C) {
    CONVOY_CHECK(x.rank == 2 || x.rank == 4, "x is ", x, ", expected N x C or N x H x W x C");
  }
  Shape channels() const { return Shape{C}; }
  RowsGrid grid(DType dtype) const {
    return RowsGrid(count, C, static_cast<int>(kVectorBytes / dtype_bytes(dtype)));
  }
};

template <class T>
constexpr int kVector = kVectorBytes / sizeof(T);

// Whether every pointer takes vectors of T, or of as many floats.
template <class T, class... Pointers>
bool vectorised(const RowsGrid& g, Pointers... pointers) {
  return g.width > 1 && aligned(kVectorBytes, pointers...);
}

__device__ __forceinline__ float inverse_std(float m2, float count, float eps) {
  return 1.0f / sqrtf(m2 / count + eps);
}

// ---- Statistics. A block of pixels is summed up about its first one, which keeps what the mean of the channel would
// take from the digits of the squares; blocks are merged about the mean of the first of them.
template <class T, int kColumns>
struct MomentTerms {
  static constexpr int kWidth = kColumns, kSums = 2;
  struct Factors {
    float center[kWidth];
  };
  const T* x;
  int64_t C;
  __device__ Factors prepare(int64_t first, int64_t c) const {
    Factors f;
    load_floats(x + first * C + c, f.center);
    return f;
  }
  __device__ void add(int64_t pixel, int64_t c, const Factors& f, float (&sums)[2][kWidth]) const {
    float v[kWidth];
    load_floats(x + pixel * C + c, v);
    for (int i = 0; i < kWidth; ++i) {
      const float d = v[i] - f.center[i];
      sums[0][i] += d;
      sums[1][i] += d * d;
    }
  }
  // The sums become the block's mean and its sum of squares about that.
  __device__ void finish(int64_t first, int64_t pixels, int64_t c, double (&sums)[2]) const {
    const double count = static_cast<double>(pixels), shift = sums[0] / count,
                 squares = sums[1] - sums[0] * shift;
    sums[0] = static_cast<double>(static_cast<float>(x[first * C + c])) + shift;
    sums[1] = squares < 0 ? 0 : squares;
  }
};
struct MomentTotals {
  static constexpr int kSums = 2;
  int64_t pixels, per_block;
  const double* partial;
  float *mean, *m2;
  __device__ void add(const double* own, int64_t C, int64_t chunk, int64_t c, double (&sums)[2]) const {
    const int64_t left = pixels - chunk * per_block;
    const double count = static_cast<double>(left < per_block ? left : per_block),
                 delta = own[c] - partial[c];
    sums[0] += count * delta;
    sums[1] += own[C + c] + count * delta * delta;
  }
  __device__ void store(int64_t c, const double (&sums)[2]) const {
    if (pixels == 0) {
      mean[c] = m2[c] = 0;
      return;
    }
    const double shift = sums[0] / static_cast<double>(pixels), squares = sums[1] - sums[0] * shift;
    mean[c] = static_cast<float>(partial[c] + shift);
    m2[c] = squares < 0 ? 0 : static_cast<float>(squares);
  }
};

template <class T>
void statistics(Exec& ex, const BatchNormStatistics& a) {
  const Pixels px(a.x.shape);
  const RowsGrid g = px.grid(a.x.dtype);
  const T* x = operand<T>(a.x, a.x.shape, "x");
  MomentTotals totals{px.count, g.per_block, nullptr, operand<float>(a.mean, px.channels(), "mean"),
                      operand<float>(a.m2, px.channels(), "m2")};
  totals.partial = scratch<double>(ex, g.chunks * 2 * g.columns);
  with_width<kVector<T>>(vectorised<T>(g, x), [&](auto width) {
    column_sums(ex, g, MomentTerms<T, decltype(width)::value>{x, px.C}, totals);
  });
}

// ---- The sums of the backward pass: dy', then dy' · (x - mean), which inv_std scales at the end.
template <class T, int kColumns>
struct GradientTerms : PlainSums {
  static constexpr int kWidth = kColumns, kSums = 2;
  struct Factors {
    float mean[kWidth];
  };
  const T *x, *dy, *mask;  // mask may be null
  const float* mean;
  int64_t C;
  __device__ Factors prepare(int64_t, int64_t c) const {
    Factors f;
    load_floats(mean + c, f.mean);
    return f;
  }
  __device__ void add(int64_t pixel, int64_t c, const Factors& f, float (&sums)[2][kWidth]) const {
    const int64_t at = pixel * C + c;
    float v[kWidth], d[kWidth], m[kWidth];
    load_floats(x + at, v);
    load_floats(dy + at, d);
    if (mask != nullptr) {
      load_floats(mask + at, m);
      for (int i = 0; i < kWidth; ++i) d[i] = m[i] <= 0 ? 0 : d[i];
    }
    for (int i = 0; i < kWidth; ++i) {
      sums[0][i] += d[i];
      sums[1][i] += d[i] * (v[i] - f.mean[i]);
    }
  }
};
struct GradientTotals : PlainTotals<2> {
  const float* m2;
  float count, eps;
  bool overwrite;
  int64_t C;
  float *dgamma, *dbeta, *sums;
  __device__ void store(int64_t c, const double (&total)[2]) const {
    sums[c] = static_cast<float>(total[0]);
    sums[C + c] = static_cast<float>(total[1] * inverse_std(m2[c], count, eps));
    dbeta[c] = overwrite ? sums[c] : dbeta[c] + sums[c];
    dgamma[c] = overwrite ? sums[C + c] : dgamma[c] + sums[C + c];
  }
};

template <class T, int kColumns>
GradientTerms<T, kColumns> gradient_terms(const BatchNormBackwardSums& a, const Pixels& px) {
  GradientTerms<T, kColumns> terms;
  terms.x = operand<T>(a.x, a.x.shape, "x");
  terms.dy = operand<T>(a.dy, a.x.shape, "dy");
  terms.mask = a.mask.empty() ? nullptr : operand<T>(a.mask, a.x.shape, "mask");
  terms.mean = operand<float>(a.mean, px.channels(), "mean");
  terms.C = px.C;
  return terms;
}

template <class T>
void backward_sums(Exec& ex, const BatchNormBackwardSums& a) {
  const Pixels px(a.x.shape);
  CONVOY_CHECK(a.count >= 1, "count ", a.count);
  const RowsGrid g = px.grid(a.x.dtype);
  GradientTotals totals;
  totals.m2 = operand<float>(a.m2, px.channels(), "m2");
  totals.count = static_cast<float>(a.count);
  totals.eps = a.eps;
  totals.overwrite = a.overwrite;
  totals.C = px.C;
  totals.dgamma = operand<float>(a.dgamma, px.channels(), "dgamma");
  totals.dbeta = operand<float>(a.dbeta, px.channels(), "dbeta");
  totals.sums = operand<float>(a.sums, Shape{2 * px.C}, "sums");
  const auto terms = gradient_terms<T, 1>(a, px);
  with_width<kVector<T>>(vectorised<T>(g, terms.x, terms.dy, terms.mask, terms.mean), [&](auto width) {
    column_sums(ex, g, gradient_terms<T, decltype(width)::value>(a, px), totals);
  });
}

// ---- Forward, and backward to the data: factors per channel, then one pass.
template <class T, int kColumns>
struct Forward {
  static constexpr int kWidth = kColumns;
  struct Factors {
    float mean[kWidth], scale[kWidth], beta[kWidth];
  };
  int64_t C;
  float count, eps;
  bool relu;
  const float *mean, *m2, *gamma, *beta;
  const T *x, *residual;  // residual may be null
  T* y;
  __device__ Factors prepare(int64_t c) const {
    Factors f;
    float spread[kWidth];
    load_floats(mean + c, f.mean);
    load_floats(m2 + c, spread);
    load_floats(gamma + c, f.scale);
    load_floats(beta + c, f.beta);
    for (int i = 0; i < kWidth; ++i) f.scale[i] *= inverse_std(spread[i], count, eps);
    return f;
  }
  __device__ void apply(int64_t pixel, int64_t c, const Factors& f) const {
    const int64_t at = pixel * C + c;
    float v[kWidth], r[kWidth] = {};
    load_floats(x + at, v);
    if (residual != nullptr) load_floats(residual + at, r);
    for (int i = 0; i < kWidth; ++i) {
      const float value = (v[i] - f.mean[i]) * f.scale[i] + f.beta[i] + r[i];
      v[i] = relu && value < 0 ? 0 : value;
    }
    store_floats(y + at, v);
  }
};

template <class T>
void forward(Exec& ex, const BatchNormForward& a) {
  const Pixels px(a.x.shape);
  CONVOY_CHECK(a.count >= 1, "count ", a.count);
  const auto make = [&](auto width) {
    Forward<T, decltype(width)::value> f;
    f.C = px.C;
    f.count = static_cast<float>(a.count);
    f.eps = a.eps;
    f.relu = a.relu;
    f.mean = operand<float>(a.mean, px.channels(), "mean");
    f.m2 = operand<float>(a.m2, px.channels(), "m2");
    f.gamma = operand<float>(a.gamma, px.channels(), "gamma");
    f.beta = operand<float>(a.beta, px.channels(), "beta");
    f.x = operand<T>(a.x, a.x.shape, "x");
    f.residual = a.residual.empty() ? nullptr : operand<T>(a.residual, a.x.shape, "residual");
    f.y = operand<T>(a.y, a.x.shape, "y");
    return f;
  };
  const RowsGrid g = px.grid(a.x.dtype);
  const auto f = make(std::integral_constant<int, 1>());
  with_width<kVector<T>>(vectorised<T>(g, f.mean, f.m2, f.gamma, f.beta, f.x, f.residual, f.y),
                         [&](auto width) { for_rows(ex, g, make(width)); });
}

template <class T, int kColumns>
struct Backward {
  static constexpr int kWidth = kColumns;
  struct Factors {
    float mean[kWidth], scale[kWidth], offset[kWidth], slope[kWidth];
  };
  int64_t C;
  float count, eps;
  const float *mean, *m2, *gamma, *sums;
  const T *x, *dy, *mask;  // mask may be null
  T *dx, *dresidual;       // dresidual may be null
  __device__ Factors prepare(int64_t c) const {
    Factors f;
    float spread[kWidth];
    load_floats(mean + c, f.mean);
    load_floats(m2 + c, spread);
    load_floats(gamma + c, f.scale);
    load_floats(sums + c, f.offset);
    load_floats(sums + C + c, f.slope);
    for (int i = 0; i < kWidth; ++i) {
      const float inv_std = inverse_std(spread[i], count, eps);
      f.scale[i] *= inv_std;
      f.offset[i] /= count;
      f.slope[i] = f.slope[i] / count * inv_std;
    }
    return f;
  }
  __device__ void apply(int64_t pixel, int64_t c, const Factors& f) const {
    const int64_t at = pixel * C + c;
    float v[kWidth], d[kWidth], m[kWidth];
    load_floats(x + at, v);
    load_floats(dy + at, d);
    if (mask != nullptr) {
      load_floats(mask + at, m);
      for (int i = 0; i < kWidth; ++i) d[i] = m[i] <= 0 ? 0 : d[i];
    }
    if (dresidual != nullptr) store_floats(dresidual + at, d);
    for (int i = 0; i < kWidth; ++i)
      v[i] = f.scale[i] * (d[i] - f.offset[i] - (v[i] - f.mean[i]) * f.slope[i]);
    store_floats(dx + at, v);
  }
};

template <class T>
void backward_data(Exec& ex, const BatchNormBackwardData& a) {
  const Pixels px(a.x.shape);
  CONVOY_CHECK(a.count >= 1, "count ", a.count);
  const auto make = [&](auto width) {
    Backward<T, decltype(width)::value> f;
    f.C = px.C;
    f.count = static_cast<float>(a.count);
    f.eps = a.eps;
    f.mean = operand<float>(a.mean, px.channels(), "mean");
    f.m2 = operand<float>(a.m2, px.channels(), "m2");
    f.gamma = operand<float>(a.gamma, px.channels(), "gamma");
    f.sums = operand<float>(a.sums, Shape{2 * px.C}, "sums");
    f.x = operand<T>(a.x, a.x.shape, "x");
    f.dy = operand<T>(a.dy, a.x.shape, "dy");
    f.mask = a.mask.empty() ? nullptr : operand<T>(a.mask, a.x.shape, "mask");
    f.dx = operand<T>(a.dx, a.x.shape, "dx");
    f.dresidual = a.dresidual.empty() ? nullptr : operand<T>(a.dresidual, a.x.shape, "dresidual");
    return f;
  };
  const RowsGrid g = px.grid(a.x.dtype);
  const auto f = make(std::integral_constant<int, 1>());
  with_width<kVector<T>>(
      vectorised<T>(g, f.mean, f.m2, f.gamma, f.sums, f.x, f.dy, f.mask, f.dx, f.dresidual),
      [&](auto width) { for_rows(ex, g, make(width)); });
}

// ---- Workers' statistics. The counts travel as arguments of the kernel.
constexpr int kMostWorkers = 256;
struct Counts {
  int workers;
  int64_t of[kMostWorkers];
};

__global__ void __launch_bounds__(kRowsThreads)
    merge_kernel(int64_t C, Counts counts, const float* all, float* mean, float* m2) {
  const int64_t c = int64_t{blockIdx.x} * kRowsThreads + threadIdx.x;
  if (c >= C) return;
  double merged_mean = 0, merged_m2 = 0, elements = 0;
  for (int worker = 0; worker < counts.workers; ++worker) {
    const double own = static_cast<double>(counts.of[worker]), own_mean = all[worker * 2 * C + c],
                 own_m2 = all[worker * 2 * C + C + c];
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

}  // namespace

void batchnorm_statistics(Exec& ex, const BatchNormStatistics& a) {
  with_float(a.x.dtype, [&](auto zero) { statistics<decltype(zero)>(ex, a); });
}
Support query(const BatchNormStatistics& a) {
  return {true, column_sums_bytes(Pixels(a.x.shape).grid(a.x.dtype), 2)};
}

void batchnorm_merge(Exec& ex, const BatchNormMerge& a) {
  CONVOY_CHECK(a.counts != nullptr, "no counts");
  const Shape& channels = a.mean.shape;
  const int64_t C = channels.count(), workers = static_cast<int64_t>(a.counts->size());
  CONVOY_CHECK(workers <= kMostWorkers, workers, " workers, at most ", kMostWorkers, " can be merged");
  const float* all = operand<float>(a.all, Shape{workers, 2 * C}, "all");
  float* mean = operand<float>(a.mean, channels, "mean");
  float* m2 = operand<float>(a.m2, channels, "m2");
  Counts counts{static_cast<int>(workers), {}};
  for (size_t worker = 0; worker < a.counts->size(); ++worker) {
    counts.of[worker] = (*a.counts)[worker];
    CONVOY_CHECK(counts.of[worker] >= 0, "count ", counts.of[worker]);
  }
  if (C == 0) return;
  const dim3 blocks(static_cast<unsigned>((C + kRowsThreads - 1) / kRowsThreads));
  CONVOY_LAUNCH(merge_kernel, blocks, dim3(kRowsThreads), 0, stream(ex), C, counts, all, mean, m2);
  CONVOY_CUDA(cudaGetLastError());
}

void batchnorm_forward(Exec& ex, const BatchNormForward& a) {
  with_float(a.x.dtype, [&](auto zero) { forward<decltype(zero)>(ex, a); });
}

void batchnorm_backward_sums(Exec& ex, const BatchNormBackwardSums& a) {
  with_float(a.x.dtype, [&](auto zero) { backward_sums<decltype(zero)>(ex, a); });
}
Support query(const BatchNormBackwardSums& a) {
  return {true, column_sums_bytes(Pixels(a.x.shape).grid(a.x.dtype), 2)};
}

void batchnorm_backward_data(Exec& ex, const BatchNormBackwardData& a) {
  with_float(a.x.dtype, [&](auto zero) { backward_data<decltype(zero)>(ex, a); });
}

void batchnorm_running(Exec& ex, const BatchNormRunning& a) {
  const Shape& channels = a.mean.shape;
  const float* mean = operand<float>(a.mean, channels, "mean");
  const float* m2 = operand<float>(a.m2, channels, "m2");
  float* running_mean = operand<float>(a.running_mean, channels, "running_mean");
  float* running_var = operand<float>(a.running_var, channels, "running_var");
  // One element has no unbiased variance: as in PyTorch's kernels the division by zero shows.
  const float unbiased = static_cast<float>(a.count - 1), keep = 1 - a.momentum, momentum = a.momentum;
  const int32_t* skip = a.skip.empty() ? nullptr : a.skip.as<int32_t>();
  each(ex, channels.count(), [=] __device__(int64_t c) {
    if (skip != nullptr && *skip != 0) return;
    running_mean[c] = keep * running_mean[c] + momentum * mean[c];
    running_var[c] = keep * running_var[c] + momentum * (m2[c] / unbiased);
  });
}

}  // namespace convoy::cuda
