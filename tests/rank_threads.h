// Ranks as threads of a test: a body on each, with or without a queue.
#pragma once
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "convoy/comm.h"

namespace convoy {

using Ranks = std::vector<std::unique_ptr<Communicator>>;

// body(communicator, exec) on a thread a rank; what it throws is a failure, and ends the others.
template <class Body>
void run_on(const Ranks& ranks, bool queued, const Body& body) {
  std::vector<std::thread> threads;
  for (const auto& comm : ranks)
    threads.emplace_back([&, queued] {
      const CpuQueuePointer queue = queued ? cpu_queue() : nullptr;
      Exec exec = cpu_queue_exec(*cpu_backends().back(), queue);
      try {
        body(*comm, exec);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << comm->rank() << " of " << comm->world() << ": " << error.what();
        comm->abort();
      }
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace convoy
