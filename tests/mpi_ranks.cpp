// One rank of tests/test_mpi.sh:   mpirun -np K mpi_ranks CASE
//
//   bodies          what every communicator must do (comm_tests.h), under GoogleTest
//   differ          facts of which the last rank has others
//   fail RANK       that rank throws while the others wait for it
//   input           every rank throws the same InputError
//   die RANK        that rank kills itself with SIGKILL while the others wait for it
//   heard           every rank hears what all others write on their boards, and that they write more
//   status N        every rank returns N
//   workers N       run_workers with --workers N
//   cpus            prints this rank, its threads and the CPUs that its threads run on
#include <gtest/gtest.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#include <sched.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <set>
#include <thread>

#include "comm_mpi.h"
#include "comm_tests.h"
#include "status_board.h"
#include "workers.h"

namespace convoy {
namespace {

Team* team_of_tests = nullptr;

class MpiBodies : public testing::TestWithParam<std::tuple<comm_tests::Case, bool>> {};
TEST_P(MpiBodies, DoWhatTheContractSays) {
  const auto& [test, queued] = GetParam();
  Team& team = *team_of_tests;
  Exec at_once = team.queue;
  at_once.queue = nullptr;
  test.body(queued ? *team.transfer : *team.compute, queued ? team.queue : at_once);
}
std::string name_of(const testing::TestParamInfo<MpiBodies::ParamType>& info) {
  return text(std::get<0>(info.param).name, std::get<1>(info.param) ? "Queued" : "AtOnce");
}
INSTANTIATE_TEST_SUITE_P(Mpi, MpiBodies,
                         testing::Combine(testing::ValuesIn(comm_tests::cases()), testing::Bool()), name_of);

TEST(MpiRanks, TwoGroupsAtOnce) {
  Team& team = *team_of_tests;
  const CpuQueuePointer queue = cpu_queue();
  Exec other = cpu_queue_exec(*team.queue.backend, queue);
  comm_tests::two_in_flight(*team.compute, other, *team.transfer, team.queue);
  Exec at_once = team.queue;
  at_once.queue = nullptr;
  comm_tests::two_in_flight(*team.compute, at_once, *team.transfer, team.queue);
}

// Several pieces of staging, the last one short, and blocks of different lengths.
TEST(MpiRanks, SumsLongerThanTheirStaging) {
  Team& team = *team_of_tests;
  comm_tests::all_reduce(*team.transfer, team.queue, 3'400'001, 21);
  Blocks blocks(static_cast<size_t>(team.world()), 100);
  blocks.back() = 900;
  comm_tests::reduce_scatter(*team.transfer, team.queue, blocks, 1500, false, 22);
  comm_tests::reduce(*team.transfer, team.queue, 1'700'001, team.world() - 1, false, 23);
}

// MPI counts in int; needs the memory of 2.2 GB a rank, so it is asked for.
TEST(MpiRanks, MoreThanIntMaxBytes) {
  if (std::getenv("CONVOY_TEST_HUGE") == nullptr) GTEST_SKIP() << "CONVOY_TEST_HUGE is not set";
  Team& team = *team_of_tests;
  const int64_t count = (int64_t{1} << 31) + 100;
  std::vector<uint8_t> x(static_cast<size_t>(count), team.rank() == 0 ? 7 : 1);
  if (team.rank() == 0) x.back() = 9;
  team.transfer->broadcast(team.queue, {}, View(x.data(), {count}), 0);
  comm_tests::synchronize(team.queue);
  EXPECT_EQ(std::count(x.begin(), x.end(), 7), count - 1);
  EXPECT_EQ(x.back(), 9);
}

TEST(MpiRanks, AnotherLengthThanWasNamedIsAnError) {
  Team& team = *team_of_tests;
  if (team.world() == 1) GTEST_SKIP() << "one rank";
  std::vector<uint8_t> x(100);
  for (const int64_t wanted : {40, 60}) {
    Exec exec = team.queue;
    exec.queue = nullptr;
    if (team.rank() == 0) team.compute->send(exec, {}, In(x.data(), {50}), 1);
    if (team.rank() != 1) continue;
    EXPECT_THROW(team.compute->recv(exec, {}, View(x.data(), {wanted}), 0), Error);
  }
}

void wait_for_all(Team& team) {
  team.transfer->barrier(team.queue);
  comm_tests::synchronize(team.queue);
}

void hear_all(const Team& team) {
  for (int line = 0; line < 3; ++line) {
    WorkerStatus own;
    std::snprintf(own.doing, sizeof own.doing, "line %d of rank %d", line, team.rank());
    team.board->write(team.rank(), own);
    for (int rank = 0; rank < team.world(); ++rank)
      for (int tries = 0;; ++tries) {
        int heard = -1, of = -1;
        const StatusBoard::Entry entry = team.board->read(rank);
        if (entry.heard) std::sscanf(entry.status.doing, "line %d of rank %d", &heard, &of);
        CONVOY_CHECK(!entry.heard || of == rank, "rank ", rank, " says ", entry.status.doing);
        if (heard >= line) break;
        CONVOY_CHECK(tries < 1200, "rank ", team.rank(), " does not hear rank ", rank);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
  }
}

void print_cpus(const Team& team, const Exec& compute) {
  std::set<int> cpus;
#pragma omp parallel num_threads(compute.threads)
  {
    cpu_set_t mask;
    sched_getaffinity(0, sizeof(mask), &mask);
#pragma omp critical
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &mask)) cpus.insert(cpu);
  }
  std::string line = text("rank ", team.rank(), " of ", team.world(), ": ", compute.threads, " threads on");
  for (const int cpu : cpus) line += text(" ", cpu);
  std::printf("%s\n", line.c_str());
}

int body(Team& team, const Exec& compute, int argc, char** argv) {
  const std::string what = argv[1];
  const int number = argc > 2 ? std::atoi(argv[2]) : 0;
  const bool chosen = team.rank() == number;
  if (what == "bodies") {
    Team all = team;
    std::unique_ptr<Communicator> alone;  // a group of one does what the others do
    const CpuQueuePointer queue = cpu_queue();
    if (team.world() == 1) {
      alone = mpi()->communicator();
      all = {alone.get(), alone.get(), cpu_queue_exec(*compute.backend, queue)};
    }
    team_of_tests = &all;
    if (!leader(team)) {
      auto& listeners = testing::UnitTest::GetInstance()->listeners();
      testing::TestEventListener* printer = listeners.Release(listeners.default_result_printer());
      if (std::getenv("CONVOY_TEST_ALL_RANKS") != nullptr) listeners.Append(printer);
    }
    return RUN_ALL_TESTS();
  }
  if (what == "differ") {
    const std::string net = "input 8x8x3\n" + std::string(100000, '#') + "\nfc ";
    check_agreement(team, {{"lr", "0.1"}, {"net", net + "10"}});
    const bool last = team.rank() == team.world() - 1;
    check_agreement(team, {{"lr", "0.1"}, {"net", net + (last ? "11" : "10")}, {"seed", last ? "1" : "2"}});
    return 0;
  }
  if (what == "fail" && chosen) throw Error("the disk is full");
  if (what == "input") input_error("--data nowhere: no such folder");
  if (what == "die" && chosen) kill(getpid(), SIGKILL);
  if (what == "fail" || what == "die") wait_for_all(team);
  if (what == "heard") hear_all(team);
  if (what == "cpus") print_cpus(team, compute);
  return what == "status" ? number : 0;
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (argc < 2) return 2;
  convoy::WorkersOptions options;
  options.isa = "plain";
  if (std::string(argv[1]) == "workers") options.workers = std::atoi(argv[2]);
  try {
    return convoy::run_workers(options, [&](convoy::Team& team, const convoy::Exec& compute) {
      return convoy::body(team, compute, argc, argv);
    });
  } catch (const convoy::InputError& error) {
    std::fprintf(stderr, "convoy: error: %s\n", error.what());
    return 2;
  }
}
