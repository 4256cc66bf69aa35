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
using Ready = std::function<bool()>;  // whether an operation can run yet; empty: at once

// Remembers a failure for cudaGetLastError and returns it; success gives the device's sticky error if it has
// one.
cudaError_t result(cudaError_t error);
// Queues work: now, when something waits for it (late), or into the graph that the stream is captured for.
// One that is not ready holds up its stream, not the host.
cudaError_t submit(cudaStream_t stream, Operation operation, Ready ready = {});
void finish(cudaStream_t stream);  // waits for everything queued so far; null: what can run, of every stream
void run_ready(cudaStream_t stream);  // what can run by now
void wake();                          // something that an operation waits for has changed
void wait_for(const Ready& ready);    // the calling thread, until somebody wakes it and it is so
void drop_all();                      // after a fault nothing that is queued runs
bool capturing(cudaStream_t stream);

int current_device();                // of the calling thread
int device_of(cudaStream_t stream);  // null: the thread's
// Whether a kernel on the device may touch what lies on the other.
bool reaches(int device, int other);

bool broken();  // a kernel has faulted
void break_device(const std::string& report);

// Device memory.
bool device_range(const void* memory, size_t bytes);  // wholly inside one live allocation
void mark_written(void* memory, size_t bytes);
void copy_marks(void* to, const void* from, size_t bytes);

}  // namespace emulator
