// The emulator's profiler control: it only notes whether the profiler is on.
#pragma once
#include <cuda_runtime.h>

cudaError_t cudaProfilerStart();
cudaError_t cudaProfilerStop();
bool emulator_profiling();
