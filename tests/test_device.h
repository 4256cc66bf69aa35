// The backends that tests run on, and every way to run an operation on one of them: on the CPU with 1, 2 and 3 threads;
// emulated, with blocks, warps and asynchronous work in several orders; on a GPU three times. All ways give the same
// bits.
//
// CONVOY_TEST_BACKENDS=cpu or cuda takes those alone; CONVOY_EMULATOR_WAYS=1 runs emulated kernels one way.
#pragma once
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "convoy/backend.h"

#ifdef CONVOY_TEST_EMULATED
#include "emulator/emulator.h"
#endif

namespace convoy::reference {

inline bool is_cuda(const Backend& backend) {
  return find_cuda() != nullptr && &backend == find_cuda()->backend;
}
inline std::vector<const Backend*> test_backends() {
  const char* only = std::getenv("CONVOY_TEST_BACKENDS");
  std::vector<const Backend*> found;
  if (only == nullptr || std::strcmp(only, "cuda") != 0) found = cpu_backends();
  if (find_cuda() != nullptr && find_cuda()->devices() > 0 &&
      (only == nullptr || std::strcmp(only, "cpu") != 0))
    found.push_back(find_cuda()->backend);
  return found;
}

// Memory for operands: the host reads and writes it, and so does every backend.
inline const Backend& operand_memory() {
  static const Backend memory = [] {
    const Backend& of = *test_backends().back();
    Backend m = of;
    m.alloc = of.alloc_host;
    m.release = of.release_host;
    return m;
  }();
  return memory;
}

// The work of the operation that a test is about to check, in multiply-adds. The emulator leaves out what is large.
inline double& test_work() {
  static double work = 0;
  return work;
}
inline bool too_large(const Backend& backend) {
#ifdef CONVOY_TEST_EMULATED
  return is_cuda(backend) && test_work() > 1e6;
#else
  (void)backend;
  return false;
#endif
}

// Whether the device may be one of those with kernels of their own for compute capability 9.0.
inline bool may_be_hopper() {
#ifdef CONVOY_TEST_EMULATED
  return emulator::options().architecture == 90;
#else
  return true;
#endif
}

// The type of the operands of the operations that a test is about to check. The CPU takes f32 alone.
inline DType& test_dtype() {
  static DType dtype = DType::kF32;
  return dtype;
}
inline bool left_out(const Backend& backend) {
  return too_large(backend) || (!is_cuda(backend) && test_dtype() != DType::kF32);
}
// body(dtype) for every type that some backend takes.
template <class Body>
void for_every_dtype(const Body& body) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    if (dtype != DType::kF32 && !is_cuda(*test_backends().back())) continue;
    test_dtype() = dtype;
    body(dtype);
  }
  test_dtype() = DType::kF32;
}

struct Way {
  std::string name;
  int threads = 1;
  uint64_t seed = 0;
  bool late = false;
};
inline std::vector<Way> ways(const Backend& backend) {
  if (!is_cuda(backend)) return {{"1 thread", 1}, {"2 threads", 2}, {"3 threads", 3}};
#ifdef CONVOY_TEST_EMULATED
  std::vector<Way> all;
  for (const uint64_t seed : {0, 1, 2})
    for (const bool late : {false, true})
      all.push_back(
          {"CONVOY_EMULATOR_SEED=" + std::to_string(seed) + (late ? " CONVOY_EMULATOR_ASYNC=late" : ""), 1,
           seed, late});
  if (const char* few = std::getenv("CONVOY_EMULATOR_WAYS")) all.resize(static_cast<size_t>(std::atoi(few)));
  return all;
#else
  return {{"first run", 1}, {"second run", 1}, {"third run", 1}};
#endif
}

// An Exec of the backend for one of its ways.
inline Exec test_exec(const Backend& backend, const Way& way) {
  if (!is_cuda(backend)) return cpu_exec(backend, way.threads);
#ifdef CONVOY_TEST_EMULATED
  emulator::options().seed = way.seed;
  emulator::options().late = way.late;
#endif
  struct End {
    void operator()(void* queue) const { find_cuda()->end_queue(queue); }
  };
  static const std::unique_ptr<void, End> queue(find_cuda()->make_queue(0));
  Exec ex;
  ex.backend = &backend;
  ex.queue = queue.get();
  return ex;
}
inline Exec test_exec(const Backend& backend, int threads = 1) {
  Way way = ways(backend)[0];
  way.threads = threads;
  return test_exec(backend, way);
}

}  // namespace convoy::reference
