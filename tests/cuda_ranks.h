// Ranks of a test on CUDA devices: the kinds of communicators, and a thread and a queue a rank.
#pragma once
#include <atomic>
#include <map>
#include <mutex>

#include "comm_cuda.h"
#include "comm_tests.h"
#include "kernels/comm.h"
#include "rank_threads.h"
#include "test_device.h"

namespace convoy {

inline bool runs_cuda() {
  return reference::is_cuda(*reference::test_backends().back());
}

// Queue number `rank` of the device: made once, it has a large workspace.
inline Exec exec_of(int rank, int device) {
  struct End {
    void operator()(void* queue) const { find_cuda()->end_queue(queue); }
  };
  static std::mutex mutex;
  static std::map<std::pair<int, int>, std::unique_ptr<void, End>> queues;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& queue = queues[{rank, device}];
  if (queue == nullptr) queue.reset(find_cuda()->make_queue(device));
  cuda_comm()->use_device(device);
  Exec exec;
  exec.backend = find_cuda()->backend;
  exec.queue = queue.get();
  return exec;
}

// body(communicator, exec) on a thread a rank, with a queue of device rank % devices; what it throws is a failure.
template <class Body>
void run_on_devices(const Ranks& ranks, int devices, const Body& body) {
  std::vector<std::thread> threads;
  for (const auto& comm : ranks)
    threads.emplace_back([&] {
      try {
        Exec exec = exec_of(comm->rank(), comm->rank() % devices);
        body(*comm, exec);
      } catch (const std::exception& error) {
        ADD_FAILURE() << "rank " << comm->rank() << " of " << comm->world() << ": " << error.what();
        comm->abort();
      }
    });
  for (std::thread& thread : threads) thread.join();
}

#ifdef CONVOY_TEST_NCCL
constexpr bool kSumsInOrder = true;
#else
constexpr bool kSumsInOrder = false;  // the real NCCL: of two ranks only
#endif

// Emulated, there are as many devices as a test asks for, and the NCCL of the emulator.
inline void use_devices(int count, bool peers = true) {
#ifdef CONVOY_TEST_NCCL
  setenv("CONVOY_NCCL", CONVOY_TEST_NCCL, 1);
  emulator::options().devices = std::max(count, emulator::options().devices);
  emulator::options().peers = peers;
#else
  (void)count;
  (void)peers;
#endif
}

inline void set_way(const reference::Way& way) {
  reference::test_exec(*find_cuda()->backend, way);
}

struct Kind {
  const char* name;
  Ranks (*make)(int world);
  bool own_devices;  // one a rank
};
inline Ranks staged(int world) {
  Ranks ranks = thread_communicators(world);
  for (auto& rank : ranks) rank = staged_communicator(std::move(rank));
  return ranks;
}
inline Ranks nccl(int world) {
  std::vector<int> devices;
  for (int rank = 0; rank < world; ++rank) devices.push_back(rank);
  return nccl_communicators(devices);
}
inline const Kind kLocal{"Local", local_communicators, false}, kStaged{"Staged", staged, false},
    kNccl{"Nccl", nccl, true};

// Emulated kernels run in every way; the host's part in few: at once and late, and large groups in one.
inline std::vector<reference::Way> ways_of(const Kind& kind, int world) {
  auto all = reference::ways(*find_cuda()->backend);
  const size_t most = world > 4 ? 1 : kind.make == kLocal.make && world <= 3 ? all.size() : 2;
  if (world > 4 && all.size() > 1) all.erase(all.begin());  // the late one
  if (all.size() > most) all.resize(most);
  return all;
}

// What this test can have of the kind, on so many ranks.
inline bool has(const Kind& kind, int world) {
  if (!kind.own_devices) return true;
  use_devices(world);
  if (find_cuda()->devices() < world || (!kSumsInOrder && world > 2)) return false;
  try {
    nccl_version();
  } catch (const InputError&) {
    return false;
  }
  return true;
}

}  // namespace convoy
