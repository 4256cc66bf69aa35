// Ends a run that has stopped moving: a thread that looks at its worker's activity four times a second.
//
// After `seconds` in which neither lane noted anything it prints one line on stderr: what the worker does, in which step
// and pass, and since when. The other workers' watchdogs do the same, each for its own: a rank that prints no line did
// not run (stopped, or its machine hangs). Two seconds later all ranks are ended with status 1.
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

namespace convoy {

class Watchdog {
 public:
  // `workers` is what ends the others; null: a worker alone. 0 seconds: no watchdog.
  Watchdog(const Activity& activity, int64_t seconds, int rank, int world, Communicator* workers);
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
  void report() const;
  [[noreturn]] void end_all() const noexcept;

  const Activity& activity_;
  const int64_t seconds_;
  const int rank_, world_;
  Communicator* const workers_;
  std::array<Seen, kLanes> seen_;
  std::mutex mutex_;
  std::condition_variable over_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace convoy
