// How a program becomes workers: threads here; processes in test_mpi.sh.
#include <gtest/gtest.h>

#include <atomic>
#include <set>
#include <thread>

#include "launcher.h"
#include "workers.h"

namespace convoy {
namespace {

WorkersOptions workers(int64_t count) {
  WorkersOptions options;
  options.workers = count;
  options.threads = 1;
  options.isa = "plain";
  return options;
}

void wait_for_all(Team& team) {
  team.transfer->barrier(team.queue);
  team.queue.backend->synchronize(team.queue);
}

std::string message_of(int64_t count, const std::function<int(Team&, const Exec&)>& body) {
  try {
    run_workers(workers(count), body);
  } catch (const InputError& error) {
    return text("input: ", error.what());
  } catch (const Aborted& error) {
    return text("aborted: ", error.what());
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

TEST(Workers, OneIsAloneOnTheThreadThatAsks) {
  for (const int64_t count : {0, 1}) {
    const auto caller = std::this_thread::get_id();
    EXPECT_EQ(run_workers(workers(count),
                          [&](Team& team, const Exec& compute) {
                            EXPECT_EQ(std::this_thread::get_id(), caller);
                            EXPECT_EQ(team.compute, nullptr);
                            EXPECT_EQ(team.transfer, nullptr);
                            EXPECT_TRUE(leader(team));
                            EXPECT_EQ(compute.threads, 1);
                            return 75;
                          }),
              75);
  }
}

TEST(Workers, EachHasItsEndsOfTwoGroups) {
  for (const int world : {2, 3, 8}) {
    std::atomic<int> ranks{0}, leaders{0};
    const int status = run_workers(workers(world), [&](Team& team, const Exec& compute) {
      EXPECT_EQ(team.world(), world);
      EXPECT_EQ(team.transfer->world(), world);
      EXPECT_EQ(team.transfer->rank(), team.rank());
      EXPECT_NE(team.compute, team.transfer);
      EXPECT_EQ(compute.queue, nullptr);
      EXPECT_NE(team.queue.queue, nullptr);
      EXPECT_STREQ(compute.backend->name, "cpu_plain");
      ranks += 1 << team.rank();
      leaders += leader(team) ? 1 : 0;
      // Both at once: neither waits for the other's queue.
      Exec exec = compute;
      float x = static_cast<float>(team.rank()), y = 1;
      team.transfer->all_reduce(team.queue, {}, View(&x, {1}));
      team.compute->all_reduce(exec, {}, View(&y, {1}));
      team.queue.backend->synchronize(team.queue);
      EXPECT_EQ(x, static_cast<float>(world * (world - 1) / 2));
      EXPECT_EQ(y, static_cast<float>(world));
      return team.rank() == 1 ? 3 : 0;
    });
    EXPECT_EQ(status, 3);
    EXPECT_EQ(ranks, (1 << world) - 1);
    EXPECT_EQ(leaders, 1);
  }
}

TEST(Workers, ShareTheCpusOfTheProcess) {
  const int cpus = static_cast<int>(std::thread::hardware_concurrency());
  WorkersOptions options = workers(2);
  options.threads = 0;
  run_workers(options, [&](Team&, const Exec& compute) {
    EXPECT_EQ(compute.threads, std::max(1, cpus / 2));
    return 0;
  });
}

TEST(Workers, BothGroupsShareASimulatedLink) {
  WorkersOptions options = workers(2);
  options.link_gbps = 0.001;
  const auto seconds = [&](int groups) {
    double spent = 0;
    run_workers(options, [&](Team& team, const Exec& compute) {
      Exec exec = compute;
      std::vector<float> x(10000), y(10000);  // 40 kB: 20 kB each way, twice, at 1 MB/s
      wait_for_all(team);
      const auto start = std::chrono::steady_clock::now();
      team.transfer->all_reduce(team.queue, {}, View(x.data(), {10000}));
      if (groups == 2) team.compute->all_reduce(exec, {}, View(y.data(), {10000}));
      team.queue.backend->synchronize(team.queue);
      if (leader(team))
        spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      return 0;
    });
    return spent;
  };
  EXPECT_GE(seconds(1), 0.04);
  EXPECT_GE(seconds(2), 0.08);
}

TEST(Workers, TheErrorThatCameFirstEndsAllAndIsThrown) {
  for (const int failing : {0, 2}) {
    std::atomic<int> ended{0};
    const std::string message = message_of(4, [&](Team& team, const Exec&) {
      struct AtEnd {
        std::atomic<int>& count;
        ~AtEnd() { ++count; }
      } at_end{ended};
      if (team.rank() == failing) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the others wait by now
        throw Error("the disk is full");
      }
      wait_for_all(team);
      ADD_FAILURE() << "rank " << team.rank() << " went on";
      return 0;
    });
    EXPECT_EQ(message, "the disk is full");
    EXPECT_EQ(ended, 4);
  }
  EXPECT_EQ(message_of(2,
                       [](Team& team, const Exec&) -> int {
                         if (team.rank() == 0) input_error("no such file");
                         wait_for_all(team);
                         throw Error("not reached");
                       }),
            "input: no such file");
}

// A body that fails while its transfers still use its memory.
TEST(Workers, EndTeamLeavesTheQueueIdle) {
  bool idle = false;
  const auto body = [&](Team& team, const Exec&) {
    float x = 1;
    if (team.rank() == 1) {  // does not take part, so that the transfer of rank 0 waits
      team.compute->recv(team.queue, {}, View(&x, {1}), 0);
      team.queue.backend->synchronize(team.queue);
    }
    try {
      team.queue.backend->submit(team.queue, [&idle] {
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        idle = true;
      });
      team.transfer->all_reduce(team.queue, {}, View(&x, {1}));
      throw Error("broken");
    } catch (...) {
      end_team(team);
      EXPECT_TRUE(idle);
      EXPECT_THROW(team.queue.backend->synchronize(team.queue), Aborted);
      throw;
    }
    return 0;
  };
  EXPECT_EQ(message_of(2, body), "broken");
}

Facts facts(const std::string& lr) {
  return {{"batch size", "128"}, {"lr", lr}, {"net", "input 8x8x3\nfc 10"}};
}

TEST(Agreement, EqualFactsPass) {
  EXPECT_EQ(message_of(3,
                       [](Team& team, const Exec&) {
                         check_agreement(team, facts("0.1"));
                         check_agreement(team, {});
                         check_agreement(team, {{"", ""}});
                         wait_for_all(team);
                         return 0;
                       }),
            "");
  Team alone;
  check_agreement(alone, facts("0.1"));
}

// All ranks compare these; all throw the same.
std::string disagreement(int world, const std::function<Facts(int)>& of_rank) {
  std::vector<std::string> messages(static_cast<size_t>(world));
  message_of(world, [&](Team& team, const Exec&) {
    try {
      check_agreement(team, of_rank(team.rank()));
    } catch (const InputError& error) {
      messages[static_cast<size_t>(team.rank())] = error.what();
    }
    return 0;
  });
  for (const std::string& message : messages) EXPECT_EQ(message, messages[0]);
  return messages[0];
}

TEST(Agreement, ADifferenceNamesTheSettingTheRanksAndBothValues) {
  EXPECT_EQ(disagreement(4, [](int rank) { return facts(rank == 2 ? "0.01" : "0.1"); }),
            "the workers must agree on lr: rank 0 has '0.1', rank 2 has '0.01'");
  EXPECT_EQ(disagreement(2, [](int rank) { return facts(rank == 0 ? "" : "0.1"); }),
            "the workers must agree on lr: rank 0 has '', rank 1 has '0.1'");
}

TEST(Agreement, OfALongTextTheLineThatDiffersIsShown) {
  const std::string long_part(300000, '#');
  const auto net = [&](int rank) {
    Facts all = facts("0.1");
    all[2].second = "input 8x8x3\n" + long_part + "\nfc 1" + (rank == 1 ? "00" : "0") + "\nrelu";
    return all;
  };
  EXPECT_EQ(disagreement(2, net), "the workers must agree on net: rank 0 has 'fc 10', rank 1 has 'fc 100'");
  const auto shorter = [&](int rank) {
    Facts all = facts("0.1");
    if (rank == 1) all[2].second += "\nrelu";
    return all;
  };
  EXPECT_EQ(disagreement(2, shorter),
            "the workers must agree on net: rank 0 has 'fc 10', rank 1 has 'fc 10' and more lines");
  const auto line = [&](int rank) { return Facts{{"net", long_part + (rank == 0 ? "a" : "b")}}; };
  EXPECT_LT(disagreement(2, line).size(), 400u);
}

TEST(Agreement, OtherNamesAreAnotherProgram) {
  const auto other = [](int rank) {
    Facts all = facts("0.1");
    if (rank == 1) all.pop_back();
    return all;
  };
  EXPECT_EQ(
      disagreement(2, other),
      "the workers are of different programs: rank 0 compares 'net' where rank 1 compares nothing; start "
      "the same build on every machine");
}

std::string refusal(const Launcher& started, bool mpi_in_build) {
  try {
    check_launcher(started, mpi_in_build);
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

TEST(Launcher, ProcessesThatCannotFindEachOtherAreRefused) {
  const Launcher mpirun{true, 4, "OMPI_COMM_WORLD_SIZE=4"}, srun{false, 4, "SLURM_STEP_NUM_TASKS=4"}, one;
  EXPECT_EQ(refusal(mpirun, true), "");
  EXPECT_EQ(refusal(one, true), "");
  EXPECT_EQ(refusal(one, false), "");
  EXPECT_EQ(refusal(mpirun, false),
            "4 processes were started (OMPI_COMM_WORLD_SIZE=4), and this build has no MPI: rebuild with Open "
            "MPI and "
            "-DCONVOY_MPI=ON, or start one process with --workers 4");
  EXPECT_NE(refusal(srun, true).find("srun --mpi=pmix"), std::string::npos);
  EXPECT_NE(refusal(srun, false).find("-DCONVOY_MPI=ON"), std::string::npos);
}

TEST(Launcher, ReadsWhatMpirunAndSrunSet) {
  const auto with = [](const char* variable, const char* value) {
    EXPECT_EQ(setenv(variable, value, 1), 0);
    const Launcher found = launcher();
    EXPECT_EQ(unsetenv(variable), 0);
    return found;
  };
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}) {
    EXPECT_TRUE(with(variable, "3").mpi) << variable;
    EXPECT_EQ(with(variable, "3").processes, 3) << variable;
    EXPECT_EQ(with(variable, "3").source, text(variable, "=3"));
  }
  EXPECT_TRUE(with("PMIX_RANK", "0").mpi);
  EXPECT_FALSE(with("SLURM_STEP_NUM_TASKS", "3").mpi);
  EXPECT_EQ(with("SLURM_STEP_NUM_TASKS", "3").processes, 3);
  EXPECT_EQ(with("SLURM_NTASKS", "3").processes, 1);  // a batch script has this too
  EXPECT_FALSE(launcher().mpi);
}

}  // namespace
}  // namespace convoy
