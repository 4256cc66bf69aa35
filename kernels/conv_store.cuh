// How the kernels of 16-bit types store what a tile holds: 8 neighbouring channels at a time.
#pragma once
#include "kernels/conv_geometry.cuh"

namespace convoy::cuda {

template <class T>
struct alignas(16) Eight {
  T v[8];
};
struct alignas(8) Places {
  uint8_t v[8] = {};
};

template <class T>
__device__ void apply_mask(Eight<T>& values, const Eight<T>& mask) {
  CONVOY_UNROLL
  for (int e = 0; e < 8; ++e)
    if (static_cast<float>(mask.v[e]) <= 0) values.v[e] = T(0.0f);
}

// Columns [column, column + 8) of a row of the result, from element `at` on: the mask, unless it is applied already, then
// those inside of the result.
template <class T>
__device__ void store_eight(const Correlation<T>& p, int64_t at, int column, Eight<T> values,
                            const Places& places, bool masked = false) {
  const bool mask = p.mask != nullptr && !masked;
  if (p.result_aligned) {
    if (mask) apply_mask(values, *reinterpret_cast<const Eight<T>*>(p.mask + at));
    *reinterpret_cast<Eight<T>*>(p.result + at) = values;
    if (p.pool_index != nullptr) *reinterpret_cast<Places*>(p.pool_index + at) = places;
    return;
  }
  CONVOY_UNROLL
  for (int e = 0; e < 8; ++e) {
    if (column + e >= p.columns) continue;
    p.result[at + e] = mask && static_cast<float>(p.mask[at + e]) <= 0 ? T(0.0f) : values.v[e];
    if (p.pool_index != nullptr) p.pool_index[at + e] = places.v[e];
  }
}

}  // namespace convoy::cuda
