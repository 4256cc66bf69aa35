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
  expect_bug(Bug::kNoFullWait,
             {"unfinished bulk copy|uninitialised shared memory", "makes a wgmma that reads", kKernels});
  expect_bug(Bug::kConsumerParity,
             {"unfinished bulk copy|uninitialised shared memory", "makes a wgmma that reads", kKernels});
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
             {"more arrivals than its count of 2|race on shared memory|unfinished wgmma", kKernels});
}

}  // namespace
}  // namespace convoy::emulated
