// Shared memory as kernels ask for it (kernels/launch.cuh).
#pragma once
#include <cstddef>

namespace emulator {

constexpr size_t kArenaBytes = 512 << 10;  // the largest shared memory, 227 KiB, and red zones

// The block's array of this key, made at its first use: 0xff bytes between red zones.
void* shared_array(const void* key, const char* name, size_t bytes, size_t alignment);
void* shared_dynamic();  // 1024-byte aligned; null when the launch asks for none

}  // namespace emulator
