// K workers as threads of a test, each with its ends of two groups and a queue for transfers.
#pragma once
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "convoy/comm.h"

namespace convoy {

// Runs body(team, exec) on every worker; rethrows the error of the one that failed first.
inline void run_team(int world, const Backend& backend, const std::function<void(Team&, Exec&)>& body) {
  auto compute = thread_communicators(world), transfer = thread_communicators(world);
  std::mutex mutex;
  std::exception_ptr first;
  const auto work = [&](size_t rank) {
    try {
      const CpuQueuePointer queue = cpu_queue();
      Team team{compute[rank].get(), transfer[rank].get(), cpu_queue_exec(backend, queue)};
      Exec exec;
      exec.backend = &backend;
      body(team, exec);
      exec.backend->synchronize(team.queue);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      if (!first) first = std::current_exception();
      compute[rank]->abort();
      transfer[rank]->abort();
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank) threads.emplace_back(work, static_cast<size_t>(rank));
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace convoy
