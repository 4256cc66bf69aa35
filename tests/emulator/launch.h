// A launch as the runtime queues it: the kernel and a copy of its arguments.
#pragma once
#include <memory>
#include <tuple>

#include "vector_types.h"

struct CUstream_st;
typedef CUstream_st* cudaStream_t;

namespace emulator {

struct Launch {
  const char* kernel = nullptr;
  const void* function = nullptr;
  dim3 grid, block;
  size_t shared_bytes = 0;
  int device = 0;
  std::shared_ptr<void> arguments;
  size_t argument_bytes = 0;
  void (*call)(void* arguments) = nullptr;  // one thread's run
};

// Queues the launch; cudaGetLastError() tells when the device would refuse it.
void enqueue(Launch launch, cudaStream_t stream);

// What <<<grid, block, shared_bytes, stream>>>(arguments...) does: converts the arguments, copies them.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes,
            cudaStream_t stream, Arguments&&... arguments) {
  struct Bound {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  auto bound = std::make_shared<Bound>(Bound{kernel, std::tuple<Parameters...>(arguments...)});
  Launch l;
  l.kernel = name;
  l.function = reinterpret_cast<const void*>(kernel);
  l.grid = grid;
  l.block = block;
  l.shared_bytes = shared_bytes;
  l.argument_bytes = sizeof(Bound);
  l.call = [](void* memory) {
    const Bound& b = *static_cast<const Bound*>(memory);
    std::apply(b.kernel, b.arguments);
  };
  l.arguments = std::move(bound);
  enqueue(std::move(l), stream);
}

}  // namespace emulator
