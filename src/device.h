// What a worker computes on: the CPU, or a CUDA device.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "convoy/backend.h"

namespace convoy {

// Of --device cpu, cuda or auto (CUDA where the build has it and the machine has a device; the emulated one has to be
// asked for). Null: the CPU. Throws InputError when there is no CUDA to be had.
const Cuda* choose_device(const std::string& device);

struct EndCudaQueue {
  void operator()(void* queue) const { find_cuda()->end_queue(queue); }
};
using CudaQueuePointer = std::unique_ptr<void, EndCudaQueue>;

// A queue of the device, and an Exec on it, valid as long as the queue.
CudaQueuePointer cuda_queue(const Cuda& cuda, int device);
Exec cuda_exec(const Cuda& cuda, const CudaQueuePointer& queue);

// What --precision means on the Exec: the type of activations and of the weights that are read; the Exec learns whether
// f32 is multiplied as TF32. Throws InputError for another word, and for all but f32 on the CPU.
DType use_precision(const std::string& precision, Exec& exec);

// Threads that decode images for this worker: its own, or, where a device computes, --threads or the worker's share of
// the CPUs.
int reading_threads(const Exec& exec, int64_t threads, int workers_here);

// Seconds by the device's clock between points of its queues: the host's clock says when work was queued, not when it
// was done. Used on one thread, whose device it is.
class DeviceClock {
 public:
  explicit DeviceClock(const Cuda& cuda) : cuda_(cuda) {}
  ~DeviceClock();
  DeviceClock(const DeviceClock&) = delete;
  DeviceClock& operator=(const DeviceClock&) = delete;

  void restart() { used_ = 0; }                   // forgets all points
  size_t point(Exec& exec);                       // of its queue, now
  double seconds(size_t from, size_t to) const {  // of points that the queues have reached
    return cuda_.seconds(marks_[from], marks_[to]);
  }

 private:
  const Cuda& cuda_;
  std::vector<void*> marks_;
  size_t used_ = 0;
};

// "NVIDIA H200 (compute capability 9.0, 141 GB)"
std::string device_text(const CudaDevice& device);

}  // namespace convoy
