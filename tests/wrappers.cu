#include "kernels/mma.cuh"
#include "wrappers.h"

namespace convoy::wrappers {
namespace {

__device__ int lane_of() {
  return static_cast<int>(threadIdx.x) % 32;
}

template <int kBytes>
__global__ void copy_async_kernel(int source_bytes, const uint8_t* x, uint8_t* y) {
  CONVOY_SHARED(uint4, tile, [32]);
  const int lane = lane_of();
  tile[lane] = make_uint4(0x55555555, 0x55555555, 0x55555555, 0x55555555);
  cp_async<kBytes>(&tile[lane], x + 16 * lane, source_bytes);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  reinterpret_cast<uint4*>(y)[lane] = tile[lane];
}

template <int kCount, bool kTransposed>
__global__ void load_matrices_kernel(const uint16_t* rows, uint32_t* out) {
  CONVOY_SHARED(uint4, tile, [32]);
  const int lane = lane_of();
  tile[lane] = reinterpret_cast<const uint4*>(rows)[lane];
  __syncwarp();
  uint32_t r[kCount];
  if (kTransposed) {
    ldmatrix_transposed(r, &tile[lane]);
  } else {
    ldmatrix(r, &tile[lane]);
  }
  for (int i = 0; i < kCount; ++i) out[lane * kCount + i] = r[i];
}

template <bool kTransposed>
__global__ void store_matrices_kernel(const uint32_t* in, uint16_t* rows) {
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 900
  CONVOY_SHARED(uint4, tile, [32]);
  const int lane = lane_of();
  const uint32_t r[4] = {in[lane * 4], in[lane * 4 + 1], in[lane * 4 + 2], in[lane * 4 + 3]};
  if (kTransposed) {
    stmatrix_transposed(&tile[lane], r);
  } else {
    stmatrix(&tile[lane], r);
  }
  __syncwarp();
  reinterpret_cast<uint4*>(rows)[lane] = tile[lane];
#endif
}

template <Product kProduct>
__global__ void multiply_kernel(const uint32_t* a, const uint32_t* b, const float* c, float* to) {
  constexpr int kA = kProduct == Product::kF16K8 ? 2 : 4, kB = kProduct == Product::kF16K8 ? 1 : 2;
  const int lane = lane_of();
  uint32_t ra[kA], rb[kB];
  float d[4];
  for (int i = 0; i < kA; ++i) ra[i] = a[lane * kA + i];
  for (int i = 0; i < kB; ++i) rb[i] = b[lane * kB + i];
  for (int i = 0; i < 4; ++i) d[i] = c[lane * 4 + i];
  if constexpr (kProduct == Product::kF16K8) mma_m16n8k8_f16(d, ra, rb);
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
  if constexpr (kProduct == Product::kF16K16) mma_m16n8k16_f16(d, ra, rb);
  if constexpr (kProduct == Product::kBF16K16) mma_m16n8k16_bf16(d, ra, rb);
  if constexpr (kProduct == Product::kTF32K8) mma_m16n8k8_tf32(d, ra, rb);
#endif
  for (int i = 0; i < 4; ++i) to[lane * 4 + i] = d[i];
}

__global__ void round_tf32_kernel(const float* x, uint32_t* y) {
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
  y[lane_of()] = to_tf32(x[lane_of()]);
#endif
}

__global__ void multiply_wmma_kernel(const __half* a, const __half* b, float* to) {
  uint32_t ra[8], rb[8];
  float d[8] = {};
  wmma_load_a(ra, a, 24);
  wmma_load_b(rb, b, 24);
  wmma_mma(d, ra, rb);
  wmma_mma(d, ra, rb);
  wmma_store(to, d, 24);
}

__global__ void hand_over_kernel(const int* x, int* y) {
  CONVOY_SHARED(int, values, [64]);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 64) {
    values[thread] = x[thread];
    barrier_arrive(3, 128);
  } else {
    barrier_sync(3, 128);
    y[thread - 64] = values[thread - 64] + 1;
  }
}

}  // namespace

void copy_async(int bytes, int source_bytes, const uint8_t* x, uint8_t* y) {
  const auto launch = [&](auto kernel) { CONVOY_LAUNCH(kernel, 1, 32, 0, nullptr, source_bytes, x, y); };
  bytes == 4   ? launch(copy_async_kernel<4>)
  : bytes == 8 ? launch(copy_async_kernel<8>)
               : launch(copy_async_kernel<16>);
}
void load_matrices(int count, bool transposed, const uint16_t* rows, uint32_t* r) {
  const auto launch = [&](auto plain, auto other) {
    CONVOY_LAUNCH((transposed ? other : plain), 1, 32, 0, nullptr, rows, r);
  };
  count == 1   ? launch(load_matrices_kernel<1, false>, load_matrices_kernel<1, true>)
  : count == 2 ? launch(load_matrices_kernel<2, false>, load_matrices_kernel<2, true>)
               : launch(load_matrices_kernel<4, false>, load_matrices_kernel<4, true>);
}
void store_matrices(bool transposed, const uint32_t* r, uint16_t* rows) {
  CONVOY_LAUNCH((transposed ? store_matrices_kernel<true> : store_matrices_kernel<false>), 1, 32, 0, nullptr,
                r, rows);
}
void multiply(Product product, const uint32_t* a, const uint32_t* b, const float* c, float* d) {
  const auto launch = [&](auto kernel) { CONVOY_LAUNCH(kernel, 1, 32, 0, nullptr, a, b, c, d); };
  switch (product) {
    case Product::kF16K8:
      return launch(multiply_kernel<Product::kF16K8>);
    case Product::kF16K16:
      return launch(multiply_kernel<Product::kF16K16>);
    case Product::kBF16K16:
      return launch(multiply_kernel<Product::kBF16K16>);
    case Product::kTF32K8:
      return launch(multiply_kernel<Product::kTF32K8>);
  }
}
void round_tf32(const float* x, uint32_t* y) {
  CONVOY_LAUNCH(round_tf32_kernel, 1, 32, 0, nullptr, x, y);
}
void multiply_wmma(const __half* a, const __half* b, float* d) {
  CONVOY_LAUNCH(multiply_wmma_kernel, 1, 32, 0, nullptr, a, b, d);
}
void hand_over(const int* x, int* y) {
  CONVOY_LAUNCH(hand_over_kernel, 1, 128, 0, nullptr, x, y);
}

}  // namespace convoy::wrappers
