// What a worker computes on: the CPU, or a CUDA device.
#pragma once
#include <memory>
#include <string>

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

// "NVIDIA H200 (compute capability 9.0, 141 GB)"
std::string device_text(const CudaDevice& device);

}  // namespace convoy
