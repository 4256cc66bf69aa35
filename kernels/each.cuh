// Elementwise work on the GPU: one launch for any function of an index.
#pragma once
#include "kernels/cuda.h"
#include "kernels/launch.cuh"

namespace convoy::cuda {

constexpr int kEachThreads = 256;
constexpr int64_t kEachBlocks = 65536;  // then every thread takes several elements

template <class F>
__global__ void __launch_bounds__(kEachThreads) each_kernel(int64_t count, F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) f(i);
}

// f(i) for i in [0, count), in any order, queued on the Exec.
template <class F>
void each(const Exec& ex, int64_t count, const F& f) {
  if (count == 0) return;  // a grid of 0 blocks is a launch error
  const int64_t blocks = (count + kEachThreads - 1) / kEachThreads;
  const dim3 grid(static_cast<unsigned>(blocks < kEachBlocks ? blocks : kEachBlocks));
  CONVOY_LAUNCH(each_kernel<F>, grid, dim3(kEachThreads), 0, stream(ex), count, f);
  CONVOY_CUDA(cudaGetLastError());
}

}  // namespace convoy::cuda
