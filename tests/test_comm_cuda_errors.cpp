// What communicators over device memory do when something is wrong, and how NCCL's begin.
#include "cuda_ranks.h"

namespace convoy {
namespace {

using comm_tests::Buffer;
using comm_tests::synchronize;
using Clock = std::chrono::steady_clock;

TEST(CommCudaErrors, WithoutNcclTheErrorSaysWhatToDo) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  setenv("CONVOY_NCCL", "/nowhere/libnccl.so.2", 1);
  std::string message;
  try {
    nccl_version();
  } catch (const InputError& error) {
    message = error.what();
  }
  unsetenv("CONVOY_NCCL");
  EXPECT_NE(message.find("/nowhere/libnccl.so.2"), std::string::npos) << message;
  EXPECT_NE(message.find("CONVOY_NCCL"), std::string::npos) << message;
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
void make_call(int call, Communicator& c, Exec& e, int other, float* memory) {
  static const Blocks blocks{100, 100, 100, 100};
  const View mine(memory, {100}), all(memory + 100, {400});
  if (call == 0) c.all_reduce(e, {}, mine);
  if (call == 1) c.all_gather(e, {}, mine, all, blocks);
  if (call == 2) c.reduce_scatter(e, {}, all, mine, blocks);
  if (call == 3) c.broadcast(e, {}, mine, other);
  if (call == 4) c.reduce(e, {}, mine, mine, other);
  if (call == 5) c.send(e, {}, mine, other);
  if (call == 6) c.recv(e, {}, mine, other);
  if (call == 7) c.barrier(e);
}
constexpr int kCalls = 8;

TEST(CommCudaErrors, AbortEndsEveryCallOnEveryRank) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  constexpr int kWorld = 4, kFailing = 2;
  for (const Kind& kind : {kLocal, kStaged, kNccl})
    for (int call = 0; call < kCalls; ++call) {
      if (!has(kind, kWorld)) continue;
      SCOPED_TRACE(text(kind.name, " call ", call));
      set_way({"late", 1, 0, call % 2 == 1});
      std::atomic<int> ended{0};
      std::atomic<Clock::rep> aborted{0};
      run_on_devices(kind.make(kWorld), kind.own_devices ? kWorld : 1, [&](Communicator& comm, Exec& exec) {
        Buffer<float> memory(exec, std::vector<float>(500, 1.0f));
        synchronize(exec);
        if (comm.rank() == kFailing) {
          std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the others wait by now
          aborted = Clock::now().time_since_epoch().count();
          comm.abort();
        } else {
          // Over NCCL calls are queued, and whoever waits for the device is released by the abort.
          EXPECT_TRUE(aborts([&] {
            while (true) {
              make_call(call, comm, exec, kFailing, memory.data());
              synchronize(exec);
            }
          }));
          const Clock::duration waited{Clock::now().time_since_epoch().count() - aborted.load()};
          EXPECT_LT(waited, std::chrono::seconds(3));
          ++ended;
        }
        for (int later = 0; later < kCalls; ++later)
          EXPECT_TRUE(
              aborts([&] { make_call(later, comm, exec, (comm.rank() + 1) % kWorld, memory.data()); }));
      });
      EXPECT_EQ(ended, kWorld - 1);
    }
}

// Ranks that fail while others are about to read what they throw away.
TEST(CommCudaErrors, AbortWhileOthersReadIsSafe) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Kind& kind : {kLocal, kStaged, kNccl})
    for (int round = 0; round < 4; ++round) {
      if (!has(kind, 4)) continue;
      set_way({"late", 1, 0, round % 2 == 1});
      run_on_devices(kind.make(4), kind.own_devices ? 4 : 1, [&](Communicator& comm, Exec& exec) {
        try {
          for (int i = 0; i < 10; ++i) {
            Buffer<float> x(exec, std::vector<float>(2000, 1.0f));
            if (comm.rank() == round && i == round) throw Error("broken");
            comm.all_reduce(exec, {}, View(x.data(), {2000}));
            synchronize(exec);
          }
          ADD_FAILURE() << "rank " << comm.rank() << " went on";
        } catch (const Error&) {
          comm.abort();
        }
      });
    }
}

TEST(CommCudaErrors, MemoryOfTheHostIsAnErrorWhereItIsNotStaged) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Kind& kind : {kLocal, kStaged, kNccl}) {
    if (!has(kind, 2)) continue;
    std::vector<std::string> messages(2);
    run_on_devices(kind.make(2), kind.own_devices ? 2 : 1, [&](Communicator& comm, Exec& exec) {
      std::vector<float> x(8, 1.0f);
      try {
        if (comm.rank() == 0 || kind.make == kStaged.make) comm.all_reduce(exec, {}, View(x.data(), {8}));
        synchronize(exec);
        EXPECT_EQ(x[7], kind.make == kStaged.make ? 2.0f : 1.0f);
      } catch (const Error& error) {
        messages[static_cast<size_t>(comm.rank())] = error.what();
        comm.abort();
      }
    });
    const bool said = messages[0].find("memory of the host") != std::string::npos;
    EXPECT_EQ(said, kind.make != kStaged.make) << kind.name << ": " << messages[0];
  }
}

TEST(CommCudaErrors, DifferentCallsAreAnErrorThatNamesBoth) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  std::vector<std::string> messages(2);
  run_on_devices(local_communicators(2), 1, [&](Communicator& comm, Exec& exec) {
    Buffer<float> x(exec, std::vector<float>(8, 1.0f));
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
  EXPECT_THROW(local_communicators(0), Error);
  EXPECT_THROW(local_communicators(65), Error);
}

// As processes do it: the host's communicator says where to meet. A rank that loses another is told by NCCL.
TEST(CommCudaErrors, NcclMeetsThroughTheHost) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  const int world = has(kNccl, 3) ? 3 : 1;
  if (!has(kNccl, world)) GTEST_SKIP() << "no NCCL";
  Ranks hosts = thread_communicators(world);
  std::atomic<int> told{0};
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world; ++rank)
    threads.emplace_back([&, rank] {
      Exec exec = exec_of(rank, rank);
      const auto comm = nccl_communicator(std::move(hosts[static_cast<size_t>(rank)]), rank);
      EXPECT_EQ(comm->rank(), rank);
      EXPECT_EQ(comm->world(), world);
      comm_tests::all_gathers(*comm, exec);
      comm_tests::reduce_scatters(*comm, exec);
      Buffer<float> x(exec, std::vector<float>(10, 1.0f));
      if (rank == 0) {
        comm->abort();
        return;
      }
      try {
        while (true) comm->all_reduce(exec, {}, View(x.data(), {10}));
      } catch (const Error& error) {
        const std::string message = error.what();
        EXPECT_NE(message.find("NCCL, all_reduce: remote process exited"), std::string::npos) << message;
        ++told;
      }
      comm->abort();
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(told, world - 1);
}

TEST(CommCudaErrors, TransferMemoryIsTheDevices) {
  if (!runs_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Kind& kind : {kLocal, kNccl}) {
    if (!has(kind, 2)) continue;
    run_on_devices(kind.make(2), kind.own_devices ? 2 : 1, [](Communicator& comm, Exec& exec) {
      const auto memory = comm.memory(*exec.backend, 4000);
      const std::vector<float> ones(1000, 1.0f);
      exec.backend->copy(exec, memory.get(), ones.data(), 4000);
      comm.all_reduce(exec, {}, View(static_cast<float*>(memory.get()), {1000}));
      std::vector<float> sums(1000);
      exec.backend->copy(exec, sums.data(), memory.get(), 4000);
      synchronize(exec);
      EXPECT_EQ(sums, std::vector<float>(1000, 2.0f));
    });
  }
}

}  // namespace
}  // namespace convoy
