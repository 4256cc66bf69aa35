// Elementwise work on the GPU: one launch for any function of an index, and for any function of numbers.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/cuda.h"
#include "kernels/launch.cuh"

namespace convoy::cuda {

constexpr int kEachThreads = 256;
constexpr int64_t kEachBlocks = 65536;  // then every thread takes several elements

inline dim3 each_grid(int64_t items) {
  const int64_t blocks = (items + kEachThreads - 1) / kEachThreads;
  return dim3(static_cast<unsigned>(blocks < kEachBlocks ? blocks : kEachBlocks));
}

template <class F>
__global__ void __launch_bounds__(kEachThreads) each_kernel(int64_t count, F f) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) f(i);
}

// f(i) for i in [0, count), in any order, queued on the Exec.
template <class F>
void each(const Exec& ex, int64_t count, const F& f) {
  if (count == 0) return;  // a grid of 0 blocks is a launch error
  CONVOY_LAUNCH(each_kernel<F>, each_grid(count), dim3(kEachThreads), 0, stream(ex), count, f);
  CONVOY_CUDA(cudaGetLastError());
}

// ---- Vectors. A thread that moves 16 bytes at a time needs the fewest instructions, and memory likes it best.
constexpr int kVectorBytes = 16;

// Elements that lie together, loaded and stored in pieces of up to 16 bytes.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount < kVectorBytes ? sizeof(T) * kCount : kVectorBytes) Pack {
  T v[kCount];
};
template <int kCount, class T>
__device__ __forceinline__ Pack<T, kCount> load(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}
template <class T, int kCount>
__device__ __forceinline__ void store(T* to, const Pack<T, kCount>& pack) {
  *reinterpret_cast<Pack<T, kCount>*>(to) = pack;
}
template <class T, int kCount>
__device__ __forceinline__ void store_floats(T* to, const float (&values)[kCount]) {
  Pack<T, kCount> pack;
  for (int j = 0; j < kCount; ++j) pack.v[j] = T(values[j]);
  store(to, pack);
}

// Whether all of them are multiples of `bytes`; null pointers are.
template <class... Pointers>
bool aligned(int64_t bytes, Pointers... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % static_cast<uintptr_t>(bytes) == 0) && ...);
}

template <int kPack, class Y, class F, class... X>
__device__ __forceinline__ void map_pack(Y* y, const F& f, const Pack<X, kPack>&... x) {
  Pack<Y, kPack> out;
  for (int j = 0; j < kPack; ++j) out.v[j] = Y(f(static_cast<float>(x.v[j])...));
  store(y, out);
}

// Items [0, packs) are packs, the others the elements behind them.
template <int kPack, class Y, class F, class... X>
__global__ void __launch_bounds__(kEachThreads)
    map_kernel(int64_t packs, int64_t count, F f, Y* y, const X*... x) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x, items = count - packs * (kPack - 1);
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += step) {
    if (i < packs) {
      map_pack<kPack>(y + i * kPack, f, load<kPack>(x + i * kPack)...);
    } else {
      const int64_t e = i + packs * (kPack - 1);
      y[e] = Y(f(static_cast<float>(x[e])...));
    }
  }
}

// y[i] = f(x[i], ...), computed in f32; y may be any x.
template <class Y, class F, class... X>
void map(const Exec& ex, int64_t count, Y* y, const F& f, const X*... x) {
  if (count == 0) return;
  constexpr size_t kSmallest = std::min({sizeof(Y), sizeof(X)...});
  constexpr int kPack = kVectorBytes / static_cast<int>(kSmallest);
  const int64_t packs = aligned(kVectorBytes, y, x...) ? count / kPack : 0;
  const dim3 grid = each_grid(count - packs * (kPack - 1));
  CONVOY_LAUNCH((map_kernel<kPack, Y, F, X...>), grid, dim3(kEachThreads), 0, stream(ex), packs, count, f, y,
                x...);
  CONVOY_CUDA(cudaGetLastError());
}

// y = f(operands...), all of one type and shape.
struct Operand {
  In view;
  const char* name;
};
template <class F, class... Operands>
void map_views(const Exec& ex, const Shape& shape, const Out& y, const char* y_name, const F& f,
               const Operands&... x) {
  with_float(y.dtype, [&](auto zero) {
    using T = decltype(zero);
    map(ex, shape.count(), operand<T>(y, shape, y_name), f, operand<T>(x.view, shape, x.name)...);
  });
}

}  // namespace convoy::cuda
