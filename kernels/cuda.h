// How the CUDA operations check calls, and where they queue their work. For .cu sources in kernels/ only.
//
// Operands: activations and the weights that operations read are f32, bf16 or f16, one type in an operation;
// gradients of weights, bias and its gradient, batch norm's parameters and statistics, losses and everything
// that an optimizer works on are f32.
#pragma once
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "convoy/backend.h"

namespace convoy {

template <>
struct DTypeOf<__nv_bfloat16> : std::integral_constant<DType, DType::kBF16> {};
template <>
struct DTypeOf<__half> : std::integral_constant<DType, DType::kF16> {};

}  // namespace convoy

namespace convoy::cuda {

// Throws Error with the place, the call and CUDA's words for what went wrong.
#define CONVOY_CUDA(call)                                                                     \
  do {                                                                                        \
    const cudaError_t convoy_error = (call);                                                  \
    CONVOY_CHECK(convoy_error == cudaSuccess, #call, ": ", cudaGetErrorString(convoy_error)); \
  } while (false)

#define CONVOY_CUBLAS(call)                                                                                  \
  do {                                                                                                       \
    const cublasStatus_t convoy_status = (call);                                                             \
    CONVOY_CHECK(convoy_status == CUBLAS_STATUS_SUCCESS, #call, ": ", cublasGetStatusString(convoy_status)); \
  } while (false)

#define CONVOY_DECLARE(name, Args) void name(Exec&, const Args&);
CONVOY_OPERATIONS(CONVOY_DECLARE)
#undef CONVOY_DECLARE

// An operation that needs scratch memory, or does not take every problem, overloads this.
template <class Args>
Support query(const Args&) {
  return {};
}
Support query(const ConvForward&);
Support query(const ConvBackwardData&);
Support query(const ConvBackwardWeights&);
Support query(const FcForward&);
Support query(const FcBackwardData&);
Support query(const FcBackwardWeights&);
Support query(const BatchNormStatistics&);
Support query(const BatchNormBackwardSums&);
Support query(const SumOfSquares&);

// What an Exec's queue points at (cuda.cu makes and ends it).
struct Queue {
  static constexpr size_t kEvents = 256;
  int device = 0;
  int architecture = 0;  // 10 · major + minor of the compute capability: 90
  int multiprocessors = 0;
  cudaStream_t stream = nullptr;
  cublasHandle_t cublas = nullptr;  // with a workspace of its own: graphs, and the same bits every time
  void* workspace = nullptr;
  std::array<cudaEvent_t, kEvents> events{};  // used in turn
  size_t next_event = 0;
  const char* operation = "";  // the last that was queued
};

inline Queue& queue(const Exec& ex) {
  CONVOY_CHECK(ex.queue != nullptr, "an Exec without a CUDA queue");
  return *static_cast<Queue*>(ex.queue);
}
inline cudaStream_t stream(const Exec& ex) {
  return ex.queue == nullptr ? nullptr : static_cast<Queue*>(ex.queue)->stream;
}

// What every operation asks of its operands: the dtype, the shape, no gaps between rows.
template <class T, class AnyView>
auto operand(const AnyView& view, const Shape& shape, const char* name) {
  CONVOY_CHECK(view.shape == shape, name, " is ", view.shape, ", expected ", shape);
  CONVOY_CHECK(view.contiguous(), name, " has rows ", view.row_stride, " apart, expected ", view.shape.row());
  CONVOY_CHECK(view.count() == 0 || !view.empty(), name, " has no memory");
  return view.template as<T>();
}

// The Exec's scratch memory as `count` elements of T.
template <class T>
T* scratch(const Exec& ex, int64_t count) {
  const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
  CONVOY_CHECK(ex.scratch.bytes() >= bytes, "scratch has ", ex.scratch.bytes(), " bytes, needs ", bytes);
  return reinterpret_cast<T*>(ex.scratch.data);
}

// f(T()) for the floating-point type that the dtype names; throws Error for other dtypes.
template <class F>
void with_float(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kF32:
      return f(float());
    case DType::kBF16:
      return f(__nv_bfloat16());
    case DType::kF16:
      return f(__half());
    case DType::kI32:
    case DType::kU8:
      break;
  }
  CONVOY_CHECK(false, "the view holds ", dtype_name(dtype), ", expected f32, bf16 or f16");
}

}  // namespace convoy::cuda
