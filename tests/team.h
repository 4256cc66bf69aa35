// K workers as threads of a test, each with its ends of two groups and a queue for transfers.
#pragma once
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "convoy/train.h"
#include "device.h"
#include "test_device.h"
#include "transport.h"

namespace convoy {

// The backend of tests with several workers: CUDA where the build has it and there is a device, else the best of the CPU.
inline const Backend& team_backend() {
  const Backend& last = *reference::test_backends().back();
  return reference::is_cuda(last) ? last : cpu_backend("auto");
}

// How workers of the tests' backend exchange: every way that there is.
inline std::vector<std::string> team_transports() {
  if (!reference::is_cuda(team_backend())) return {"threads"};
#ifdef CONVOY_TEST_EMULATED
  setenv("CONVOY_NCCL", CONVOY_TEST_NCCL, 1);
#endif
  return find_cuda()->emulated ? std::vector<std::string>{"local", "nccl"}
                               : std::vector<std::string>{"local"};
}

// A worker's queues and groups while its body runs.
struct TestWorker {
  CpuQueuePointer cpu;
  CudaQueuePointer compute, transfer;
  Team team;
  Exec exec;
};
inline void run_worker(TestWorker& w, const Backend& backend, int device,
                       const std::function<void(Team&, Exec&)>& body) {
  if (reference::is_cuda(backend)) {
    w.compute = cuda_queue(*find_cuda(), device);
    w.transfer = cuda_queue(*find_cuda(), device);
    w.exec = cuda_exec(*find_cuda(), w.compute);
    w.team.queue = cuda_exec(*find_cuda(), w.transfer);
    w.team.host_queue.backend = &cpu_backend("auto");
  } else {
    w.cpu = cpu_queue();
    w.exec.backend = &backend;
    w.team.queue = cpu_queue_exec(backend, w.cpu);
  }
  body(w.team, w.exec);
  w.exec.backend->synchronize(w.team.queue);
}

// Runs body(team, exec) on every worker; rethrows the error of the one that failed first.
inline void run_team(int world, const Backend& backend, const std::function<void(Team&, Exec&)>& body,
                     const std::string& transport = "local") {
  const bool device = reference::is_cuda(backend);
  const bool nccl = transport == "nccl";
#ifdef CONVOY_TEST_EMULATED
  emulator::options().devices = nccl ? world : 1;  // NCCL wants one a rank
#endif
  const auto group = [&] {
    return device ? cuda_communicators(*find_cuda(), transport, world) : thread_communicators(world);
  };
  auto compute = group(), transfer = group(), host = thread_communicators(world);
  std::mutex mutex;
  std::exception_ptr first;
  const auto work = [&](size_t rank) {
    TestWorker worker;
    worker.team.compute = compute[rank].get();
    worker.team.transfer = transfer[rank].get();
    if (device) worker.team.host_group = host[rank].get();
    try {
      run_worker(worker, backend, nccl ? static_cast<int>(rank) : 0, body);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!first) first = std::current_exception();
      for (auto* of : {&compute, &transfer, &host}) (*of)[rank]->abort();
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank) threads.emplace_back(work, static_cast<size_t>(rank));
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

// Between the host and a model whose worker is idle.
inline void copy_now(const Model& model, void* to, const void* from, int64_t bytes) {
  Exec exec;
  exec.backend = model.backend;
  exec.backend->copy(exec, to, from, bytes);
  exec.backend->synchronize(exec);
}
inline std::vector<float> values_of(const Model& model, const In& view) {
  std::vector<float> values(static_cast<size_t>(view.count()));
  copy_now(model, values.data(), view.data, view.bytes());
  return values;
}

}  // namespace convoy
