// A warp-specialised convolution with Hopper's asynchronous work on the emulator: exact in every way, and every kind of
// mistake with it, planted, is reported. Single instructions: test_wrappers.cpp.
#include <cuda.h>

#include "emulator_hopper_kernels.h"
#include "emulator_test.h"

namespace convoy::emulated {
namespace {

using bf16 = __nv_bfloat16;
using Bug = HopperBug;

struct Case {
  Convolution c;
  std::vector<bf16> x, w;

  explicit Case(const Convolution& shape) : c(shape) {
    x = wholes<bf16>(c.images * c.height * c.width * c.channels, 1, 2);
    // Few that are not zero: every sum is exact in bf16.
    for (int i = 0; i < c.filters * c.extent * c.extent * c.channels; ++i) {
      const int v = whole(static_cast<uint32_t>(i), 2, 20);
      w.push_back(bf16(std::abs(v) == 1 ? static_cast<float>(v) : 0.0f));
    }
  }
  std::vector<float> want() const {
    std::vector<float> y;
    for (int n = 0; n < c.images; ++n) {
      for (int p = 0; p < c.out_height(); ++p) {
        for (int q = 0; q < c.out_width(); ++q) {
          for (int k = 0; k < c.filters; ++k) y.push_back(output(n, p, q, k));
        }
      }
    }
    return y;
  }
  float output(int n, int p, int q, int k) const {
    float sum = 0;
    for (int r = 0; r < c.extent; ++r) {
      for (int s = 0; s < c.extent; ++s) {
        const int h = p * c.stride - c.pad + r * c.dilation, v = q * c.stride - c.pad + s * c.dilation;
        if (h < 0 || h >= c.height || v < 0 || v >= c.width) continue;
        for (int i = 0; i < c.channels; ++i) {
          sum += float(x[((n * c.height + h) * c.width + v) * c.channels + i]) *
                 float(w[((k * c.extent + r) * c.extent + s) * c.channels + i]);
        }
      }
    }
    EXPECT_LE(std::abs(sum), 256) << "not exact in bf16";
    return sum;
  }
};

std::vector<float> run(Bug bug, bool polling, const Case& test) {
  const Device<bf16> x(test.x), w(test.w);
  const Convolution& c = test.c;
  const Device<bf16> y(static_cast<size_t>(c.images * c.out_height() * c.out_width() * c.filters));
  convolve(bug, polling, c, x.get(), w.get(), y.get());
  std::vector<float> got;
  if (cudaDeviceSynchronize() != cudaSuccess) return got;
  for (const bf16 v : y.host()) got.push_back(v);
  return got;
}

TEST(EmulatorHopper, ConvolutionsAreExact) {
  // Tiles of 128 pixels over rows and images with a tail; filters with a tail; padding, stride, dilation.
  for (const Convolution& c :
       {Convolution{3, 7, 9, 64, 72, 3, 1, 1, 1}, Convolution{2, 11, 12, 64, 64, 3, 1, 2, 1},
        Convolution{1, 14, 13, 128, 64, 3, 2, 1, 2}, Convolution{2, 9, 9, 64, 136, 1, 0, 1, 1}}) {
    const Case test(c);
    const std::vector<float> want = test.want();
    every_way([&] {
      for (const bool polling : {false, true}) EXPECT_EQ(run(Bug::kNone, polling, test), want) << polling;
    });
  }
}

void expect_bug(Bug bug, const std::vector<std::string>& parts) {
  if (!emulator::instrumented() && (bug == Bug::kReadEarly || bug == Bug::kOverwritten)) return;
  static const Case test({3, 7, 9, 64, 72, 3, 1, 1, 1});
  const emulator::Options before = emulator::options();
  for (const uint64_t seed : {0, 1, 2}) {
    for (const bool late : {false, true}) {
      SCOPED_TRACE("bug " + std::to_string(static_cast<int>(bug)) + " seed " + std::to_string(seed) +
                   (late ? " late" : ""));
      emulator::options().seed = seed;
      emulator::options().late = late;
      expect_report(parts, [&] { run(bug, false, test); });
    }
  }
  emulator::options() = before;
}

constexpr const char* kKernels = "emulator_hopper_kernels.cu:";

TEST(EmulatorHopper, SkippedWait) {
  // What is not instrumented does not show that nobody wrote yet: there the copy comes too late for the wgmma.
  const bool instrumented = emulator::instrumented();
  const std::string report = instrumented ? "unfinished bulk copy|uninitialised shared memory"
                                          : "unfinished bulk copy|unfinished wgmma|race on shared memory";
  expect_bug(Bug::kNoFullWait, {report, instrumented ? "makes a wgmma that reads" : "makes a", kKernels});
  // It waits for the phase after the first where that is complete already.
  expect_bug(Bug::kConsumerParity, {report + "|deadlock", kKernels});
}
TEST(EmulatorHopper, StageReleasedEarly) {
  expect_bug(Bug::kReleasedEarly,
             {"unfinished wgmma|race on shared memory", "makes a bulk copy that writes", kKernels});
}
TEST(EmulatorHopper, WrongBytes) {
  expect_bug(Bug::kFewBytes,
             {"expect_tx mismatch: 128 bytes more than expected", "mbarrier full (24 bytes)", kKernels});
  expect_bug(Bug::kManyBytes,
             {"deadlock", "waiting at mbarrier_wait, parity 0, at ", kKernels,
              "mbarrier full (24 bytes) at byte 0, 8 bytes: phase 0, 0 of 1 arrivals and 128 bytes missing"});
}
TEST(EmulatorHopper, InitNotPublished) {
  expect_bug(Bug::kNoInitFence, {"init not published to bulk copies", "fence_mbarrier_init", kKernels});
  expect_bug(Bug::kNoInitBarrier, {"mbarrier's init not published|mbarrier used before its init", kKernels});
  expect_bug(Bug::kNoInit, {"mbarrier used before its init", kKernels});
}
TEST(EmulatorHopper, WrongParity) {
  expect_bug(Bug::kWrongParity,
             {"deadlock", "mbarrier empty (24 bytes)", "phase 0, 2 of 2 arrivals", kKernels});
}
TEST(EmulatorHopper, OperandOfUnfinishedWgmma) {
  expect_bug(Bug::kOverwritten, {"unfinished wgmma: thread (0,0,0) writes", "was waited for", kKernels});
}
TEST(EmulatorHopper, Registers) {
  expect_bug(Bug::kReadEarly, {"accumulators of an unfinished wgmma read: thread (0,0,0)", kKernels});
  expect_bug(Bug::kNoWgmmaFence, {"missing wgmma_fence", kKernels});
}
TEST(EmulatorHopper, Stores) {
  expect_bug(Bug::kNoProxyFence, {"missing fence_proxy_async", "makes a bulk store that reads", kKernels});
  expect_bug(Bug::kNoStoreWait, {"unfinished bulk store", "writes", "was waited for", kKernels});
  expect_bug(Bug::kExitWithoutWait, {"exits before its bulk store made at", "is not waited for", kKernels});
}
TEST(EmulatorHopper, Misaligned) {
  expect_bug(Bug::kMisaligned, {"bulk load by thread", "misaligned", "not a multiple of 1024", kKernels});
}
TEST(EmulatorHopper, ArrivalsAreCounted) {
  expect_bug(Bug::kExtraArrival,
             {"more arrivals than its count of 1: thread", "still expects 24576 bytes", kKernels});
}

// ---- One box, one product.

std::vector<float> squared(HopperMistake mistake) {
  const Device<bf16> a(wholes<bf16>(64 * 64, 7));
  const Device<float> y(64 * 64);
  square(mistake, a.get(), y.get());
  return cudaDeviceSynchronize() == cudaSuccess ? y.host() : std::vector<float>();
}

TEST(EmulatorHopper, ProductIsExact) {
  const std::vector<float> a = wholes(64 * 64, 7);
  std::vector<float> want(64 * 64);
  for (int i = 0; i < 64 * 64; ++i) {
    for (int k = 0; k < 16; ++k) want[i] += a[i / 64 * 64 + k] * a[i % 64 * 64 + k];
  }
  every_way([&] { EXPECT_EQ(squared(HopperMistake::kNone), want); });
}

void expect_mistake(HopperMistake mistake, const std::vector<std::string>& parts) {
  const emulator::Options before = emulator::options();
  for (const uint64_t seed : {0, 1, 2}) {
    for (const bool late : {false, true}) {
      SCOPED_TRACE("mistake " + std::to_string(static_cast<int>(mistake)) + " seed " + std::to_string(seed) +
                   (late ? " late" : ""));
      emulator::options().seed = seed;
      emulator::options().late = late;
      expect_report(parts, [&] { squared(mistake); });
    }
  }
  emulator::options() = before;
}

TEST(EmulatorHopper, MistakesWithMbarriers) {
  using M = HopperMistake;
  expect_mistake(M::kLeftover,
                 {"the block exits while mbarrier landed (16 bytes) at byte 8", "expects 16 more bytes"});
  expect_mistake(M::kNobodyWaits,
                 {"the block exits|expects", "nobody has waited for the bulk copy made at|8192 more bytes"});
  expect_mistake(M::kBarrierOverwritten, {"overwritten: mbarrier landed (16 bytes) at byte 0", kKernels});
  expect_mistake(M::kTwoInits, {"mbarrier initialised twice", kKernels});
}
TEST(EmulatorHopper, MistakesWithCopies) {
  using M = HopperMistake;
  expect_mistake(M::kWrongRank, {"3 coordinates for a tensor map of rank 2", kKernels});
  expect_mistake(M::kNotAMap, {"not a tensor map that the driver made", kKernels});
  expect_mistake(M::kOutsideOfTensor, {"device memory overrun", "of an allocation of 8192 bytes", kKernels});
}
TEST(EmulatorHopper, MistakesWithOperands) {
  using M = HopperMistake;
  if (emulator::instrumented()) {
    expect_mistake(M::kUnfencedOperand,
                   {"missing fence_proxy_async: ", "makes a wgmma that reads", kKernels});
    expect_mistake(M::kUnwrittenOperand,
                   {"uninitialised shared memory", "makes a wgmma that reads", kKernels});
  }
  expect_mistake(M::kDescriptorStart,
                 {"wgmma's descriptor of b: the start is not where the swizzle", kKernels});
  expect_mistake(M::kDescriptorOutside,
                 {"shared memory overrun|uninitialised shared memory", "makes a wgmma that reads", kKernels});
}
TEST(EmulatorHopper, MistakesWithWarpgroups) {
  using M = HopperMistake;
  expect_mistake(M::kWarpsDisagree, {"wgmma's threads disagree", kKernels});
  expect_mistake(M::kThreeWarps, {"deadlock", "threads 0-95: waiting at wgmma_wait", kKernels});
  expect_mistake(M::kAccumulatorWritten, {"accumulators of an unfinished wgmma written: thread", kKernels});
  expect_mistake(M::kNoWgmmaWait, {"exits without waiting for its wgmma"});
}

// ---- The driver's limits (cuda.h): each broken alone.

struct Tiled {
  CUtensorMap map;
  CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
  cuuint32_t rank = 3;
  std::vector<cuuint64_t> dims{64, 10, 12}, strides{128, 1280};
  std::vector<cuuint32_t> box{64, 8, 4}, steps{1, 1, 1};
  CUtensorMapInterleave interleave = CU_TENSOR_MAP_INTERLEAVE_NONE;
  CUtensorMapSwizzle swizzle = CU_TENSOR_MAP_SWIZZLE_128B;
  CUtensorMapFloatOOBfill fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  size_t shift = 0, map_shift = 0;
};
CUresult encode(const std::function<void(Tiled&)>& change) {
  static const Device<bf16> memory(64 * 10 * 12 + 8);
  Tiled t;
  change(t);
  return cuTensorMapEncodeTiled(reinterpret_cast<CUtensorMap*>(reinterpret_cast<char*>(&t.map) + t.map_shift),
                                t.type, t.rank, reinterpret_cast<char*>(memory.get()) + t.shift,
                                t.dims.data(), t.strides.data(), t.box.data(), t.steps.data(), t.interleave,
                                t.swizzle, CU_TENSOR_MAP_L2_PROMOTION_NONE, t.fill);
}

TEST(EmulatorHopper, TiledMapsKeepTheDriversLimits) {
  const auto accepts = [](const std::function<void(Tiled&)>& change) {
    return encode(change) == CUDA_SUCCESS;
  };
  EXPECT_TRUE(accepts([](Tiled&) {}));
  EXPECT_TRUE(accepts([](Tiled& t) { t.steps = {9, 8, 1}; }));  // the innermost is ignored
  EXPECT_TRUE(accepts([](Tiled& t) { t.dims[2] = uint64_t{1} << 32; }));
  EXPECT_TRUE(accepts([](Tiled& t) { t.swizzle = CU_TENSOR_MAP_SWIZZLE_NONE, t.box = {256, 256, 256}; }));
  EXPECT_TRUE(accepts([](Tiled& t) { t.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.map_shift = 32; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.shift = 8; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.rank = 0; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.rank = 6; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.dims[1] = 0; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.dims[2] = (uint64_t{1} << 32) + 1; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.strides[0] = 136; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.strides[0] = 112; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.strides[1] = uint64_t{1} << 40; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.box[1] = 0; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.box[1] = 257; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.box[0] = 60; }));  // 120 bytes
  EXPECT_FALSE(accepts([](Tiled& t) { t.box[0] = 72; }));  // 144 bytes in a swizzle of 128
  EXPECT_FALSE(accepts([](Tiled& t) { t.swizzle = CU_TENSOR_MAP_SWIZZLE_64B; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.steps[1] = 0; }));
  EXPECT_FALSE(accepts([](Tiled& t) { t.steps[1] = 9; }));
  EXPECT_FALSE(accepts([](Tiled& t) {
    t.type = CU_TENSOR_MAP_DATA_TYPE_UINT16;
    t.fill = CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA;
  }));
}

struct Im2col {
  cuuint32_t rank = 4, channels = 64, pixels = 128;
  int lower[2] = {-1, -1}, upper[2] = {-1, -1};
  cuuint32_t steps[4] = {1, 1, 1, 1};
};

TEST(EmulatorHopper, Im2colMapsKeepTheDriversLimits) {
  const auto accepts = [](const std::function<void(Im2col&)>& change) {
    static const Device<bf16> memory(64 * 10 * 12 * 2);
    Im2col t;
    change(t);
    CUtensorMap map;
    const cuuint64_t dims[] = {64, 10, 12, 2}, strides[] = {128, 1280, 15360};
    return cuTensorMapEncodeIm2col(
               &map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, t.rank, memory.get(), dims, strides, t.lower, t.upper,
               t.channels, t.pixels, t.steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
  };
  EXPECT_TRUE(accepts([](Im2col&) {}));
  EXPECT_TRUE(accepts([](Im2col& t) { t.pixels = 1024; }));
  EXPECT_TRUE(accepts([](Im2col& t) { t.upper[0] = -10; }));  // one pixel wide
  EXPECT_FALSE(accepts([](Im2col& t) { t.upper[0] = -11; }));
  EXPECT_FALSE(accepts([](Im2col& t) { t.lower[0] = -129; }));
  EXPECT_FALSE(accepts([](Im2col& t) { t.upper[1] = 128; }));
  EXPECT_FALSE(accepts([](Im2col& t) { t.pixels = 1025; }));
  EXPECT_FALSE(accepts([](Im2col& t) { t.pixels = 0; }));
  EXPECT_FALSE(accepts([](Im2col& t) { t.channels = 72; }));
  EXPECT_FALSE(accepts([](Im2col& t) { t.channels = 0; }));
  EXPECT_FALSE(accepts([](Im2col& t) { t.steps[1] = 9; }));
  EXPECT_FALSE(accepts([](Im2col& t) { t.rank = 2; }));
}

}  // namespace
}  // namespace convoy::emulated
