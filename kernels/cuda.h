// How the CUDA operations check calls, and where they queue their work. For .cu sources in kernels/ only.
#pragma once
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

#define CONVOY_DECLARE(name, Args) void name(Exec&, const Args&);
CONVOY_OPERATIONS(CONVOY_DECLARE)
#undef CONVOY_DECLARE

inline cudaStream_t stream(const Exec& ex) {
  return static_cast<cudaStream_t>(ex.queue);
}

// What every operation asks of its operands: the dtype, the shape, no gaps between rows.
template <class T, class AnyView>
auto operand(const AnyView& view, const Shape& shape, const char* name) {
  CONVOY_CHECK(view.shape == shape, name, " is ", view.shape, ", expected ", shape);
  CONVOY_CHECK(view.contiguous(), name, " has rows ", view.row_stride, " apart, expected ", view.shape.row());
  CONVOY_CHECK(view.count() == 0 || !view.empty(), name, " has no memory");
  return view.template as<T>();
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
