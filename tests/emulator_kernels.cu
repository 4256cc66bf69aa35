#include "emulator_kernels.h"
#include "kernels/mma.cuh"

namespace convoy::emulated {
namespace {

constexpr int kReduceThreads = 128;

template <Bug kBug>
__global__ void reduce_kernel(const float* x, int n, float* total) {
  CONVOY_SHARED(float, parts, [kReduceThreads / 32]);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  float sum = 0;
  for (int i = static_cast<int>(blockIdx.x) * kReduceThreads + thread; i < n;
       i += static_cast<int>(gridDim.x) * kReduceThreads) {
    sum += x[i];
  }
  if (kBug == Bug::kExitedLanes && lane >= 16) return;
  if (kBug == Bug::kTwoCollectives && lane < 16) sum += __shfl_xor_sync(~0u, sum, 1);
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(~0u, sum, step);
  if (lane == 0) parts[warp] = sum;
  if (kBug == Bug::kOverrun && thread == 0) parts[min(n, kReduceThreads / 32)] = 0;
  if (kBug == Bug::kTwoLines && warp == 1) {
    __syncthreads();
  } else if (kBug == Bug::kDivergent) {
    if (warp == 0) __syncthreads();
  } else if (kBug != Bug::kNoBarrier) {
    __syncthreads();
  }
  if (thread == 0) {
    for (int i = 1; i < kReduceThreads / 32; ++i) sum += parts[i];
    atomicAdd(total, sum);
  }
}

template <Bug kBug>
__global__ void transpose_kernel(const float* x, int rows, int columns, float* y) {
  CONVOY_SHARED(float, tile, [32][33]);
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  const int row = static_cast<int>(blockIdx.y) * 32, column = static_cast<int>(blockIdx.x) * 32;
  for (int j = ty; j < 32; j += 8) {
    if (row + j < rows && column + tx < columns) tile[j][tx] = x[(row + j) * columns + column + tx];
  }
  if (kBug != Bug::kNoBarrier) __syncthreads();
  const int end = kBug == Bug::kUnwritten ? columns - 1 : kBug == Bug::kDeviceOverrun ? columns + 1 : columns;
  for (int j = ty; j < 32; j += 8) {
    if (column + j < end && row + tx < rows) {
      y[(column + j) * rows + row + tx] = column + j < columns ? tile[tx][j] : 0;
    }
  }
}

// Threads 32 x 8: each computes 4 elements of a 32 x 32 tile, and copies one float4 of each operand's.
template <Bug kBug>
__global__ void multiply_kernel(const float* a, const float* b, float* c, int m, int n, int k) {
  CONVOY_SHARED(float, as, [2][32][32]);
  CONVOY_SHARED(float, bs, [2][32][32]);
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y), thread = ty * 32 + tx;
  const int row = static_cast<int>(blockIdx.y) * 32, column = static_cast<int>(blockIdx.x) * 32;
  const int r = thread / 8, q = thread % 8 * 4;  // what this thread copies

  const auto fetch = [&](int stage, int k0) {
    const bool in_a = row + r < m && k0 + q < k, in_b = k0 + r < k && column + q < n;
    cp_async<16>(&as[stage][r][q], in_a ? &a[(row + r) * k + k0 + q] : a, in_a ? 16 : 0);
    cp_async<16>(&bs[stage][r][q], in_b ? &b[(k0 + r) * n + column + q] : b, in_b ? 16 : 0);
    cp_async_commit();
  };

  float sum[4] = {};
  fetch(0, 0);
  for (int k0 = 0, stage = 0; k0 < k; k0 += 32, stage ^= 1) {
    if (kBug == Bug::kReleasedEarly) fetch(stage ^ 1, k0 + 32);  // others still multiply what is there
    if (kBug == Bug::kReleasedEarly) cp_async_wait<1>();
    if (kBug != Bug::kNoWait && kBug != Bug::kReleasedEarly) cp_async_wait<0>();
    __syncthreads();
    if (kBug != Bug::kReleasedEarly) fetch(stage ^ 1, k0 + 32);
    for (int i = 0; i < 32; ++i) {
      for (int j = 0; j < 4; ++j) sum[j] += as[stage][ty + 8 * j][i] * bs[stage][i][tx];
    }
  }
  cp_async_wait<0>();
  for (int j = 0; j < 4; ++j) {
    if (row + ty + 8 * j < m && column + tx < n) c[(row + ty + 8 * j) * n + column + tx] = sum[j];
  }
}

// Four warps, each 16 x 16 of the block's 32 x 32; rows of shared memory are 40 elements apart, so that the
// eight rows of an ldmatrix lie in different banks.
constexpr int kPitch = 40;
__global__ void multiply_bf16_kernel(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int n, int k) {
  CONVOY_DYNAMIC_SHARED(__nv_bfloat16, memory);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int row = static_cast<int>(blockIdx.y) * 32, column = static_cast<int>(blockIdx.x) * 32;
  __nv_bfloat16* as[2] = {memory, memory + 32 * kPitch};
  __nv_bfloat16* bs[2] = {memory + 64 * kPitch, memory + 96 * kPitch};

  const auto fetch = [&](int stage, int k0) {
    const int r = thread / 4, q = thread % 4 * 8;
    const int bytes = k0 < k ? 16 : 0;
    cp_async<16>(as[stage] + r * kPitch + q, bytes ? a + (row + r) * k + k0 + q : a, bytes);
    cp_async<16>(bs[stage] + r * kPitch + q, bytes ? b + (column + r) * k + k0 + q : b, bytes);
    cp_async_commit();
  };

  float d[2][4] = {};
  const int warp_row = warp / 2 * 16, warp_column = warp % 2 * 16;
  fetch(0, 0);
  for (int k0 = 0, stage = 0; k0 < k; k0 += 32, stage ^= 1) {
    cp_async_wait<0>();
    __syncthreads();
    fetch(stage ^ 1, k0 + 32);
    for (int kk = 0; kk < 32; kk += 16) {
      uint32_t af[4], bf[4];
      ldmatrix(af, as[stage] + (warp_row + lane % 16) * kPitch + kk + lane / 16 * 8);
      ldmatrix(bf, bs[stage] + (warp_column + lane % 8 + lane / 16 * 8) * kPitch + kk + lane / 8 % 2 * 8);
      for (int j = 0; j < 2; ++j) {
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
        const uint32_t pair[2] = {bf[2 * j], bf[2 * j + 1]};
        mma_m16n8k16_bf16(d[j], af, pair);
#endif
      }
    }
  }
  cp_async_wait<0>();
  for (int j = 0; j < 2; ++j) {
    for (int i = 0; i < 4; ++i) {
      const int r = row + warp_row + lane / 4 + 8 * (i / 2);
      c[r * n + column + warp_column + 8 * j + 2 * (lane % 4) + i % 2] = d[j][i];
    }
  }
}

__global__ void multiply_wmma_kernel(const __half* a, const __half* b, float* c, int k) {
  uint32_t af[8], bf[8];
  float d[8] = {};
  for (int i = 0; i < k; i += 16) {
    wmma_load_a(af, a + i, k);
    wmma_load_b(bf, b + i, k);
    wmma_mma(d, af, bf);
  }
  wmma_store(c, d, 16);
}

__device__ uint32_t two(__half x, __half y) {
  return __half_as_ushort(x) | static_cast<uint32_t>(__half_as_ushort(y)) << 16;
}

__device__ void store_fragment(float* to, const float (&d)[4]) {
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 4; ++i) to[(lane / 4 + 8 * (i / 2)) * 8 + 2 * (lane % 4) + i % 2] = d[i];
}

__global__ void multiply_small_f16_kernel(const __half* a, const __half* b, float* to) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const uint32_t af[2] = {two(a[g * 8 + 2 * t], a[g * 8 + 2 * t + 1]),
                          two(a[(g + 8) * 8 + 2 * t], a[(g + 8) * 8 + 2 * t + 1])};
  const uint32_t bf[1] = {two(b[g * 8 + 2 * t], b[g * 8 + 2 * t + 1])};
  float d[4] = {};
  mma_m16n8k8_f16(d, af, bf);
  store_fragment(to, d);
}

__global__ void multiply_small_tf32_kernel(const float* a, const float* b, float* to) {
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const uint32_t af[4] = {to_tf32(a[g * 8 + t]), to_tf32(a[(g + 8) * 8 + t]), to_tf32(a[g * 8 + t + 4]),
                          to_tf32(a[(g + 8) * 8 + t + 4])};
  const uint32_t bf[2] = {to_tf32(b[g * 8 + t]), to_tf32(b[g * 8 + t + 4])};
  float d[4] = {};
  mma_m16n8k8_tf32(d, af, bf);
  store_fragment(to, d);
#endif
}

__global__ void transpose_matrices_kernel(const __half* x, __half* y) {
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 900
  CONVOY_SHARED(__half, in, [32][8]);
  CONVOY_SHARED(__half, out, [32][8]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) in[lane][i] = x[lane * 8 + i];
  __syncwarp();
  uint32_t r[4];
  ldmatrix_transposed(r, in[lane]);
  stmatrix(out[lane], r);
  __syncwarp();
  for (int i = 0; i < 8; ++i) y[lane * 8 + i] = out[lane][i];
#endif
}

__global__ void collectives_kernel(const int* x, int* out) {
  const int lane = static_cast<int>(threadIdx.x), v = x[lane];
  const unsigned half = lane < 16 ? 0xffffu : 0xffff0000u;
  int row = 0;
  const auto put = [&](int value) { out[32 * row++ + lane] = value; };
  put(__shfl_sync(~0u, v, 5));
  put(__shfl_sync(~0u, v, 9, 8));
  put(__shfl_up_sync(~0u, v, 3));
  put(__shfl_down_sync(~0u, v, 3, 16));
  put(__shfl_xor_sync(~0u, v, 7));
  put(static_cast<int>(__ballot_sync(~0u, v & 1)));
  put(__any_sync(~0u, v == 0));
  put(__all_sync(~0u, v != 1));
  put(__shfl_xor_sync(half, v, 1));
  put(static_cast<int>(__activemask()));
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
  put(__reduce_add_sync(half, v));
  put(__reduce_max_sync(~0u, v));
#endif
  put(static_cast<int>(__match_any_sync(~0u, v & 3)));
}

__global__ void hand_over_kernel(bool skip, const int* x, int* y) {
  CONVOY_SHARED(int, values, [64]);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < 64) {
    values[thread] = x[thread];
    barrier_arrive(1, 128);
  } else {
    if (!skip) barrier_sync(1, 128);
    y[thread - 64] = 2 * values[thread - 64];
  }
}

template <Bug kBug>
__global__ void histogram_kernel(const int* x, int n, int* counts, int* most, int* votes) {
  CONVOY_SHARED(int, bins, [16]);
  CONVOY_SHARED(int, largest, );
  const int thread = static_cast<int>(threadIdx.x);
  if (kBug != Bug::kUninitialised && thread < 16) bins[thread] = 0;
  if (thread == 0) largest = 0;
  __syncthreads();
  for (int i = thread; i < n; i += static_cast<int>(blockDim.x)) {
    atomicAdd(&bins[x[i]], 1);
    atomicMax(&largest, x[i]);
  }
  if (kBug != Bug::kAtomicThenRead) __syncthreads();
  if (thread < 16) counts[thread] = bins[thread];
  if (thread == 0) *most = largest;
  const int odd = x[thread] & 1;
  const int count = __syncthreads_count(odd), any = __syncthreads_or(odd), all = __syncthreads_and(odd);
  if (thread == 0) {
    votes[0] = count;
    votes[1] = any;
    votes[2] = all;
  }
}

__global__ void locked_sum_kernel(int* lock, int* sum) {
  while (atomicCAS(lock, 0, 1) != 0) __nanosleep(20);
  __threadfence();
  *sum += static_cast<int>(threadIdx.x);
  __threadfence();
  atomicExch(lock, 0);
}

__global__ void neighbours_kernel(bool skip, const float* x, float* y) {
  CONVOY_SHARED(float, values, [32]);
  const int lane = static_cast<int>(threadIdx.x);
  values[lane] = 0;
  __syncwarp();
  values[lane] = x[lane];
  if (!skip) __syncwarp();
  y[lane] = values[lane ^ 1];
}

__global__ void copy_kernel(const float* x, float* y, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = x[i];
}

}  // namespace

void reduce(Bug bug, const float* x, int n, float* total) {
  const auto launch = [&](auto kernel) { CONVOY_LAUNCH(kernel, 3, kReduceThreads, 0, nullptr, x, n, total); };
  switch (bug) {
    case Bug::kNoBarrier:
      return launch(reduce_kernel<Bug::kNoBarrier>);
    case Bug::kOverrun:
      return launch(reduce_kernel<Bug::kOverrun>);
    case Bug::kDivergent:
      return launch(reduce_kernel<Bug::kDivergent>);
    case Bug::kTwoLines:
      return launch(reduce_kernel<Bug::kTwoLines>);
    case Bug::kExitedLanes:
      return launch(reduce_kernel<Bug::kExitedLanes>);
    case Bug::kTwoCollectives:
      return launch(reduce_kernel<Bug::kTwoCollectives>);
    default:
      return launch(reduce_kernel<Bug::kNone>);
  }
}

void transpose(Bug bug, const float* x, int rows, int columns, float* y) {
  const dim3 grid(static_cast<unsigned>(columns + 31) / 32, static_cast<unsigned>(rows + 31) / 32),
      block(32, 8);
  const auto launch = [&](auto kernel) {
    CONVOY_LAUNCH(kernel, grid, block, 0, nullptr, x, rows, columns, y);
  };
  switch (bug) {
    case Bug::kNoBarrier:
      return launch(transpose_kernel<Bug::kNoBarrier>);
    case Bug::kUnwritten:
      return launch(transpose_kernel<Bug::kUnwritten>);
    case Bug::kDeviceOverrun:
      return launch(transpose_kernel<Bug::kDeviceOverrun>);
    default:
      return launch(transpose_kernel<Bug::kNone>);
  }
}

void multiply(Bug bug, const float* a, const float* b, float* c, int m, int n, int k) {
  const dim3 grid(static_cast<unsigned>(n + 31) / 32, static_cast<unsigned>(m + 31) / 32), block(32, 8);
  const auto launch = [&](auto kernel) { CONVOY_LAUNCH(kernel, grid, block, 0, nullptr, a, b, c, m, n, k); };
  switch (bug) {
    case Bug::kNoWait:
      return launch(multiply_kernel<Bug::kNoWait>);
    case Bug::kReleasedEarly:
      return launch(multiply_kernel<Bug::kReleasedEarly>);
    default:
      return launch(multiply_kernel<Bug::kNone>);
  }
}

void multiply_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k) {
  const dim3 grid(static_cast<unsigned>(n) / 32, static_cast<unsigned>(m) / 32);
  CONVOY_LAUNCH(multiply_bf16_kernel, grid, 128, 128 * kPitch * sizeof(__nv_bfloat16), nullptr, a, b, c, n,
                k);
}
void multiply_wmma(const __half* a, const __half* b, float* c, int k) {
  CONVOY_LAUNCH(multiply_wmma_kernel, 1, 32, 0, nullptr, a, b, c, k);
}
void multiply_small_f16(const __half* a, const __half* b, float* d) {
  CONVOY_LAUNCH(multiply_small_f16_kernel, 1, 32, 0, nullptr, a, b, d);
}
void multiply_small_tf32(const float* a, const float* b, float* d) {
  CONVOY_LAUNCH(multiply_small_tf32_kernel, 1, 32, 0, nullptr, a, b, d);
}
void transpose_matrices(const __half* x, __half* y) {
  CONVOY_LAUNCH(transpose_matrices_kernel, 1, 32, 0, nullptr, x, y);
}
void collectives(const int* x, int* out) {
  CONVOY_LAUNCH(collectives_kernel, 1, 32, 0, nullptr, x, out);
}
void hand_over(bool skip, const int* x, int* y) {
  CONVOY_LAUNCH(hand_over_kernel, 1, 128, 0, nullptr, skip, x, y);
}
void histogram(Bug bug, const int* x, int n, int* counts, int* most, int* votes) {
  const auto launch = [&](auto kernel) {
    CONVOY_LAUNCH(kernel, 1, 96, 0, nullptr, x, n, counts, most, votes);
  };
  switch (bug) {
    case Bug::kUninitialised:
      return launch(histogram_kernel<Bug::kUninitialised>);
    case Bug::kAtomicThenRead:
      return launch(histogram_kernel<Bug::kAtomicThenRead>);
    default:
      return launch(histogram_kernel<Bug::kNone>);
  }
}
void locked_sum(int* lock, int* sum) {
  CONVOY_LAUNCH(locked_sum_kernel, 1, 64, 0, nullptr, lock, sum);
}
void neighbours(bool skip, const float* x, float* y) {
  CONVOY_LAUNCH(neighbours_kernel, 1, 32, 0, nullptr, skip, x, y);
}
void copy(const float* x, float* y, int n) {
  CONVOY_LAUNCH(copy_kernel, static_cast<unsigned>(n + 127) / 128, 128, 0, nullptr, x, y, n);
}

}  // namespace convoy::emulated
