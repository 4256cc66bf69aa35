#include <cfloat>
#include <climits>

#include "kernels/each.cuh"
#include "kernels/fill.h"

namespace convoy::cuda {
namespace {

struct Constant {
  float value;
  __device__ float operator()() const { return value; }
};
struct Scaled {
  float factor;
  __device__ float operator()(float y) const { return y * factor; }
};

constexpr unsigned kCountBlocks = 1024;  // a few for each multiprocessor

// Whole numbers: the order in which they arrive does not matter.
__device__ void add_up_to_largest(int32_t* total, int32_t more) {
  for (int32_t seen = 0;;) {
    const int32_t sum = seen > INT_MAX - more ? INT_MAX : seen + more;
    const int32_t old = atomicCAS(total, seen, sum);
    if (old == seen) return;
    seen = old;
  }
}

template <int kPack, class T>
__global__ void __launch_bounds__(kEachThreads)
    count_kernel(int64_t packs, int64_t count, const T* x, int32_t* out) {
  const auto nonfinite = [](float v) { return fabsf(v) <= FLT_MAX ? 0 : 1; };
  const int64_t step = int64_t{gridDim.x} * blockDim.x, items = count - packs * (kPack - 1);
  int32_t found = 0;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < items; i += step) {
    if (i < packs) {
      const Pack<T, kPack> pack = load<kPack>(x + i * kPack);
      for (int j = 0; j < kPack; ++j) found += nonfinite(static_cast<float>(pack.v[j]));
    } else {
      found += nonfinite(static_cast<float>(x[i + packs * (kPack - 1)]));
    }
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) found += __shfl_xor_sync(~0u, found, lanes);
  if (threadIdx.x % 32 == 0 && found > 0) add_up_to_largest(out, found);
}

}  // namespace

void fill(Exec& ex, const FillArgs& a) {
  map_views(ex, a.y.shape, a.y, "y", Constant{a.value});
}

void scale(Exec& ex, const ScaleArgs& a) {
  map_views(ex, a.y.shape, a.y, "y", Scaled{a.factor}, Operand{a.y, "y"});
}

void count_nonfinite(Exec& ex, const CountNonfinite& a) {
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = operand<T>(a.x, a.x.shape, "x");
    int32_t* out = operand<int32_t>(a.out, Shape{1}, "out");
    CONVOY_CUDA(cudaMemsetAsync(out, 0, sizeof(int32_t), stream(ex)));
    constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
    const int64_t count = a.x.count(), packs = aligned(kVectorBytes, x) ? count / kPack : 0;
    if (count == 0) return;
    const dim3 all = each_grid(count - packs * (kPack - 1));
    const dim3 grid(all.x < kCountBlocks ? all.x : kCountBlocks);
    CONVOY_LAUNCH((count_kernel<kPack, T>), grid, dim3(kEachThreads), 0, stream(ex), packs, count, x, out);
    CONVOY_CUDA(cudaGetLastError());
  });
}

}  // namespace convoy::cuda
