// Device memory with contents, for tests that launch kernels themselves.
#pragma once
#include <cuda_runtime.h>
#include <gtest/gtest.h>

#include <cstdint>
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

}  // namespace convoy::emulated
