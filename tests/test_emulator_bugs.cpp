// Every kind of mistake that the emulator claims to find, planted: the report must name it.
#include "emulator_kernels.h"
#include "emulator_test.h"

namespace convoy::emulated {
namespace {

// Findings of instrumented kernels, which AddressSanitizer's build does not have.
class EmulatorChecks : public testing::Test {
 protected:
  void SetUp() override {
    if (!emulator::instrumented()) GTEST_SKIP() << "the kernels are not instrumented";
  }
};

void reduce_with(Bug bug) {
  const Device<float> x(wholes(300, 1)), total(std::vector<float>{0});
  reduce(bug, x.get(), 300, total.get());
}

void transpose_overrun() {
  const Device<float> x(wholes(1024, 2)), y(31 * 32);
  transpose(Bug::kDeviceOverrun, x.get(), 32, 31, y.get());
}

void in_any_order(const std::function<void()>& body) {
  const emulator::Options before = emulator::options();
  for (const uint64_t seed : {0, 1, 2}) {
    for (const bool late : {false, true}) {
      emulator::options().seed = seed;
      emulator::options().late = late;
      body();
    }
  }
  emulator::options() = before;
}

TEST_F(EmulatorChecks, MissingBarrier) {
  // The first warp reads what the others have not written yet, or wrote without a barrier in between.
  in_any_order([] {
    expect_report({"shared memory", "parts (16 bytes)", "reduce_kernel", "emulator_kernels.cu:"},
                  [] { reduce_with(Bug::kNoBarrier); });
    expect_report({"shared memory", "tile (4224 bytes)", "emulator_kernels.cu:"}, [] {
      const Device<float> x(wholes(1024, 2)), y(1024);
      transpose(Bug::kNoBarrier, x.get(), 32, 32, y.get());
    });
  });
}

TEST_F(EmulatorChecks, RaceNamesBothLines) {
  expect_report({"race on shared memory values (128 bytes)", "thread (1,0,0) writes at ",
                 "thread (0,0,0) read it at ", "emulator_kernels.cu:", "no barrier"},
                [] {
                  const Device<float> x(wholes(32, 3)), y(32);
                  neighbours(true, x.get(), y.get());
                });
}

TEST_F(EmulatorChecks, MissingNamedBarrier) {
  expect_report({"shared memory", "values (256 bytes)"}, [] {
    const Device<int> x(wholes<int>(64, 4)), y(64);
    hand_over(true, x.get(), y.get());
  });
}

TEST_F(EmulatorChecks, AtomicReadWithoutBarrier) {
  in_any_order([] {
    expect_report({"race on shared memory", "atomically"}, [] {
      const Device<int> x(std::vector<int>(200, 3)), counts(16), most(1), votes(3);
      histogram(Bug::kAtomicThenRead, x.get(), 200, counts.get(), most.get(), votes.get());
    });
  });
}

TEST_F(EmulatorChecks, SkippedWait) {
  in_any_order([] {
    expect_report({"unfinished cp.async", "emulator_kernels.cu:", "was waited for"}, [] {
      const Device<float> a(wholes(32 * 64, 5)), b(wholes(64 * 32, 6)), c(32 * 32);
      multiply(Bug::kNoWait, a.get(), b.get(), c.get(), 32, 32, 64);
    });
  });
}

TEST_F(EmulatorChecks, StageReleasedEarly) {
  in_any_order([] {
    expect_report(
        {"race on shared memory|unfinished cp.async", "read it at|was waited for", "emulator_kernels.cu:"},
        [] {
          const Device<float> a(wholes(32 * 96, 5)), b(wholes(96 * 32, 6)), c(32 * 32);
          multiply(Bug::kReleasedEarly, a.get(), b.get(), c.get(), 32, 32, 96);
        });
  });
}

TEST_F(EmulatorChecks, SharedOverrun) {
  expect_report({"shared memory overrun", "thread (0,0,0) writes", "parts (16 bytes) at byte 16"},
                [] { reduce_with(Bug::kOverrun); });
}

TEST_F(EmulatorChecks, UninitialisedSharedMemory) {
  expect_report({"uninitialised shared memory", "bins (64 bytes)"}, [] {
    const Device<int> x(std::vector<int>(96, 3)), counts(16), most(1), votes(3);
    histogram(Bug::kUninitialised, x.get(), 96, counts.get(), most.get(), votes.get());
  });
}

TEST_F(EmulatorChecks, DeviceMemory) {
  expect_report({"device memory overrun", "writes 4 bytes, byte 4092 of an allocation of 3968 bytes",
                 "emulator_kernels.cu:"},
                transpose_overrun);
  const std::vector<float> host(8);
  const Device<float> y(8);
  expect_report({"reads 4 bytes of host memory"}, [&] { copy(host.data(), y.get(), 8); });
  expect_report({"reads 4 bytes of a null pointer"}, [&] { copy(nullptr, y.get(), 8); });
  const Device<float> nothing(8);
  expect_report({"uninitialised device memory", "byte 0 of an allocation of 32 bytes"},
                [&] { copy(nothing.get(), y.get(), 8); });
  float* freed = nullptr;
  {
    const Device<float> x(wholes(8, 1));
    freed = x.get();
  }
  expect_report({"freed device memory"}, [&] { copy(freed, y.get(), 8); });
}

TEST_F(EmulatorChecks, UnwrittenOutputIsCounted) {
  const Device<float> x(wholes(32 * 40, 2)), y(32 * 40);
  transpose(Bug::kUnwritten, x.get(), 32, 40, y.get());
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(emulator::unwritten_bytes(y.get(), 32 * 40 * 4), 32u * 4);
}

TEST(EmulatorBugs, UnwrittenOutputIsNaN) {
  const Device<float> x(wholes(32 * 40, 2)), y(32 * 40);
  transpose(Bug::kUnwritten, x.get(), 32, 40, y.get());
  const std::vector<float> got = y.host();
  int unwritten = 0;
  for (const float v : got) unwritten += v != v;
  EXPECT_EQ(unwritten, 32);
}

TEST(EmulatorBugs, AddressSanitizerFindsOverruns) {
  if (emulator::instrumented()) GTEST_SKIP() << "not a build with AddressSanitizer";
  EXPECT_DEATH(reduce_with(Bug::kOverrun), "use-after-poison|out of bounds");
  EXPECT_DEATH(transpose_overrun(), "AddressSanitizer: use-after-poison");
}

TEST(EmulatorBugs, DivergentBarrier) {
  expect_report({"deadlock", "reduce_kernel", "block (0,0,0)", "threads 0-31: waiting at __syncthreads at ",
                 "emulator_kernels.cu:", "threads 32-127: exited"},
                [] { reduce_with(Bug::kDivergent); });
  expect_report({"divergent barrier", "__syncthreads at ", "others at"}, [] { reduce_with(Bug::kTwoLines); });
}

TEST(EmulatorBugs, DivergentWarp) {
  expect_report({"__shfl_down_sync at ", "has exited"}, [] { reduce_with(Bug::kExitedLanes); });
  expect_report({"diverge", "__shfl_xor_sync"}, [] { reduce_with(Bug::kTwoCollectives); });
}

}  // namespace
}  // namespace convoy::emulated
