#include "device.h"

#include <algorithm>
#include <cstdio>
#include <thread>

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

DType use_precision(const std::string& precision, Exec& exec) {
  exec.tf32 = precision == "tf32";
  if (precision == "f32") return DType::kF32;
  if (precision != "tf32" && precision != "bf16" && precision != "f16")
    input_error("--precision ", precision, ": one of f32, tf32, bf16, f16");
  if (exec.backend->host_memory)
    input_error("--precision ", precision, ": the CPU computes in f32; use --device cuda, or f32");
  return precision == "bf16" ? DType::kBF16 : precision == "f16" ? DType::kF16 : DType::kF32;
}

int reading_threads(const Exec& exec, int64_t threads, int workers_here) {
  if (exec.backend->host_memory) return exec.threads;
  if (threads > 0) return static_cast<int>(threads);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / std::max(workers_here, 1));
}

DeviceClock::~DeviceClock() {
  for (void* mark : marks_) cuda_.end_mark(mark);
}

size_t DeviceClock::point(Exec& exec) {
  if (used_ == marks_.size()) marks_.push_back(cuda_.make_mark());
  cuda_.set_mark(exec, marks_[used_]);
  return used_++;
}

std::string device_text(const CudaDevice& device) {
  char memory[32];
  std::snprintf(memory, sizeof memory, "%.0f GB", static_cast<double>(device.bytes) / 1e9);
  return text(device.name, " (compute capability ", device.major, ".", device.minor, ", ", memory, ")");
}

}  // namespace convoy
