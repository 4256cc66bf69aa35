// What every worker last said of itself: how a watchdog knows of those that cannot speak any more (watchdog.h).
//
// Workers that are threads write to one board. Under MPI each rank has its own, and Heartbeats carry what stands there to
// all others (comm_mpi.h).
#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace convoy {

// As it travels: plain bytes, texts end with 0 and are cut where they are too long.
struct WorkerStatus {
  char host[64] = "";
  char doing[320] = "";
};

class StatusBoard {
 public:
  struct Entry {
    WorkerStatus status;
    bool heard = false;  // false: nothing yet, and since the board was made
    std::chrono::steady_clock::time_point when = std::chrono::steady_clock::now();
  };

  explicit StatusBoard(int world) : entries_(static_cast<size_t>(world)) {}
  void write(int rank, const WorkerStatus& status) {
    const std::lock_guard<std::mutex> lock(mutex_);
    entries_[static_cast<size_t>(rank)] = {status, true, std::chrono::steady_clock::now()};
  }
  Entry read(int rank) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return entries_[static_cast<size_t>(rank)];
  }

 private:
  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
};

// The seconds between two lines of a rank: no rank sends or gets more than 128 a second.
constexpr double heartbeat_seconds(int world) {
  const int quarters = 1 + (world - 1) / 32;
  return 0.25 * quarters;
}

}  // namespace convoy
