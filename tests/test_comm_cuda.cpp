// Communicators over device memory: the common bodies (comm_tests.h), and what happens when a rank fails.
#include <functional>
#include <map>
#include <mutex>

#include "comm_cuda.h"
#include "comm_tests.h"
#include "kernels/comm.h"
#include "rank_threads.h"
#include "test_device.h"

namespace convoy {
namespace {

using comm_tests::Buffer;
using comm_tests::synchronize;
using Clock = std::chrono::steady_clock;

bool runs_cuda() {
  return reference::is_cuda(*reference::test_backends().back());
}

// Queue number `rank` of the device: made once, it has a large workspace.
Exec exec_of(int rank, int device) {
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

void set_way(const reference::Way& way) {
  reference::test_exec(*find_cuda()->backend, way);
}

struct Kind {
  const char* name;
  Ranks (*make)(int world);
};
Ranks staged(int world) {
  Ranks ranks = thread_communicators(world);
  for (auto& rank : ranks) rank = staged_communicator(std::move(rank));
  return ranks;
}
const Kind kLocal{"Local", local_communicators}, kStaged{"Staged", staged};

struct Setting {
  Kind kind;
  int world;
};
class CudaRanks : public testing::TestWithParam<Setting> {};
TEST_P(CudaRanks, DoWhatTheContractSays) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  const auto& [kind, world] = GetParam();
  for (const reference::Way& way : reference::ways(*find_cuda()->backend))
    for (const auto& test : comm_tests::cases()) {
      SCOPED_TRACE(way.name + " " + test.name);
      set_way(way);
      run_on_devices(kind.make(world), 1, test.body);
    }
}
std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const Kind& kind : {kLocal, kStaged})
    for (const int world : {1, 2, 3, 4, 8}) all.push_back({kind, world});
  return all;
}
std::string name_of(const testing::TestParamInfo<Setting>& info) {
  return text(info.param.kind.name, "On", info.param.world);
}
INSTANTIATE_TEST_SUITE_P(Comm, CudaRanks, testing::ValuesIn(settings()), name_of);

}  // namespace
}  // namespace convoy
