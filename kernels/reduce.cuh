// Sums of what the threads of a warp or a block hold, always in the same order.
#pragma once
#include "kernels/launch.cuh"

namespace convoy::cuda {

constexpr unsigned kAllLanes = 0xffffffffu;

// combine() of the values of a warp's lanes, in every lane. All of them call.
template <class T, class Combine>
__device__ __forceinline__ T warp_all(T value, const Combine& combine) {
  for (int lanes = 16; lanes > 0; lanes /= 2)
    value = combine(value, __shfl_xor_sync(kAllLanes, value, lanes));
  return value;
}
template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  return warp_all(value, [](T a, T b) { return a + b; });
}

// The same of a block of kThreads threads, which all call; of one warp it needs no barrier.
template <int kThreads, class T, class Combine>
__device__ __forceinline__ T block_all(T value, const Combine& combine) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024, "whole warps, whose results one warp combines");
  value = warp_all(value, combine);
  if constexpr (kThreads > 32) {
    CONVOY_SHARED(T, warps, [kThreads / 32]);
    __syncthreads();  // an earlier call's values have been read
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    value = warps[0];
    for (int i = 1; i < kThreads / 32; ++i) value = combine(value, warps[i]);
  }
  return value;
}
template <int kThreads, class T>
__device__ __forceinline__ T block_sum(T value) {
  return block_all<kThreads>(value, [](T a, T b) { return a + b; });
}

}  // namespace convoy::cuda
