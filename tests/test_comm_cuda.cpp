// Communicators over device memory: the common bodies (comm_tests.h), and how they order what is queued.
#include "cuda_ranks.h"
#include "delay_line.h"

namespace convoy {
namespace {

using comm_tests::Buffer;
using comm_tests::synchronize;

struct Setting {
  Kind kind;
  int world;
};
class CudaRanks : public testing::TestWithParam<Setting> {};
TEST_P(CudaRanks, DoWhatTheContractSays) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  const auto& [kind, world] = GetParam();
  if (!has(kind, world)) GTEST_SKIP() << "no NCCL, or fewer than " << world << " devices";
  for (const reference::Way& way : ways_of(kind, world))
    for (const auto& test : comm_tests::cases()) {
      SCOPED_TRACE(way.name + " " + test.name);
      set_way(way);
      run_on_devices(kind.make(world), kind.own_devices ? world : 1, test.body);
    }
}
std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const Kind& kind : {kLocal, kStaged, kNccl})
    for (const int world : {1, 2, 3, 4, 8}) all.push_back({kind, world});
  return all;
}
std::string name_of(const testing::TestParamInfo<Setting>& info) {
  return text(info.param.kind.name, "On", info.param.world);
}
INSTANTIATE_TEST_SUITE_P(Comm, CudaRanks, testing::ValuesIn(settings()), name_of);

TEST(CommCuda, RanksOnSeveralDevices) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const int world : {2, 3})
    for (const bool peers : {true, false}) {
      SCOPED_TRACE(text(world, peers ? " peers" : " devices that do not reach each other"));
      use_devices(world, peers);
      const int devices = std::min(world, find_cuda()->devices());
      for (const auto& test : comm_tests::cases())
        if (test.body != comm_tests::big && test.body != comm_tests::schedules)
          run_on_devices(local_communicators(world), devices, test.body);
    }
  // More than the staging holds at a time.
  run_on_devices(
      local_communicators(2), std::min(2, find_cuda()->devices()),
      [](Communicator& comm, Exec& exec) { comm_tests::all_reduce(comm, exec, (2 << 20) + 10, 1); });
  use_devices(1);
}

TEST(CommCuda, TwoGroupsAtOnce) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Kind& kind : {kLocal, kStaged, kNccl})
    for (const int world : {2, 3}) {
      if (!has(kind, world)) continue;
      for (const reference::Way& way : ways_of(kind, 4)) {
        SCOPED_TRACE(text(kind.name, " ", world, " ", way.name));
        set_way(way);
        const int devices = kind.own_devices ? world : 1;
        const Ranks a = kind.make(world), b = kind.make(world);
        run_on_devices(a, devices, [&](Communicator& comm, Exec& exec) {
          Exec other = exec_of(100 + comm.rank(), comm.rank() % devices);
          comm_tests::two_in_flight(comm, exec, *b[static_cast<size_t>(comm.rank())], other);
        });
      }
    }
}

// Operands are written again right behind the transfers that read them, and nobody waits in between.
void rewrites(Communicator& comm, Exec& exec) {
  constexpr int kRounds = 6;
  constexpr int64_t kCount = 700;
  const int world = comm.world(), rank = comm.rank();
  const Blocks blocks(static_cast<size_t>(world), kCount);
  std::vector<std::unique_ptr<Buffer<float>>> gathered, sums, received;
  Buffer<float> x(exec, kCount), y(exec, kCount);
  const std::vector<float> zeros(kCount);
  for (int round = 0; round < kRounds; ++round) {
    const auto given = comm_tests::values<float>(rank, 0, kCount, round);
    exec.backend->copy(exec, x.data(), given.data(), kCount * 4);
    gathered.push_back(std::make_unique<Buffer<float>>(exec, world * kCount));
    comm.all_gather(exec, {}, In(x.data(), Shape{kCount}), View(gathered.back()->data(), {world * kCount}),
                    blocks);
    exec.backend->copy(exec, y.data(), x.data(), kCount * 4);
    comm.all_reduce(exec, {}, View(x.data(), {kCount}));
    sums.push_back(std::make_unique<Buffer<float>>(exec, kCount));
    exec.backend->copy(exec, sums.back()->data(), x.data(), kCount * 4);
    received.push_back(std::make_unique<Buffer<float>>(exec, kCount));
    const View got(received.back()->data(), {kCount});
    if (rank == 0) comm.send(exec, {}, In(y.data(), Shape{kCount}), 1);
    if (rank == 1) comm.recv(exec, {}, got, 0);
    exec.backend->copy(exec, y.data(), zeros.data(), kCount * 4);
  }
  for (int round = 0; round < kRounds; ++round) {
    const auto at = static_cast<size_t>(round);
    comm_tests::expect_all(
        gathered[at]->read(),
        [&](int64_t i) { return comm_tests::value<float>(static_cast<int>(i / kCount), i % kCount, round); },
        text("gathered in round ", round));
    comm_tests::expect_all(
        sums[at]->read(), [&](int64_t i) { return comm_tests::sum_in_rank_order(world, i, round); },
        text("summed in round ", round));
    if (rank == 1)
      comm_tests::expect_all(
          received[at]->read(), [&](int64_t i) { return comm_tests::value<float>(0, i, round); },
          text("received in round ", round));
  }
}

TEST(CommCuda, OperandsCanBeRewrittenAtOnce) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Kind& kind : {kLocal, kStaged, kNccl})
    for (const int world : {2, 4}) {
      if (!has(kind, world)) continue;
      for (const reference::Way& way : ways_of(kind, 4)) {
        SCOPED_TRACE(text(kind.name, " ", world, " ", way.name));
        set_way(way);
        run_on_devices(kind.make(world), kind.own_devices ? world : 1, rewrites);
      }
    }
}

TEST(CommCuda, SimulatedLinksGoAroundStagedTransfers) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  Ranks ranks = staged(3);
  for (auto& rank : ranks)
    rank = std::make_unique<DelayLine>(std::move(rank), LinkSpeed{50, 0}, std::make_shared<Link>());
  set_way({"late", 1, 0, true});
  run_on_devices(ranks, 1, [](Communicator& comm, Exec& exec) {
    comm_tests::all_reduces(comm, exec);
    comm_tests::all_gathers(comm, exec);
    comm_tests::rings(comm, exec);
  });
}

#ifdef CONVOY_TEST_EMULATED
// As late as allowed, nothing has happened before somebody synchronizes: the transfers themselves wait for nothing.
TEST(CommCuda, NobodyWaitsForTheDevice) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Kind& kind : {kLocal, kNccl}) {
    if (!has(kind, 3)) continue;
    set_way({"late", 1, 0, true});
    const Ranks hosts = thread_communicators(3);
    run_on_devices(kind.make(3), kind.own_devices ? 3 : 1, [&](Communicator& comm, Exec& exec) {
      auto* x = static_cast<float*>(exec.backend->alloc_host(4));
      *x = 1;
      comm.all_reduce(exec, {}, View(x, {1}));
      Exec at_once;
      at_once.backend = cpu_backends().back();
      Communicator& host = *hosts[static_cast<size_t>(comm.rank())];
      host.barrier(at_once);
      EXPECT_EQ(*x, 1) << kind.name;
      host.barrier(at_once);
      synchronize(exec);
      EXPECT_EQ(*x, 3) << kind.name;
      exec.backend->release_host(x);
    });
  }
}
#endif

}  // namespace
}  // namespace convoy
