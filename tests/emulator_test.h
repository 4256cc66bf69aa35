// What the emulator's tests share: every way to run, and what they expect of reports.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "device_memory.h"

namespace convoy::emulated {

// Runs the body in order and in three drawn orders, with asynchronous work at once and late; the options are
// put back afterwards. No report may be left.
inline void every_way(const std::function<void()>& body) {
  const emulator::Options before = emulator::options();
  for (const uint64_t seed : {0, 1, 2, 3}) {
    for (const bool late : {false, true}) {
      emulator::options().seed = seed;
      emulator::options().late = late;
      SCOPED_TRACE("CONVOY_EMULATOR_SEED=" + std::to_string(seed) +
                   (late ? " CONVOY_EMULATOR_ASYNC=late" : ""));
      body();
      EXPECT_EQ(cudaGetLastError(), cudaSuccess);
      EXPECT_EQ(emulator::take_fault(), "");
    }
  }
  emulator::options() = before;
}

// The report of what the body launches; every part, or one that its | separate, must be in it, and the runtime must
// fail until it is taken.
inline void expect_report(const std::vector<std::string>& parts, const std::function<void()>& body) {
  testing::internal::CaptureStderr();
  body();
  const cudaError_t synchronized = cudaDeviceSynchronize();
  const std::string printed = testing::internal::GetCapturedStderr();
  EXPECT_EQ(synchronized, cudaErrorLaunchFailure);
  EXPECT_EQ(cudaGetLastError(), cudaErrorLaunchFailure);
  const std::string described = cudaGetErrorString(cudaErrorLaunchFailure), report = emulator::take_fault();
  EXPECT_EQ(described, report);
  EXPECT_NE(printed.find(report), std::string::npos);
  for (const std::string& part : parts) {
    bool found = false;
    for (size_t from = 0, bar = 0; bar != std::string::npos; from = bar + 1) {
      bar = part.find('|', from);
      found |= report.find(part.substr(from, bar - from)) != std::string::npos;
    }
    EXPECT_TRUE(found) << "no \"" << part << "\" in: " << report;
  }
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace convoy::emulated
