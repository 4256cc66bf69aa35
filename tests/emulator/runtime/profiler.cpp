#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

#include <atomic>

namespace {
std::atomic<bool> profiling{false};
}

cudaError_t cudaProfilerStart() {
  profiling = true;
  return cudaSuccess;
}
cudaError_t cudaProfilerStop() {
  profiling = false;
  return cudaSuccess;
}
bool emulator_profiling() {
  return profiling;
}

int& emulator_open_ranges() {
  thread_local int open = 0;
  return open;
}
