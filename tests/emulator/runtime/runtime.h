// What the runtime's sources share. Every entry holds the one lock; the device runs one kernel at a time.
#pragma once
#include <cuda_runtime.h>

#include <functional>
#include <mutex>
#include <string>

namespace emulator {

std::recursive_mutex& runtime_lock();
using Guard = std::lock_guard<std::recursive_mutex>;

using Operation = std::function<void()>;

// Remembers a failure for cudaGetLastError and returns it; success gives the device's sticky error if it has
// one.
cudaError_t result(cudaError_t error);
// Queues work: now, when something waits for it (late), or into the graph that the stream is captured for.
cudaError_t submit(cudaStream_t stream, Operation operation);
void finish(cudaStream_t stream);  // everything queued so far; null: of every stream
void drop_all();                   // after a fault nothing that is queued runs
bool capturing(cudaStream_t stream);

bool broken();  // a kernel has faulted
void break_device(const std::string& report);

// Device memory.
bool device_range(const void* memory, size_t bytes);  // wholly inside one live allocation
void mark_written(void* memory, size_t bytes);
void copy_marks(void* to, const void* from, size_t bytes);

}  // namespace emulator
