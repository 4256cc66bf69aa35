// What the emulator's tests share: device memory with contents, and every way to run.
#pragma once
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace convoy::emulated {

template <class T>
class Device {
 public:
  explicit Device(size_t count) : count_(count) {
    EXPECT_EQ(cudaMalloc(&data_, count * sizeof(T)), cudaSuccess);
  }
  explicit Device(const std::vector<T>& values) : Device(values.size()) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~Device() { cudaFree(data_); }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  T* get() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> values(count_);
    EXPECT_EQ(cudaMemcpy(values.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return values;
  }

 private:
  T* data_ = nullptr;
  size_t count_;
};

// Whole numbers of [-range, range], the same for the same seed.
inline int whole(uint32_t i, uint32_t seed, int range) {
  const uint32_t mixed = (i * 2654435761u + seed * 40503u) ^ (i >> 7);
  return static_cast<int>((mixed >> 8) % static_cast<uint32_t>(2 * range + 1)) - range;
}
template <class T = float>
std::vector<T> wholes(int count, uint32_t seed, int range = 4) {
  std::vector<T> values;
  for (int i = 0; i < count; ++i)
    values.push_back(T(static_cast<float>(whole(static_cast<uint32_t>(i), seed, range))));
  return values;
}

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
