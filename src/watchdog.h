// Ends a run that has stopped moving: a thread that looks at its worker's activity four times a second, and writes on the
// workers' board what that is.
//
// After `seconds` in which neither lane noted anything, the first of the ranks that are still heard prints on stderr what
// every rank does, in which step, layer and pass, and since when; of a rank that is silent (stopped, or its machine or
// network hangs) what it was last known to do. Then all ranks are ended with status 1.
//
// Time in which this process itself did not run (stopped and continued, a suspended job) does not count.
#pragma once
#include <array>
#include <condition_variable>
#include <cstdint>
#include <ctime>
#include <mutex>
#include <string>
#include <thread>

#include "activity.h"
#include "convoy/comm.h"
#include "status_board.h"

namespace convoy {

class Watchdog {
 public:
  // The team is what ends the others. 0 seconds: no watchdog.
  Watchdog(const Activity& activity, int64_t seconds, const Team& team);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  struct Seen {
    uint64_t count = 0;
    std::time_t since = 0;
  };
  void watch();
  bool sleep(double seconds);
  std::string lane_text(Lane lane) const;
  WorkerStatus status(double still) const;
  bool silent(const StatusBoard::Entry& entry) const;
  bool speaks() const;
  std::string report() const;
  [[noreturn]] void end_all(const std::string& silent_ranks) const noexcept;

  const Activity& activity_;
  const int64_t seconds_;
  const int rank_, world_;
  Communicator* const workers_;
  StatusBoard own_board_;  // of a worker alone
  StatusBoard& board_;
  std::array<Seen, kLanes> seen_;
  std::mutex mutex_;
  std::condition_variable over_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace convoy
