#include "emulator_hopper_kernels.h"
#include "kernels/hopper.cuh"
#include "kernels/tensor_map.cuh"

namespace convoy::emulated {
namespace {

using Bug = HopperBug;
using bf16 = __nv_bfloat16;

constexpr int kPixels = 128, kFilters = 64, kChannels = 64;  // of a tile; a warpgroup has 64 pixels
constexpr int kStages = 3;
constexpr int kConsumers = 256, kThreads = kConsumers + 32;
constexpr uint32_t kRowBytes = kChannels * sizeof(bf16);
static_assert(kRowBytes == 128, "one row of the swizzle");
constexpr uint32_t kPixelBytes = kPixels * kRowBytes, kFilterBytes = kFilters * kRowBytes;
constexpr uint32_t kStageBytes = kPixelBytes + kFilterBytes;
constexpr uint32_t kSharedBytes = kStages * kStageBytes + kPixelBytes + 1024;

struct Sizes {
  int pixels, filters, width, height;  // of y
  int blocks, extent;                  // of 64 channels; of the filter
  int pad, stride, dilation;
  int filter_tiles, tiles;
};

template <bool kPolling>
__device__ void wait_for(uint64_t* barrier, uint32_t parity) {
  if (kPolling) {
    while (!mbarrier_try_wait(barrier, parity)) {
    }
  } else {
    mbarrier_wait(barrier, parity);
  }
}

__device__ uint32_t two(float x, float y) {
  const __nv_bfloat162 pair{bf16(x), bf16(y)};
  uint32_t bits;
  memcpy(&bits, &pair, 4);
  return bits;
}

template <Bug kBug, bool kPolling>
__global__ void __launch_bounds__(kThreads, 1)
    convolve_kernel(const __grid_constant__ CUtensorMap x, const __grid_constant__ CUtensorMap w,
                    const __grid_constant__ CUtensorMap y, Sizes s) {
  CONVOY_DYNAMIC_SHARED(unsigned char, memory);
  CONVOY_SHARED(uint64_t, full, [kStages]);
  CONVOY_SHARED(uint64_t, empty, [kStages]);
  unsigned char* const stages = memory + (1024 - reinterpret_cast<uintptr_t>(memory) % 1024) % 1024;
  unsigned char* const results = stages + kStages * kStageBytes;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32;

  if (thread == 0 && kBug != Bug::kNoInit) {
    for (int i = 0; i < kStages; ++i) {
      mbarrier_init(&full[i], 1);
      mbarrier_init(&empty[i], kConsumers / 128);
    }
    if (kBug != Bug::kNoInitFence) fence_mbarrier_init();
  }
  if (kBug != Bug::kNoInitBarrier) __syncthreads();

  const int steps = s.extent * s.extent * s.blocks;  // of 64 of k
  if (warp == kConsumers / 32) {
    if (!elect_one()) return;
    prefetch_tensor_map(x);
    prefetch_tensor_map(w);
    uint32_t i = 0;
    for (int tile = static_cast<int>(blockIdx.x); tile < s.tiles; tile += static_cast<int>(gridDim.x)) {
      const int pixel = tile / s.filter_tiles * kPixels, filter = tile % s.filter_tiles * kFilters;
      const int n = pixel / (s.width * s.height), p = pixel / s.width % s.height, q = pixel % s.width;
      for (int step = 0; step < steps; ++step, ++i) {
        const uint32_t stage = i % kStages, parity = i / kStages % 2;
        const int block = step % s.blocks, tap = step / s.blocks, row = tap / s.extent,
                  column = tap % s.extent;
        unsigned char* to = stages + stage * kStageBytes + (kBug == Bug::kMisaligned ? 128 : 0);
        wait_for<kPolling>(&empty[stage], kBug == Bug::kWrongParity ? parity : parity ^ 1);
        mbarrier_arrive_expect(&full[stage], kStageBytes - (kBug == Bug::kFewBytes    ? 128u
                                                            : kBug == Bug::kManyBytes ? -128u
                                                                                      : 0u));
        if (kBug == Bug::kExtraArrival) mbarrier_arrive(&full[stage]);
        tma_load_im2col(to, x, &full[stage], block * kChannels, q * s.stride - s.pad, p * s.stride - s.pad, n,
                        column * s.dilation, row * s.dilation);
        tma_load(to + kPixelBytes, w, &full[stage], block * kChannels, tap, filter);
      }
    }
    return;
  }

  const int group = warp / 4;
  unsigned char* const mine = results + group * (kPixelBytes / 2);
  uint32_t i = 0;
  for (int tile = static_cast<int>(blockIdx.x); tile < s.tiles; tile += static_cast<int>(gridDim.x)) {
    float d[kFilters / 2];
    uint32_t before = 0;
    for (int step = 0; step < steps; ++step, ++i) {
      const uint32_t stage = i % kStages, parity = i / kStages % 2;
      if (kBug != Bug::kNoFullWait)
        wait_for<kPolling>(&full[stage], kBug == Bug::kConsumerParity ? parity ^ 1 : parity);
      unsigned char* const a = stages + stage * kStageBytes + group * (kPixelBytes / 2);
      const unsigned char* const b = stages + stage * kStageBytes + kPixelBytes;
      if (kBug != Bug::kNoWgmmaFence) wgmma_fence();
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        wgmma<kFilters, bf16, Major::kK, Major::kK>(
            d, wgmma_matrix(a + 32 * k, 0, 8 * kRowBytes, Swizzle::k128),
            wgmma_matrix(b + 32 * k, 0, 8 * kRowBytes, Swizzle::k128), step > 0 || k > 0);
      }
      wgmma_commit();
      if (kBug == Bug::kOverwritten && thread == 0) a[0] = 0;
      if (kBug == Bug::kReadEarly && thread == 0 && d[0] == 1) a[0] = 0;
      if (kBug == Bug::kReleasedEarly && thread % 128 == 0) mbarrier_arrive(&empty[stage]);
      wgmma_wait<1>();
      if (kBug != Bug::kReleasedEarly && step > 0 && thread % 128 == 0) mbarrier_arrive(&empty[before]);
      before = stage;
    }
    wgmma_wait<0>();
    wgmma_hold(d);
    if (kBug != Bug::kReleasedEarly && thread % 128 == 0) mbarrier_arrive(&empty[before]);

    // To shared memory as rows of 128 bytes in the swizzle, 16 rows a warp, which has 16 columns at a time.
    if (kBug != Bug::kNoStoreWait && thread % 128 == 0) bulk_wait_read<0>();
    barrier_sync(1 + group, 128);
    const int lane = thread % 32, row = warp % 4 * 16 + lane / 8 % 2 * 8 + lane % 8;
#pragma unroll
    for (int j = 0; j < kFilters / 8; j += 2) {
      const uint32_t r[4] = {two(d[4 * j], d[4 * j + 1]), two(d[4 * j + 2], d[4 * j + 3]),
                             two(d[4 * j + 4], d[4 * j + 5]), two(d[4 * j + 6], d[4 * j + 7])};
      stmatrix(mine + row * kRowBytes + ((j + lane / 16) ^ (row % 8)) * 16, r);
    }
    if (kBug != Bug::kNoProxyFence) fence_proxy_async();
    barrier_sync(1 + group, 128);
    if (thread % 128 == 0) {
      tma_store(y, mine, tile % s.filter_tiles * kFilters, tile / s.filter_tiles * kPixels + group * 64);
      bulk_commit();
    }
  }
  if (kBug != Bug::kExitWithoutWait && thread % 128 == 0) bulk_wait_read<0>();
}

template <HopperMistake kMistake>
__global__ void __launch_bounds__(128, 1) square_kernel(const __grid_constant__ CUtensorMap a, float* y) {
  using M = HopperMistake;
  CONVOY_DYNAMIC_SHARED(unsigned char, memory);
  CONVOY_SHARED(uint64_t, landed, [2]);
  unsigned char* const tile = memory + (1024 - reinterpret_cast<uintptr_t>(memory) % 1024) % 1024;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  if (thread == 0) {
    mbarrier_init(&landed[0], 1);
    mbarrier_init(&landed[1], 1);
    if (kMistake == M::kTwoInits) mbarrier_init(&landed[1], 2);
    fence_mbarrier_init();
    if (kMistake == M::kBarrierOverwritten) landed[0] = 0;
    mbarrier_arrive_expect(&landed[0], 64 * 128);
    if (kMistake == M::kLeftover) mbarrier_arrive_expect(&landed[1], 16);
    if (kMistake == M::kWrongRank) {
      tma_load(tile, a, &landed[0], 0, 0, 0);
    } else if (kMistake == M::kNotAMap) {
      tma_load(tile, CUtensorMap{}, &landed[0], 0, 0);
    } else if (kMistake != M::kUnwrittenOperand) {
      tma_load(tile, a, &landed[0], 0, 0);
    }
  }
  __syncthreads();
  if (kMistake == M::kNobodyWaits) return;
  if (kMistake != M::kUnwrittenOperand) mbarrier_wait(&landed[0], 0);
  if (kMistake == M::kUnfencedOperand) {
    if (thread == 0) tile[5] = 0;
    __syncthreads();
  }
  if (kMistake == M::kThreeWarps && warp == 3) return;

  float d[32];
  const unsigned char* const start = tile + (kMistake == M::kDescriptorStart     ? 128
                                             : kMistake == M::kDescriptorOutside ? 2048
                                                                                 : 0);
  const uint64_t m = wgmma_matrix(start, 0, 1024, Swizzle::k128),
                 other = wgmma_matrix(start + 32, 0, 1024, Swizzle::k128);
  wgmma_fence();
  wgmma<64, bf16, Major::kK, Major::kK>(d, kMistake == M::kWarpsDisagree && warp == 1 ? other : m, m, false);
  wgmma_commit();
  if (kMistake == M::kNoWgmmaWait) return;
  if (kMistake == M::kAccumulatorWritten) d[3] = 1;
  wgmma_wait<0>();
  wgmma_hold(d);
#pragma unroll
  for (int i = 0; i < 32; ++i) {
    y[(warp * 16 + lane / 4 + i / 2 % 2 * 8) * 64 + i / 4 * 8 + lane % 4 * 2 + i % 2] = d[i];
  }
}

}  // namespace

void square(HopperMistake mistake, const bf16* a, float* y) {
  const cuuint64_t rows = mistake == HopperMistake::kOutsideOfTensor ? 65 : 64;
  const CUtensorMap map = cuda::tiled_map<bf16, 2>(a, {64, rows}, {rows == 65 ? 144u : 128u}, {64, 64},
                                                   CU_TENSOR_MAP_SWIZZLE_128B);
  const auto launch = [&](auto kernel) { CONVOY_LAUNCH(kernel, 1, 128, 64 * 128 + 1024, nullptr, map, y); };
#if defined(CONVOY_EMULATED)
#define CONVOY_MISTAKE(name) \
  case HopperMistake::name:  \
    return launch(square_kernel<HopperMistake::name>);
  switch (mistake) {
    CONVOY_MISTAKE(kLeftover)
    CONVOY_MISTAKE(kNobodyWaits)
    CONVOY_MISTAKE(kBarrierOverwritten)
    CONVOY_MISTAKE(kTwoInits)
    CONVOY_MISTAKE(kWrongRank)
    CONVOY_MISTAKE(kNotAMap)
    CONVOY_MISTAKE(kUnfencedOperand)
    CONVOY_MISTAKE(kUnwrittenOperand)
    CONVOY_MISTAKE(kDescriptorStart)
    CONVOY_MISTAKE(kDescriptorOutside)
    CONVOY_MISTAKE(kWarpsDisagree)
    CONVOY_MISTAKE(kThreeWarps)
    CONVOY_MISTAKE(kAccumulatorWritten)
    CONVOY_MISTAKE(kNoWgmmaWait)
    case HopperMistake::kOutsideOfTensor:
    case HopperMistake::kNone:
      break;
  }
#undef CONVOY_MISTAKE
#else
  CONVOY_CHECK(mistake == HopperMistake::kNone, "mistakes are for the emulator");
#endif
  launch(square_kernel<HopperMistake::kNone>);
}

void convolve(HopperBug bug, bool polling, const Convolution& c, const bf16* x, const bf16* w, bf16* y) {
  const auto u = [](int v) { return static_cast<cuuint64_t>(v); };
  const auto bytes = [](int v) { return static_cast<cuuint64_t>(v) * sizeof(bf16); };
  const cuuint32_t step = static_cast<cuuint32_t>(c.stride);
  const int upper = c.pad - (c.extent - 1) * c.dilation;
  const CUtensorMap x_map = cuda::im2col_map<bf16>(
      x, {u(c.channels), u(c.width), u(c.height), u(c.images)},
      {bytes(c.channels), bytes(c.channels * c.width), bytes(c.channels * c.width * c.height)},
      {{-c.pad, -c.pad}, {upper, upper}, {step, step}, kChannels, kPixels}, CU_TENSOR_MAP_SWIZZLE_128B);
  const int taps = c.extent * c.extent;
  const CUtensorMap w_map = cuda::tiled_map<bf16, 3>(w, {u(c.channels), u(taps), u(c.filters)},
                                                     {bytes(c.channels), bytes(c.channels * taps)},
                                                     {kChannels, 1, kFilters}, CU_TENSOR_MAP_SWIZZLE_128B);
  Sizes s{};
  s.width = c.out_width();
  s.height = c.out_height();
  s.pixels = c.images * s.width * s.height;
  s.filters = c.filters;
  s.blocks = c.channels / kChannels;
  s.extent = c.extent;
  s.pad = c.pad;
  s.stride = c.stride;
  s.dilation = c.dilation;
  s.filter_tiles = (c.filters + kFilters - 1) / kFilters;
  s.tiles = (s.pixels + kPixels - 1) / kPixels * s.filter_tiles;
  const CUtensorMap y_map = cuda::tiled_map<bf16, 2>(y, {u(c.filters), u(s.pixels)}, {bytes(c.filters)},
                                                     {kFilters, 64}, CU_TENSOR_MAP_SWIZZLE_128B);

  const auto launch = [&](auto kernel) {
    CONVOY_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes));
    CONVOY_LAUNCH(kernel, 2, kThreads, kSharedBytes, nullptr, x_map, w_map, y_map, s);
  };
#if defined(CONVOY_EMULATED)
#define CONVOY_BUG(name) \
  case HopperBug::name:  \
    return launch((convolve_kernel<HopperBug::name, false>));
  switch (bug) {
    CONVOY_BUG(kNoFullWait)
    CONVOY_BUG(kReleasedEarly)
    CONVOY_BUG(kFewBytes)
    CONVOY_BUG(kManyBytes)
    CONVOY_BUG(kNoInitFence)
    CONVOY_BUG(kNoInitBarrier)
    CONVOY_BUG(kNoInit)
    CONVOY_BUG(kWrongParity)
    CONVOY_BUG(kConsumerParity)
    CONVOY_BUG(kOverwritten)
    CONVOY_BUG(kReadEarly)
    CONVOY_BUG(kNoWgmmaFence)
    CONVOY_BUG(kNoProxyFence)
    CONVOY_BUG(kNoStoreWait)
    CONVOY_BUG(kExitWithoutWait)
    CONVOY_BUG(kMisaligned)
    CONVOY_BUG(kExtraArrival)
    case HopperBug::kNone:
      break;
  }
#undef CONVOY_BUG
#else
  CONVOY_CHECK(bug == HopperBug::kNone, "mistakes are for the emulator");
#endif
  if (polling) {
    launch((convolve_kernel<Bug::kNone, true>));
  } else {
    launch((convolve_kernel<Bug::kNone, false>));
  }
}

}  // namespace convoy::emulated
