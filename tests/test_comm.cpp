// Communicators of this process: the common bodies (comm_tests.h), and what happens when a rank fails.
#include <chrono>
#include <functional>

#include "comm_tests.h"
#include "rank_threads.h"

namespace convoy {
namespace {

using comm_tests::synchronize;
using Clock = std::chrono::steady_clock;

struct Setting {
  comm_tests::Case test;
  int world;
  bool queued;
};
std::string name_of(const testing::TestParamInfo<Setting>& info) {
  return text(info.param.test.name, "On", info.param.world, info.param.queued ? "Queued" : "AtOnce");
}
std::vector<Setting> settings() {
  std::vector<Setting> all;
  for (const auto& test : comm_tests::cases())
    for (const int world : {1, 2, 3, 4, 8})
      for (const bool queued : {false, true})
        if (queued || test.body != comm_tests::big) all.push_back({test, world, queued});  // big: once
  return all;
}

class ThreadRanks : public testing::TestWithParam<Setting> {};
TEST_P(ThreadRanks, DoWhatTheContractSays) {
  const auto& [test, world, queued] = GetParam();
  run_on(thread_communicators(world), queued, test.body);
}
INSTANTIATE_TEST_SUITE_P(Comm, ThreadRanks, testing::ValuesIn(settings()), name_of);

TEST(Comm, TwoGroupsAtOnce) {
  for (const int world : {1, 2, 3, 4, 8}) {
    const Ranks a = thread_communicators(world), b = thread_communicators(world);
    run_on(a, true, [&](Communicator& comm, Exec& exec) {
      const CpuQueuePointer queue = cpu_queue();
      Exec other = cpu_queue_exec(*exec.backend, queue);
      comm_tests::two_in_flight(comm, exec, *b[static_cast<size_t>(comm.rank())], other);
    });
  }
}

// Whether `call` throws Aborted, with a message to be shown.
template <class Call>
bool aborts(const Call& call) {
  try {
    call();
  } catch (const Aborted& error) {
    return std::string(error.what()).find("another worker failed") != std::string::npos;
  }
  return false;
}

// A call of every kind that needs somebody else.
std::vector<std::function<void(Communicator&, Exec&)>> waiting_calls(int other) {
  static std::vector<float> x(100), y(400);
  static const Blocks blocks{100, 100, 100, 100};
  const View mine(x.data(), {100}), all(y.data(), {400});
  return {[=](Communicator& c, Exec& e) { c.all_reduce(e, {}, mine); },
          [=](Communicator& c, Exec& e) { c.all_gather(e, {}, mine, all, blocks); },
          [=](Communicator& c, Exec& e) { c.reduce_scatter(e, {}, all, mine, blocks); },
          [=](Communicator& c, Exec& e) { c.broadcast(e, {}, mine, other); },
          [=](Communicator& c, Exec& e) { c.reduce(e, {}, mine, mine, other); },
          [=](Communicator& c, Exec& e) { c.send(e, {}, mine, other); },
          [=](Communicator& c, Exec& e) { c.recv(e, {}, mine, other); },
          [](Communicator& c, Exec& e) { c.barrier(e); }};
}

TEST(Comm, AbortEndsEveryCallOnEveryRank) {
  constexpr int kWorld = 4, kFailing = 2;
  for (const bool queued : {false, true})
    for (size_t call = 0; call < waiting_calls(0).size(); ++call) {
      const Ranks ranks = thread_communicators(kWorld);
      std::atomic<int> ended{0};
      std::atomic<Clock::rep> aborted{0};
      run_on(ranks, queued, [&](Communicator& comm, Exec& exec) {
        if (comm.rank() == kFailing) {
          std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the others wait by now
          aborted = Clock::now().time_since_epoch().count();
          comm.abort();
        } else {
          EXPECT_TRUE(aborts([&] {
            waiting_calls(kFailing)[call](comm, exec);
            synchronize(exec);
          })) << "call "
              << call;
          const Clock::duration waited{Clock::now().time_since_epoch().count() - aborted.load()};
          EXPECT_LT(waited, std::chrono::seconds(1));
          ++ended;
        }
        for (const auto& later : waiting_calls((comm.rank() + 1) % kWorld))
          EXPECT_TRUE(aborts([&] {
            later(comm, exec);
            synchronize(exec);
          }));
      });
      EXPECT_EQ(ended, kWorld - 1);
    }
}

// Ranks that fail while others copy from them: what they throw away is not read any more (a sanitizer sees it).
TEST(Comm, AbortWhileOthersReadIsSafe) {
  for (int round = 0; round < 12; ++round) {
    const Ranks ranks = thread_communicators(4);
    run_on(ranks, false, [&](Communicator& comm, Exec& exec) {
      try {
        for (int i = 0; i < 50; ++i) {
          std::vector<float> x(20000, 1.0f);
          if (comm.rank() == round % 4 && i == round) throw Error("broken");
          comm.all_reduce(exec, {}, View(x.data(), {20000}));
        }
        ADD_FAILURE() << "rank " << comm.rank() << " went on";
      } catch (const Error&) {
        comm.abort();
      }
    });
  }
}

TEST(Comm, DifferentCallsAreAnErrorThatNamesBoth) {
  const Ranks ranks = thread_communicators(2);
  std::vector<std::string> messages(2);
  run_on(ranks, false, [&](Communicator& comm, Exec& exec) {
    std::vector<float> x(8);
    try {
      if (comm.rank() == 0) comm.all_reduce(exec, {}, View(x.data(), {8}));
      if (comm.rank() == 1) comm.broadcast(exec, {}, View(x.data(), {4}), 1);
    } catch (const Error& error) {
      messages[static_cast<size_t>(comm.rank())] = error.what();
      comm.abort();
    }
  });
  const std::string both = messages[0] + messages[1];
  for (const char* part :
       {"all_reduce of 32 bytes", "broadcast of 16 bytes, root 1", "another worker failed"})
    EXPECT_NE(both.find(part), std::string::npos) << both;
}

TEST(Comm, ArgumentsThatDoNotFitAreErrors) {
  const Ranks ranks = thread_communicators(2);
  Exec exec = cpu_exec(*cpu_backends().back(), 1);
  std::vector<float> x(8);
  std::vector<int32_t> whole(8);
  const View view(x.data(), {8}), half(x.data(), {4});
  Communicator& comm = *ranks[0];
  EXPECT_THROW(comm.all_reduce(exec, {}, View(whole.data(), {8})), Error);
  EXPECT_THROW(comm.all_gather(exec, {}, half, view, {4, 5}), Error);
  EXPECT_THROW(comm.all_gather(exec, {}, half, view, {8}), Error);
  EXPECT_THROW(comm.all_gather(exec, {}, half, view, {5, 3}), Error);
  EXPECT_THROW(comm.reduce_scatter(exec, {}, view, half, {3, 5}), Error);
  EXPECT_THROW(comm.broadcast(exec, {}, view, 2), Error);
  EXPECT_THROW(comm.reduce(exec, {}, view, half, 0), Error);
  EXPECT_THROW(comm.send(exec, {}, view, 0), Error);
  EXPECT_THROW(comm.recv(exec, {}, view, -1), Error);
  EXPECT_THROW(thread_communicators(0), Error);
}

}  // namespace
}  // namespace convoy
