// Products by cuBLAS, which is column-major: a row-major matrix is its transpose's columns, rows of x[N,D] are columns
// of a D x N matrix whose leading dimension is the row stride.
#include <limits>

#include "kernels/fc.h"
#include "kernels/rows.cuh"

namespace convoy::cuda {
namespace {

struct Sizes {
  int64_t N, D, F;
};

Sizes check_sizes(const In& x, const In& w, const In& y, const char* names) {
  const Sizes s{x.rows(), x.shape.row(), y.shape.row()};
  CONVOY_CHECK(y.rows() == s.N && w.rows() == s.F && w.shape.row() == s.D && w.contiguous(), names, " are ",
               x.shape, ", ", w.shape, ", ", y.shape);
  CONVOY_CHECK(s.D > 0, names, " are ", x.shape, ", ", w.shape, ", ", y.shape, ": no columns");
  return s;
}

const float* bias_of(const In& bias, int64_t F) {
  CONVOY_CHECK(bias.empty() || (bias.count() == F && bias.contiguous()), "bias is ", bias.shape, ", wanted ",
               F);
  return bias.empty() ? nullptr : bias.f32();
}

// A matrix with rows of its own distance.
template <class T>
struct Matrix {
  T* data;
  int64_t stride;
  template <class AnyView>
  explicit Matrix(const AnyView& view)
      : data(view.template as<std::remove_const_t<T>>()),
        stride(std::max(view.row_stride, view.shape.row())) {
    CONVOY_CHECK(view.count() == 0 || !view.empty(), "a matrix of ", view.shape, " has no memory");
  }
};

template <class T>
constexpr cudaDataType kCublasType = std::is_same_v<T, float>    ? CUDA_R_32F
                                     : std::is_same_v<T, __half> ? CUDA_R_16F
                                                                 : CUDA_R_16BF;

int extent(int64_t n) {
  CONVOY_CHECK(n <= std::numeric_limits<int>::max(), n, " is too large for cuBLAS");
  return static_cast<int>(n);
}

// c (+)= op(a) · op(b), column-major: m x n over k. Extents are not 0.
template <class T, class U>
void product(Exec& ex, cublasOperation_t op_a, cublasOperation_t op_b, int64_t m, int64_t n, int64_t k,
             const Matrix<const T>& a, const Matrix<const T>& b, const Matrix<U>& c, bool overwrite) {
  const float one = 1, keep = overwrite ? 0 : 1;
  // f32 is f32: TF32 only when the Exec asks for it, whatever the environment asks of cuBLAS.
  const cublasComputeType_t compute = !std::is_same_v<T, float> ? CUBLAS_COMPUTE_32F
                                      : ex.tf32                 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                                : CUBLAS_COMPUTE_32F_PEDANTIC;
  CONVOY_CUBLAS(cublasGemmEx(queue(ex).cublas, op_a, op_b, extent(m), extent(n), extent(k), &one, a.data,
                             kCublasType<T>, extent(a.stride), b.data, kCublasType<T>, extent(b.stride),
                             &keep, c.data, kCublasType<U>, extent(c.stride), compute, CUBLAS_GEMM_DEFAULT));
}

// y = epilogue(y).
template <class T, int kVector>
struct BiasRelu {
  static constexpr int kWidth = kVector;
  struct Factors {
    float bias[kWidth];
  };
  T* y;
  int64_t stride;
  const float* bias;
  bool relu;
  __device__ Factors prepare(int64_t column) const {
    Factors f = {};
    if (bias != nullptr) load_floats(bias + column, f.bias);
    return f;
  }
  __device__ void apply(int64_t row, int64_t column, const Factors& f) const {
    float v[kWidth];
    load_floats(y + row * stride + column, v);
    for (int i = 0; i < kWidth; ++i) {
      v[i] += f.bias[i];
      if (relu && v[i] < 0) v[i] = 0;
    }
    store_floats(y + row * stride + column, v);
  }
};

// dx = 0 where mask <= 0, or everywhere without a mask.
template <class U, class T, int kVector>
struct Mask {
  static constexpr int kWidth = kVector;
  struct Factors {};
  U* dx;
  const T* mask;
  int64_t stride, mask_stride;
  __device__ Factors prepare(int64_t) const { return {}; }
  __device__ void apply(int64_t row, int64_t column, const Factors&) const {
    float v[kWidth] = {}, m[kWidth];
    if (mask != nullptr) {
      load_floats(mask + row * mask_stride + column, m);
      load_floats(dx + row * stride + column, v);
      for (int i = 0; i < kWidth; ++i) v[i] = m[i] <= 0 ? 0 : v[i];
    }
    store_floats(dx + row * stride + column, v);
  }
};

// The sums of dy's columns.
template <class T, int kVector>
struct BiasTerms : PlainSums {
  static constexpr int kWidth = kVector, kSums = 1;
  struct Factors {};
  const T* dy;
  int64_t stride;
  __device__ Factors prepare(int64_t, int64_t) const { return {}; }
  __device__ void add(int64_t row, int64_t column, const Factors&, float (&sums)[1][kWidth]) const {
    float v[kWidth];
    load_floats(dy + row * stride + column, v);
    for (int i = 0; i < kWidth; ++i) sums[0][i] += v[i];
  }
};
struct BiasTotals : PlainTotals<1> {
  float* db;
  bool overwrite;
  __device__ void store(int64_t f, const double (&sums)[1]) const {
    db[f] = static_cast<float>(overwrite ? sums[0] : db[f] + sums[0]);
  }
};

template <class T, class U>
void forward(Exec& ex, const FcForward& a, const Sizes& s) {
  const Matrix<const T> x(a.x), w(a.w);
  const Matrix<U> y(a.y);
  const float* bias = bias_of(a.epilogue.bias, s.F);
  if (s.N == 0 || s.F == 0) return;
  product(ex, CUBLAS_OP_T, CUBLAS_OP_N, s.F, s.N, s.D, w, x, y, true);
  if (bias == nullptr && !a.epilogue.relu) return;
  constexpr int kVector = kVectorBytes / sizeof(U);
  const RowsGrid grid(s.N, s.F, kVector);
  with_width<kVector>(
      grid.width > 1 && vectors(kVector, y.data, y.stride) && vectors(kVector, bias, 0), [&](auto width) {
        for_rows(ex, grid, BiasRelu<U, decltype(width)::value>{y.data, y.stride, bias, a.epilogue.relu});
      });
}

template <class T, class U>
void backward_data(Exec& ex, const FcBackwardData& a, const Sizes& s) {
  const Matrix<const T> dy(a.dy), w(a.w);
  const Matrix<U> dx(a.dx);
  if (s.N == 0) return;
  if (s.F > 0) product(ex, CUBLAS_OP_N, CUBLAS_OP_N, s.D, s.N, s.F, w, dy, dx, true);
  if (s.F > 0 && a.mask.empty()) return;
  const T* mask = a.mask.empty() || s.F == 0 ? nullptr : a.mask.as<T>();
  constexpr int kVector = kVectorBytes / static_cast<int>(std::max(sizeof(T), sizeof(U)));
  const RowsGrid grid(s.N, s.D, kVector);
  with_width<kVector>(
      grid.width > 1 && vectors(kVector, dx.data, dx.stride) && vectors(kVector, mask, a.mask.row_stride),
      [&](auto width) {
        for_rows(ex, grid, Mask<U, T, decltype(width)::value>{dx.data, mask, dx.stride, a.mask.row_stride});
      });
}

template <class T>
void backward_weights(Exec& ex, const FcBackwardWeights& a, const Sizes& s) {
  const Matrix<const T> x(a.x), dy(a.dy);
  const Matrix<float> dw(a.dw);
  if (s.F == 0) return;
  if (s.N > 0) {
    product(ex, CUBLAS_OP_N, CUBLAS_OP_T, s.D, s.F, s.N, x, dy, dw, a.overwrite);
  } else if (a.overwrite) {
    CONVOY_CUDA(cudaMemsetAsync(dw.data, 0, static_cast<size_t>(a.dw.bytes()), stream(ex)));
  }
  if (a.db.empty()) return;
  constexpr int kVector = kVectorBytes / sizeof(T);
  const RowsGrid grid(s.N, s.F, kVector);
  BiasTotals totals;
  totals.db = a.db.f32();
  totals.overwrite = a.overwrite;
  with_width<kVector>(grid.width > 1 && vectors(kVector, dy.data, dy.stride), [&](auto width) {
    BiasTerms<T, decltype(width)::value> terms;
    terms.dy = dy.data;
    terms.stride = dy.stride;
    column_sums(ex, grid, terms, totals);
  });
}

// f(T(), U()): U is f32, or the same as T.
template <class F>
void with_floats(DType t, DType u, const F& f) {
  CONVOY_CHECK(u == t || u == DType::kF32, "the result holds ", dtype_name(u), ", expected ", dtype_name(t),
               " or f32");
  with_float(t, [&](auto zero) {
    if (u == t) {
      f(zero, zero);
    } else {
      f(zero, float());
    }
  });
}

}  // namespace

void fc_forward(Exec& ex, const FcForward& a) {
  const Sizes s = check_sizes(a.x, a.w, a.y, "x, w, y");
  with_floats(a.x.dtype, a.y.dtype, [&](auto t, auto u) { forward<decltype(t), decltype(u)>(ex, a, s); });
}
Support query(const FcForward&) {
  return {};
}

void fc_backward_data(Exec& ex, const FcBackwardData& a) {
  if (a.dx.empty()) return;
  const Sizes s = check_sizes(a.dx, a.w, a.dy, "dx, w, dy");
  CONVOY_CHECK(a.mask.empty() || (a.mask.rows() == s.N && a.mask.shape.row() == s.D), "mask is ",
               a.mask.shape, ", dx ", a.dx.shape);
  with_floats(a.dy.dtype, a.dx.dtype,
              [&](auto t, auto u) { backward_data<decltype(t), decltype(u)>(ex, a, s); });
}
Support query(const FcBackwardData&) {
  return {};
}

void fc_backward_weights(Exec& ex, const FcBackwardWeights& a) {
  const Sizes s = check_sizes(a.x, a.dw, a.dy, "x, dw, dy");
  CONVOY_CHECK(a.db.empty() || (a.db.count() == s.F && a.db.contiguous()), "db is ", a.db.shape, ", wanted ",
               s.F);
  with_float(a.x.dtype, [&](auto zero) { backward_weights<decltype(zero)>(ex, a, s); });
}
Support query(const FcBackwardWeights& a) {
  if (a.db.empty()) return {};
  const int vector = static_cast<int>(kVectorBytes / dtype_bytes(a.dy.dtype));
  return {true, column_sums_bytes(RowsGrid(a.dy.rows(), a.dy.shape.row(), vector), 1)};
}

}  // namespace convoy::cuda
