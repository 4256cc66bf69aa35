#include "mpi_heartbeats.h"

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <mutex>
#include <thread>

namespace convoy {
namespace {

class MpiHeartbeats final : public Heartbeats {
 public:
  MpiHeartbeats(MpiCalls& calls, MPI_Comm comm, int rank, int world, StatusBoard& board)
      : calls_(calls),
        comm_(comm),
        rank_(rank),
        world_(world),
        board_(board),
        sending_(static_cast<size_t>(world), MPI_REQUEST_NULL),
        sent_(static_cast<size_t>(world)) {
    thread_ = std::thread([this] { run(); });
  }
  ~MpiHeartbeats() override {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      over_ = true;
    }
    ending_.notify_one();
    thread_.join();
  }

 private:
  enum Tag : int { kBeat, kLast };

  void run() {
    try {
      while (sleep(heartbeat_seconds(world_))) {
        receive();
        const StatusBoard::Entry own = board_.read(rank_);
        if (own.heard) send(own.status, kBeat);
      }
      // Nothing may be on its way when MPI ends: everybody sends a last message, and waits for that of all others.
      while (!send(WorkerStatus(), kLast)) pause();
      for (receive(); last_ < world_ - 1; receive()) pause();
      while (!all_sent()) pause();
    } catch (const std::exception& error) {  // training goes on without
      std::fprintf(stderr, "convoy: warning: rank %d is not heard by the others any more: %s\n", rank_,
                   error.what());
    }
  }

  // False when it is over.
  bool sleep(double seconds) {
    std::unique_lock<std::mutex> lock(mutex_);
    return !ending_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return over_; });
  }
  static void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

  // To whoever has got the message before: one that is stopped gets one, not hundreds. True when nobody is left out.
  bool send(const WorkerStatus& status, Tag tag) {
    bool all = true;
    for (int i = 1; i < world_; ++i) {
      const auto to = static_cast<size_t>((rank_ + i) % world_);
      Message& m = sent_[to];
      if (m.tag == kLast) continue;
      int done = 0;
      calls_.make([&] {
        check_mpi(MPI_Test(&sending_[to], &done, MPI_STATUS_IGNORE));
        if (done == 0) return;
        m = {status, tag};
        check_mpi(
            MPI_Isend(&m.status, sizeof m.status, MPI_BYTE, static_cast<int>(to), tag, comm_, &sending_[to]));
      });
      all = all && done != 0;
    }
    return all;
  }

  void receive() {
    for (int there = 1; there != 0;) {
      WorkerStatus status;
      MPI_Status from;
      calls_.make([&] {
        check_mpi(MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm_, &there, &from));
        if (there != 0)
          check_mpi(MPI_Recv(&status, sizeof status, MPI_BYTE, from.MPI_SOURCE, from.MPI_TAG, comm_, &from));
      });
      if (there == 0) return;
      if (from.MPI_TAG == kLast)
        ++last_;
      else
        board_.write(from.MPI_SOURCE, status);
    }
  }

  bool all_sent() {
    int done = 0;
    calls_.make([&] { check_mpi(MPI_Testall(world_, sending_.data(), &done, MPI_STATUSES_IGNORE)); });
    return done != 0;
  }

  struct Message {
    WorkerStatus status;
    Tag tag = kBeat;
  };

  MpiCalls& calls_;
  const MPI_Comm comm_;
  const int rank_, world_;
  StatusBoard& board_;
  std::vector<MPI_Request> sending_;
  std::vector<Message> sent_;  // one to each rank
  int last_ = 0;               // ranks that will send nothing more
  std::mutex mutex_;
  std::condition_variable ending_;
  bool over_ = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Heartbeats> mpi_heartbeats(MpiCalls& calls, MPI_Comm comm, int rank, int world,
                                           StatusBoard& board) {
  return std::make_unique<MpiHeartbeats>(calls, comm, rank, world, board);
}

}  // namespace convoy
