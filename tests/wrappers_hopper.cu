#include "kernels/hopper.cuh"
#include "wrappers.h"

namespace convoy::wrappers {
namespace {

__device__ unsigned char* aligned(unsigned char* memory) {
  return memory + (1024 - reinterpret_cast<uintptr_t>(memory) % 1024) % 1024;
}

__global__ void load_box_kernel(const __grid_constant__ CUtensorMap map, Box box, uint8_t* out) {
  CONVOY_DYNAMIC_SHARED(unsigned char, memory);
  CONVOY_SHARED(uint64_t, landed, );
  unsigned char* const tile = aligned(memory);
  const int *at = box.at, thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    prefetch_tensor_map(map);
    mbarrier_init(&landed, 1);
    fence_mbarrier_init();
    mbarrier_arrive_expect(&landed, box.bytes);
    if (box.im2col) {
      tma_load_im2col(tile, map, &landed, at[0], at[1], at[2], at[3], box.offsets[0], box.offsets[1]);
    } else if (box.rank == 2) {
      tma_load(tile, map, &landed, at[0], at[1]);
    } else if (box.rank == 3) {
      tma_load(tile, map, &landed, at[0], at[1], at[2]);
    } else {
      tma_load(tile, map, &landed, at[0], at[1], at[2], at[3]);
    }
  }
  __syncthreads();
  mbarrier_wait(&landed, 0);
  for (uint32_t i = threadIdx.x; i < box.bytes; i += blockDim.x) out[i] = tile[i];
}

__global__ void store_box_kernel(const __grid_constant__ CUtensorMap map, Box box, bool add,
                                 const uint8_t* in) {
  CONVOY_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char* const tile = aligned(memory);
  const int* at = box.at;
  for (uint32_t i = threadIdx.x; i < box.bytes; i += blockDim.x) tile[i] = in[i];
  fence_proxy_async();
  __syncthreads();
  if (threadIdx.x != 0) return;
  if (box.rank == 2) {
    add ? tma_add(map, tile, at[0], at[1]) : tma_store(map, tile, at[0], at[1]);
  } else if (box.rank == 3) {
    add ? tma_add(map, tile, at[0], at[1], at[2]) : tma_store(map, tile, at[0], at[1], at[2]);
  } else {
    add ? tma_add(map, tile, at[0], at[1], at[2], at[3]) : tma_store(map, tile, at[0], at[1], at[2], at[3]);
  }
  bulk_commit();
  bulk_wait_read<0>();
  bulk_wait<0>();
}

__device__ uint64_t matrix(const unsigned char* image, const Operand& o, int step) {
  return wgmma_matrix(image + o.start + static_cast<uint32_t>(step) * o.step, o.leading, o.stride,
                      static_cast<Swizzle>(o.swizzle));
}

template <int kN, class T, bool kRegisters, Major kMajorA, Major kMajorB>
__global__ void __launch_bounds__(128, 1)
    multiply_group_kernel(const uint8_t* in, uint32_t image_bytes, Operand a, const uint32_t* registers,
                          Operand b, bool keep, float* to) {
  CONVOY_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char* const image = aligned(memory);
  const int thread = static_cast<int>(threadIdx.x);
  for (uint32_t i = threadIdx.x; i < image_bytes / 4; i += blockDim.x) {
    reinterpret_cast<uint32_t*>(image)[i] = reinterpret_cast<const uint32_t*>(in)[i];
  }
  fence_proxy_async();
  __syncthreads();
  float d[kN / 2];
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) d[i] = to[thread * (kN / 2) + i];
  if constexpr (kRegisters) {
    uint32_t r[kSteps][4];
    for (int step = 0; step < kSteps; ++step) {
      for (int i = 0; i < 4; ++i) r[step][i] = registers[(step * 128 + thread) * 4 + i];
    }
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      wgmma<kN, T, kMajorB>(d, r[step], matrix(image, b, step), keep || step > 0);
    }
  } else {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      wgmma<kN, T, kMajorA, kMajorB>(d, matrix(image, a, step), matrix(image, b, step), keep || step > 0);
    }
  }
  wgmma_commit();
  wgmma_wait<0>();
  wgmma_hold(d);
#pragma unroll
  for (int i = 0; i < kN / 2; ++i) to[thread * (kN / 2) + i] = d[i];
}

__global__ void mbarriers_kernel(const int* x, int* out) {
  CONVOY_SHARED(uint64_t, barrier, );
  CONVOY_SHARED(int, values, [64]);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) {
    mbarrier_init(&barrier, 1);
    out[0] = mbarrier_try_wait(&barrier, 1);  // the phase before the first: 1
    out[1] = mbarrier_try_wait(&barrier, 0);  // 0
    mbarrier_arrive(&barrier);
    out[2] = mbarrier_try_wait(&barrier, 0);  // 1
    out[3] = mbarrier_try_wait(&barrier, 1);  // 0
    mbarrier_arrive_expect(&barrier, 0);
    out[4] = mbarrier_try_wait(&barrier, 1);  // 1
    out[5] = mbarrier_try_wait(&barrier, 0);  // 0
    mbarrier_inval(&barrier);
    mbarrier_init(&barrier, 32);
    out[6] = mbarrier_try_wait(&barrier, 1);  // 1
    out[7] = mbarrier_try_wait(&barrier, 0);  // 0
  }
  __syncthreads();
  if (thread < 32) {
    values[thread] = x[thread];
    values[thread + 32] = x[thread + 32];
    mbarrier_arrive(&barrier);
  } else {
    mbarrier_wait(&barrier, 0);
    for (int i = thread - 32; i < 64; i += 32) out[8 + i] = values[i] + 1;
  }
}

__global__ void __launch_bounds__(256, 1) roles_kernel(int* out) {
  grid_wait();
  if (threadIdx.x < 128) {
    registers_fewer<40>();
  } else {
    registers_more<232>();
  }
  const bool elected = elect_one(), again = elect_one();
  const int count = __popc(__ballot_sync(~0u, elected));
  const bool agree = __all_sync(~0u, elected == again) != 0;
  grid_launch_next();
  if (elected) out[threadIdx.x / 32] = agree ? count : -1;
}

}  // namespace

void load_box(const CUtensorMap& map, const Box& box, uint8_t* out) {
  cudaFuncSetAttribute(load_box_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 160 << 10);
  CONVOY_LAUNCH(load_box_kernel, 1, 64, box.bytes + 1024, nullptr, map, box, out);
}
void store_box(const CUtensorMap& map, const Box& box, bool add, const uint8_t* in) {
  CONVOY_LAUNCH(store_box_kernel, 1, 64, box.bytes + 1024, nullptr, map, box, add, in);
}

bool multiply_group(int n, bool bf16, const uint8_t* image, uint32_t image_bytes, const Operand& a,
                    const uint32_t* registers, const Operand& b, bool keep, float* d) {
  const auto launch = [&](auto kernel) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 160 << 10);
    CONVOY_LAUNCH(kernel, 1, 128, image_bytes + 1024, nullptr, image, image_bytes, a, registers, b, keep, d);
    return true;
  };
  constexpr Major kK = Major::kK, kMN = Major::kMN;
  const auto all_kinds = [&](auto size, auto zero) {
    constexpr int kN = decltype(size)::value;
    using T = decltype(zero);
    if (registers) {
      return b.mn_major ? launch(multiply_group_kernel<kN, T, true, kK, kMN>)
                        : launch(multiply_group_kernel<kN, T, true, kK, kK>);
    }
    if (a.mn_major) {
      return b.mn_major ? launch(multiply_group_kernel<kN, T, false, kMN, kMN>)
                        : launch(multiply_group_kernel<kN, T, false, kMN, kK>);
    }
    return b.mn_major ? launch(multiply_group_kernel<kN, T, false, kK, kMN>)
                      : launch(multiply_group_kernel<kN, T, false, kK, kK>);
  };
  using std::integral_constant;
  if (n == 64) {
    return bf16 ? all_kinds(integral_constant<int, 64>(), __nv_bfloat16())
                : all_kinds(integral_constant<int, 64>(), __half());
  }
  if (n == 256) {
    return bf16 ? all_kinds(integral_constant<int, 256>(), __nv_bfloat16())
                : all_kinds(integral_constant<int, 256>(), __half());
  }
  if (registers || !bf16 || a.mn_major || b.mn_major) return false;
  switch (n) {
    case 16:
      return launch(multiply_group_kernel<16, __nv_bfloat16, false, kK, kK>);
    case 32:
      return launch(multiply_group_kernel<32, __nv_bfloat16, false, kK, kK>);
    case 96:
      return launch(multiply_group_kernel<96, __nv_bfloat16, false, kK, kK>);
    case 128:
      return launch(multiply_group_kernel<128, __nv_bfloat16, false, kK, kK>);
    case 160:
      return launch(multiply_group_kernel<160, __nv_bfloat16, false, kK, kK>);
    case 192:
      return launch(multiply_group_kernel<192, __nv_bfloat16, false, kK, kK>);
    case 224:
      return launch(multiply_group_kernel<224, __nv_bfloat16, false, kK, kK>);
  }
  return false;
}

void mbarriers(const int* x, int* out) {
  CONVOY_LAUNCH(mbarriers_kernel, 1, 64, 0, nullptr, x, out);
}
void roles(int* out) {
  CONVOY_LAUNCH(roles_kernel, 1, 256, 0, nullptr, out);
}

}  // namespace convoy::wrappers
