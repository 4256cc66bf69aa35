// Tensor maps for hopper.cuh's bulk copies: made on the host, passed to kernels as
// `const __grid_constant__ CUtensorMap`.
//
// Dimensions are given innermost first, and so are strides (bytes, of dimension 1 and on), boxes and steps. Limits
// (cuda.h, cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col): memory 16-byte aligned, strides multiples of 16 and
// below 2^40, boxes at most 256 a dimension, im2col's at most 256 channels and 1024 pixels; steps 1 to 8; the box's
// innermost row a multiple of 16 bytes, and no longer than the swizzle. Throws Error where the driver refuses, and
// where there is no driver that knows tensor maps (before 12.0).
//
// The driver's functions come from cudaGetDriverEntryPointByVersion, not from -lcuda: the program starts on machines
// without a driver.
#pragma once
#include <cuda.h>
#include <cudaTypedefs.h>

#include <array>

#include "kernels/cuda.h"

namespace convoy::cuda {

template <class T>
constexpr CUtensorMapDataType tensor_map_type() {
  if constexpr (std::is_same_v<T, float>) return CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
  if constexpr (std::is_same_v<T, __nv_bfloat16>) return CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  if constexpr (std::is_same_v<T, __half>) return CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
}

template <class Function>
Function driver_function(const char* name) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  CONVOY_CUDA(cudaGetDriverEntryPointByVersion(name, &function, 12000, cudaEnableDefault, &found));
#else
  CONVOY_CUDA(cudaGetDriverEntryPoint(name, &function, cudaEnableDefault, &found));
#endif
  CONVOY_CHECK(found == cudaDriverEntryPointSuccess && function != nullptr, "the CUDA driver has no ", name);
  return reinterpret_cast<Function>(function);
}

// Boxes of box[i] elements, every steps[i]th; steps of 1 where none are given.
template <class T, size_t kRank>
CUtensorMap tiled_map(const T* memory, const std::array<cuuint64_t, kRank>& dims,
                      const std::array<cuuint64_t, kRank - 1>& strides,
                      const std::array<cuuint32_t, kRank>& box, CUtensorMapSwizzle swizzle,
                      std::array<cuuint32_t, kRank> steps = {}) {
  static const auto encode = driver_function<PFN_cuTensorMapEncodeTiled_v12000>("cuTensorMapEncodeTiled");
  for (cuuint32_t& step : steps) step += step == 0;
  CUtensorMap map;
  const CUresult status =
      encode(&map, tensor_map_type<T>(), kRank, const_cast<T*>(memory), dims.data(), strides.data(),
             box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CONVOY_CHECK(status == CUDA_SUCCESS, "the driver refuses the tensor map, with error ",
               static_cast<int>(status));
  return map;
}

// Pixels of images x[N,H,W,C] in the order of a convolution's columns: filter origins (w, h) run from lower to
// the image's end + upper, both {W, H}, every step-th. For a convolution lower = -pad_low,
// upper = pad_high - (extent of the filter - 1).
struct Im2colBox {
  std::array<int, 2> lower, upper;
  std::array<cuuint32_t, 2> steps;
  cuuint32_t channels, pixels;
};
template <class T>
CUtensorMap im2col_map(const T* memory, const std::array<cuuint64_t, 4>& dims,
                       const std::array<cuuint64_t, 3>& strides, const Im2colBox& box,
                       CUtensorMapSwizzle swizzle) {
  static const auto encode = driver_function<PFN_cuTensorMapEncodeIm2col_v12000>("cuTensorMapEncodeIm2col");
  const cuuint32_t steps[4] = {1, box.steps[0], box.steps[1], 1};
  CUtensorMap map;
  const CUresult status = encode(&map, tensor_map_type<T>(), 4, const_cast<T*>(memory), dims.data(),
                                 strides.data(), box.lower.data(), box.upper.data(), box.channels, box.pixels,
                                 steps, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  CONVOY_CHECK(status == CUDA_SUCCESS, "the driver refuses the tensor map, with error ",
               static_cast<int>(status));
  return map;
}

}  // namespace convoy::cuda
