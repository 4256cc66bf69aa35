#include <cmath>

#include "kernels/each.cuh"
#include "kernels/reduce.cuh"
#include "kernels/softmax.h"

namespace convoy::cuda {
namespace {

template <class T>
struct Loss {
  int64_t rows = 0, classes = 0, first_class = 0, all_classes = 0;
  const T* x = nullptr;
  const int32_t* labels = nullptr;
  void* dx = nullptr;  // or null
  DType dx_dtype = DType::kF32;
  float* row_loss = nullptr;
  int32_t* row_rank = nullptr;           // or null
  const StepScalars* scalars = nullptr;  // or null

  __device__ float loss_scale() const { return scalars == nullptr ? 1.0f : scalars->loss_scale; }
  __device__ void set_dx(int64_t i, float v) const {
    switch (dx_dtype) {
      case DType::kBF16:
        static_cast<__nv_bfloat16*>(dx)[i] = __nv_bfloat16(v);
        break;
      case DType::kF16:
        static_cast<__half*>(dx)[i] = __half(v);
        break;
      default:
        static_cast<float*>(dx)[i] = v;
    }
  }
};

template <class T, class Args>
Loss<T> checked(const Args& a) {
  Loss<T> s;
  CONVOY_CHECK(a.x.shape.rank == 2, "x is ", a.x.shape, ", expected rows x classes");
  s.rows = a.x.shape[0];
  s.all_classes = s.classes = a.x.shape[1];
  s.x = operand<T>(a.x, a.x.shape, "x");
  s.labels = operand<int32_t>(a.labels, Shape{s.rows}, "labels");
  if (!a.dx.empty()) {
    with_float(a.dx.dtype, [&](auto zero) { s.dx = operand<decltype(zero)>(a.dx, a.x.shape, "dx"); });
    s.dx_dtype = a.dx.dtype;
  }
  s.row_loss = operand<float>(a.row_loss, Shape{s.rows}, "row_loss");
  if (!a.row_rank.empty()) s.row_rank = operand<int32_t>(a.row_rank, Shape{s.rows}, "row_rank");
  s.scalars = a.scalars;
  return s;
}

// A row for every kThreads threads of a block of (kThreads, rows). Few classes: a warp, several rows a block.
constexpr int kWarp = 32, kBlock = 256;
constexpr int64_t kWarpClasses = 1024;

template <int kThreads, class F>
__device__ __forceinline__ void for_classes(int64_t classes, const F& f) {
  for (int64_t i = threadIdx.x; i < classes; i += kThreads) f(i);
}

// What the threads of a row find out on their first way over its logits.
struct Row {
  float top;            // the largest
  int32_t nan, better;  // how many are NaN, how many beat the label's
};
template <int kThreads, class T>
__device__ Row look_at_row(const T* x, int64_t classes, int64_t label, float mine) {
  Row r{-INFINITY, 0, 0};
  for_classes<kThreads>(classes, [&](int64_t i) {
    const float v = x[i];
    r.top = v > r.top ? v : r.top;
    r.nan += v != v ? 1 : 0;
    r.better += v > mine || (v == mine && i < label) ? 1 : 0;
  });
  r.top = block_all<kThreads>(r.top, [](float a, float b) { return a > b ? a : b; });
  r.nan = block_sum<kThreads>(r.nan);
  r.better = block_sum<kThreads>(r.better);
  return r;
}

template <int kThreads, class T>
__global__ void __launch_bounds__(kBlock) softmax_kernel(Loss<T> s) {
  const int64_t n = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (n >= s.rows) return;  // all threads of the row
  const T* x = s.x + n * s.classes;
  const int64_t label = s.labels[n];
  const bool valid = label >= 0 && label < s.classes;
  const float mine = valid ? static_cast<float>(x[label]) : NAN;
  const Row r = look_at_row<kThreads>(x, s.classes, label, mine);
  const bool nan = r.nan > 0 || !valid;
  double sum = 0;
  for_classes<kThreads>(s.classes, [&](int64_t i) { sum += expf(static_cast<float>(x[i]) - r.top); });
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) {
    s.row_loss[n] = nan ? NAN : static_cast<float>(log(sum) + (static_cast<double>(r.top) - mine));
    if (s.row_rank != nullptr) s.row_rank[n] = nan ? static_cast<int32_t>(s.classes) : r.better;
  }
  if (s.dx == nullptr) return;
  const float scale = static_cast<float>(1 / sum), loss_scale = s.loss_scale();
  for_classes<kThreads>(s.classes, [&](int64_t i) {
    const float q = expf(static_cast<float>(x[i]) - r.top) * scale;
    s.set_dx(n * s.classes + i, nan ? NAN : (q - (i == label ? 1.0f : 0.0f)) * loss_scale);
  });
}

template <int kThreads, class T>
__global__ void __launch_bounds__(kBlock) logistic_kernel(Loss<T> s) {
  const int64_t n = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (n >= s.rows) return;
  const T* x = s.x + n * s.classes;
  const bool valid = s.labels[n] >= 0 && s.labels[n] < s.all_classes;
  const int64_t label = s.labels[n] - s.first_class;
  const bool own = label >= 0 && label < s.classes;
  const float mine = own ? static_cast<float>(x[label]) : 0.0f;
  const Row r = look_at_row<kThreads>(x, s.classes, label, mine);
  const bool nan = r.nan > 0 || !valid;
  const float loss_scale = s.loss_scale();
  double sum = 0;
  for_classes<kThreads>(s.classes, [&](int64_t i) {
    // log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), and the same small exponential gives the sigmoid.
    const float v = x[i], e = expf(-fabsf(v));
    sum += (v > 0 ? v : 0.0f) + log1pf(e);
    if (s.dx == nullptr) return;
    const float sigmoid = (v > 0 ? 1.0f : e) / (1.0f + e);
    s.set_dx(n * s.classes + i, nan ? NAN : (sigmoid - (i == label ? 1.0f : 0.0f)) * loss_scale);
  });
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x != 0) return;
  s.row_loss[n] = nan ? NAN : static_cast<float>(sum - mine);
  if (s.row_rank != nullptr) s.row_rank[n] = nan ? static_cast<int32_t>(s.classes) : r.better;
}

template <int kThreads, class T>
__global__ void __launch_bounds__(kBlock) rank_kernel(Loss<T> s, const float* logit, float* rank) {
  const int64_t n = int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (n >= s.rows) return;
  const Row r = look_at_row<kThreads>(s.x + n * s.classes, s.classes, s.labels[n] - s.first_class, logit[n]);
  if (threadIdx.x == 0)
    rank[n] =
        static_cast<float>(r.nan > 0 || logit[n] != logit[n] ? static_cast<int32_t>(s.classes) : r.better);
}

// launch(threads, grid, block): threads of a row as a constant.
template <class Launch>
void for_each_row(int64_t rows, int64_t classes, const Launch& launch) {
  if (rows == 0) return;
  if (classes <= kWarpClasses) {
    constexpr int64_t kRows = 4;
    launch(std::integral_constant<int, kWarp>(), dim3(static_cast<unsigned>((rows + kRows - 1) / kRows)),
           dim3(kWarp, kRows));
  } else {
    launch(std::integral_constant<int, kBlock>(), dim3(static_cast<unsigned>(rows)), dim3(kBlock));
  }
  CONVOY_CUDA(cudaGetLastError());
}

}  // namespace

void softmax_cross_entropy(Exec& ex, const SoftmaxCrossEntropy& a) {
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Loss<T> s = checked<T>(a);
    for_each_row(s.rows, s.classes, [&](auto threads, dim3 grid, dim3 block) {
      CONVOY_LAUNCH((softmax_kernel<decltype(threads)::value, T>), grid, block, 0, stream(ex), s);
    });
  });
}

void logistic_cross_entropy(Exec& ex, const LogisticCrossEntropy& a) {
  const int64_t all = a.classes == 0 ? a.x.shape[1] : a.classes;
  CONVOY_CHECK(a.first_class >= 0 && a.first_class + a.x.shape[1] <= all, "x is ", a.x.shape, ", classes ",
               a.first_class, "+", a.x.shape[1], " of ", all);
  CONVOY_CHECK(a.x.shape[1] == all || a.row_rank.empty(), "x holds ", a.x.shape[1], " of ", all,
               " classes: no rank without the others");
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Loss<T> s = checked<T>(a);
    s.first_class = a.first_class;
    s.all_classes = all;
    for_each_row(s.rows, s.classes, [&](auto threads, dim3 grid, dim3 block) {
      CONVOY_LAUNCH((logistic_kernel<decltype(threads)::value, T>), grid, block, 0, stream(ex), s);
    });
  });
}

namespace {

Shape checked_rows(const In& x) {
  CONVOY_CHECK(x.shape.rank == 2, "x is ", x.shape, ", expected rows x classes");
  return Shape{x.shape[0]};
}

template <class T>
void logit_of(Exec& ex, const LabelLogit& a) {
  const Shape rows = checked_rows(a.x);
  const int64_t classes = a.x.shape[1], first_class = a.first_class;
  const T* x = operand<T>(a.x, a.x.shape, "x");
  const int32_t* labels = operand<int32_t>(a.labels, rows, "labels");
  float* logit = operand<float>(a.logit, rows, "logit");
  each(ex, rows[0], [=] __device__(int64_t n) {
    const int64_t label = labels[n] - first_class;
    logit[n] = label >= 0 && label < classes ? static_cast<float>(x[n * classes + label]) : 0.0f;
  });
}

}  // namespace

void label_logit(Exec& ex, const LabelLogit& a) {
  with_float(a.x.dtype, [&](auto zero) { logit_of<decltype(zero)>(ex, a); });
}

void label_rank(Exec& ex, const LabelRank& a) {
  const Shape rows = checked_rows(a.x);
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    Loss<T> s;
    s.rows = rows[0];
    s.classes = a.x.shape[1];
    s.first_class = a.first_class;
    s.x = operand<T>(a.x, a.x.shape, "x");
    s.labels = operand<int32_t>(a.labels, rows, "labels");
    const float* logit = operand<float>(a.logit, rows, "logit");
    float* rank = operand<float>(a.rank, rows, "rank");
    for_each_row(s.rows, s.classes, [&](auto threads, dim3 grid, dim3 block) {
      CONVOY_LAUNCH((rank_kernel<decltype(threads)::value, T>), grid, block, 0, stream(ex), s, logit, rank);
    });
  });
}

}  // namespace convoy::cuda
