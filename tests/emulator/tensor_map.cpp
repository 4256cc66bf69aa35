// cuTensorMapEncodeTiled and cuTensorMapEncodeIm2col: every limit that cuda.h documents (CUDA 13.0) is checked, and
// what breaks one gives CUDA_ERROR_INVALID_VALUE, as from the driver. What the device never does here (interleaved
// layouts, im2col of other ranks than 4) is refused too.
#include "tensor_map.h"

#include <cstring>

#include "cuda/cuda.h"

namespace emulator {
namespace {

constexpr uint64_t kMark = 0x7E4502BA9C0FFEE5;

struct Type {
  Element element;
  uint8_t bytes;
};
bool describe(CUtensorMapDataType type, Type* out) {
  switch (type) {
    case CU_TENSOR_MAP_DATA_TYPE_UINT8:
      *out = {Element::kUnsigned, 1};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_UINT16:
      *out = {Element::kUnsigned, 2};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_UINT32:
      *out = {Element::kUnsigned, 4};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_INT32:
      *out = {Element::kSigned, 4};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_UINT64:
      *out = {Element::kUnsigned, 8};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_INT64:
      *out = {Element::kSigned, 8};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT16:
      *out = {Element::kF16, 2};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT32:
      *out = {Element::kF32, 4};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_FLOAT64:
      *out = {Element::kF64, 8};
      return true;
    case CU_TENSOR_MAP_DATA_TYPE_BFLOAT16:
      *out = {Element::kBF16, 2};
      return true;
  }
  return false;
}

// What both kinds of map share; false when a limit is broken.
bool common(TensorMap* m, const CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* memory,
            const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* steps,
            CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
            CUtensorMapFloatOOBfill fill) {
  Type of;
  if (!map || reinterpret_cast<uintptr_t>(map) % 64 || !describe(type, &of)) return false;
  if (rank < 1 || rank > 5 || !dims || !steps || (rank > 1 && !strides)) return false;
  if (!memory || reinterpret_cast<uintptr_t>(memory) % 16) return false;
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE) return false;
  if (swizzle < CU_TENSOR_MAP_SWIZZLE_NONE || swizzle > CU_TENSOR_MAP_SWIZZLE_128B) return false;
  if (promotion < CU_TENSOR_MAP_L2_PROMOTION_NONE || promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B)
    return false;
  const bool floating = of.element != Element::kUnsigned && of.element != Element::kSigned;
  if (fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE &&
      (fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA || !floating)) {
    return false;
  }
  *m = {};
  m->mark = kMark;
  m->memory = static_cast<char*>(memory);
  m->rank = static_cast<uint8_t>(rank);
  m->element = of.element;
  m->element_bytes = of.bytes;
  m->swizzle_bytes = static_cast<uint8_t>(swizzle == CU_TENSOR_MAP_SWIZZLE_NONE ? 0 : 16u << swizzle);
  m->nan_fill = fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (dims[i] < 1 || dims[i] > uint64_t{1} << 32) return false;
    m->last[i] = static_cast<uint32_t>(dims[i] - 1);
    // The innermost step is ignored.
    if (i > 0 && (steps[i] < 1 || steps[i] > 8)) return false;
    m->steps[i] = static_cast<uint8_t>(i > 0 ? steps[i] : 1);
    if (i + 1 == rank) break;
    const uint64_t least = i == 0 ? dims[0] * of.bytes : strides[i - 1];
    if (strides[i] % 16 || strides[i] >= uint64_t{1} << 40 || strides[i] < least) return false;
    m->strides[i] = strides[i];
  }
  return true;
}

bool fits_swizzle(const TensorMap& m, uint64_t inner_bytes) {
  return m.swizzle_bytes == 0 || inner_bytes <= m.swizzle_bytes;
}

void put(CUtensorMap* map, const TensorMap& m) {
  std::memset(map, 0, sizeof *map);
  std::memcpy(map, &m, sizeof m);
}

}  // namespace

const TensorMap* tensor_map_at(const void* map) {
  const auto* m = static_cast<const TensorMap*>(map);
  return m->mark == kMark ? m : nullptr;
}

}  // namespace emulator

using namespace emulator;

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* memory,
                                const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                                const cuuint32_t* steps, CUtensorMapInterleave interleave,
                                CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                CUtensorMapFloatOOBfill fill) {
  TensorMap m;
  if (!box ||
      !common(&m, map, type, rank, memory, dims, strides, steps, interleave, swizzle, promotion, fill)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  for (cuuint32_t i = 0; i < rank; ++i) {
    if (box[i] < 1 || box[i] > 256) return CUDA_ERROR_INVALID_VALUE;
    m.box[i] = static_cast<uint16_t>(box[i]);
  }
  const uint64_t inner = uint64_t{box[0]} * m.element_bytes;
  if (inner % 16 || !fits_swizzle(m, inner)) return CUDA_ERROR_INVALID_VALUE;
  put(map, m);
  return CUDA_SUCCESS;
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* memory,
                                 const cuuint64_t* dims, const cuuint64_t* strides, const int* lower,
                                 const int* upper, cuuint32_t channels, cuuint32_t pixels,
                                 const cuuint32_t* steps, CUtensorMapInterleave interleave,
                                 CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                 CUtensorMapFloatOOBfill fill) {
  TensorMap m;
  if (rank != 4 || !lower || !upper ||
      !common(&m, map, type, rank, memory, dims, strides, steps, interleave, swizzle, promotion, fill)) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (channels < 1 || channels > 256 || pixels < 1 || pixels > 1024) return CUDA_ERROR_INVALID_VALUE;
  if (!fits_swizzle(m, uint64_t{channels} * m.element_bytes)) return CUDA_ERROR_INVALID_VALUE;
  m.im2col = true;
  m.channels = static_cast<uint16_t>(channels);
  m.pixels = static_cast<uint16_t>(pixels);
  for (int i = 0; i < 2; ++i) {
    if (lower[i] < -128 || lower[i] > 127 || upper[i] < -128 || upper[i] > 127)
      return CUDA_ERROR_INVALID_VALUE;
    // The box of filter origins, [lower, extent - 1 + upper], holds a pixel.
    if (m.extent(1 + i) + upper[i] - lower[i] <= 0) return CUDA_ERROR_INVALID_VALUE;
    m.lower[i] = static_cast<int16_t>(lower[i]);
    m.upper[i] = static_cast<int16_t>(upper[i]);
  }
  put(map, m);
  return CUDA_SUCCESS;
}
