#include "device.h"

#include <cstdio>

namespace convoy {

const Cuda* choose_device(const std::string& device) {
  const Cuda* cuda = find_cuda();
  if (device == "cpu") return nullptr;
  if (device == "auto") return cuda != nullptr && !cuda->emulated && cuda->devices() > 0 ? cuda : nullptr;
  if (device != "cuda") input_error("--device ", device, ": one of cpu, cuda, auto");
  if (cuda == nullptr)
    input_error("--device cuda: this build has no CUDA; configure it with -DCONVOY_CUDA=ON where nvcc is");
  if (cuda->devices() == 0)
    input_error("--device cuda: there is no CUDA device; nvidia-smi tells what the driver sees");
  return cuda;
}

CudaQueuePointer cuda_queue(const Cuda& cuda, int device) {
  return CudaQueuePointer(cuda.make_queue(device));
}

Exec cuda_exec(const Cuda& cuda, const CudaQueuePointer& queue) {
  Exec exec;
  exec.backend = cuda.backend;
  exec.queue = queue.get();
  return exec;
}

std::string device_text(const CudaDevice& device) {
  char memory[32];
  std::snprintf(memory, sizeof memory, "%.0f GB", static_cast<double>(device.bytes) / 1e9);
  return text(device.name, " (compute capability ", device.major, ".", device.minor, ", ", memory, ")");
}

}  // namespace convoy
