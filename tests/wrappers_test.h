// What the tests of wrappers share: whether a GPU, real or emulated, is there, and every way to run on it.
#pragma once
#include <functional>

#include "device_memory.h"
#include "wrappers.h"

#ifdef CONVOY_TEST_EMULATED
#include "emulator_test.h"
#endif

namespace convoy::wrappers {

using emulated::Device;
using emulated::wholes;

inline bool gpu() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}
// 10 · major + minor; the emulator runs every wrapper, whatever it claims to be.
inline int architecture() {
#ifdef CONVOY_TEST_EMULATED
  return 90;
#else
  cudaDeviceProp p{};
  return cudaGetDeviceProperties(&p, 0) == cudaSuccess ? 10 * p.major + p.minor : 0;
#endif
}
inline bool hopper() {
  return gpu() && architecture() == 90;
}

inline void in_all_ways(const std::function<void()>& body) {
#ifdef CONVOY_TEST_EMULATED
  emulated::every_way(body);
#else
  for (int run = 0; run < 3; ++run) body();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
#endif
}

}  // namespace convoy::wrappers
