#include "watchdog.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "convoy/check.h"

namespace convoy {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kPoll = 0.25;   // seconds between two looks
constexpr double kFirst = 2;     // seconds that a rank leaves the report to one before it
constexpr double kSilent = 5;    // seconds: who was not heard for longer does not run
constexpr unsigned kAbort = 10;  // seconds that ending the others may take

std::string time_of_day(std::time_t time) {
  std::tm local{};
  localtime_r(&time, &local);
  char digits[16];
  std::strftime(digits, sizeof digits, "%H:%M:%S", &local);
  return digits;
}

double seconds_since(Clock::time_point time) {
  return std::chrono::duration<double>(Clock::now() - time).count();
}

template <size_t bytes>
void put(char (&to)[bytes], const std::string& from) {
  to[from.copy(to, bytes - 1)] = 0;
}

}  // namespace

Watchdog::Watchdog(const Activity& activity, int64_t seconds, const Team& team)
    : activity_(activity),
      seconds_(seconds),
      rank_(team.rank()),
      world_(team.world()),
      workers_(team.compute),
      own_board_(team.board == nullptr ? world_ : 0),
      board_(team.board == nullptr ? own_board_ : *team.board) {
  if (seconds_ > 0) thread_ = std::thread([this] { watch(); });
}

Watchdog::~Watchdog() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    done_ = true;
  }
  over_.notify_one();
  thread_.join();
}

// False when the run is over.
bool Watchdog::sleep(double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  return !over_.wait_for(lock, std::chrono::duration<double>(seconds), [&] { return done_; });
}

void Watchdog::watch() {
  double still = 0;
  for (Clock::time_point before = Clock::now(); sleep(kPoll);) {
    const Clock::time_point now = Clock::now();
    still += std::min(std::chrono::duration<double>(now - before).count(), 2 * kPoll);
    before = now;
    for (const Lane lane : {Lane::kCompute, Lane::kTransfer}) {
      Seen& seen = seen_[static_cast<size_t>(lane)];
      const uint64_t count = activity_.count(lane);
      if (seen.since != 0 && count == seen.count) continue;
      seen = {count, std::time(nullptr)};
      still = 0;
    }
    board_.write(rank_, status(still));
    const auto most = static_cast<double>(seconds_);
    if (still >= most + kFirst || (still >= most && speaks())) end_all(report());
  }
}

std::string Watchdog::lane_text(Lane lane) const {
  const char* name = activity_.name(lane);
  if (name == nullptr) return "";
  const int32_t pass = activity_.pass(lane);
  return text("; ", lane_name(lane), ": ", name, pass < 0 ? "" : text(", pass ", pass), ", since ",
              time_of_day(seen_[static_cast<size_t>(lane)].since));
}

WorkerStatus Watchdog::status(double still) const {
  WorkerStatus now;
  gethostname(now.host, sizeof now.host - 1);
  const char* phase = activity_.phase();
  const std::time_t last = std::max(seen_[0].since, seen_[1].since);
  put(now.doing, text(still < 4 * kPoll ? "moves" : text("no progress since ", time_of_day(last)), ": ",
                      phase == nullptr ? "before the first step" : phase, ", step ", activity_.step(),
                      lane_text(Lane::kCompute), lane_text(Lane::kTransfer)));
  return now;
}

bool Watchdog::silent(const StatusBoard::Entry& entry) const {
  const double most =
      std::max(3 * heartbeat_seconds(world_), std::min(kSilent, static_cast<double>(seconds_) / 2));
  return seconds_since(entry.when) > most;
}

// Whether no rank before this one is there to do it.
bool Watchdog::speaks() const {
  for (int rank = 0; rank < rank_; ++rank)
    if (!silent(board_.read(rank))) return false;
  return true;
}

// Gives the ranks that are silent, in words; empty: none.
std::string Watchdog::report() const {
  std::string lines, silent_ranks;
  for (int rank = 0; rank < world_; ++rank) {
    const StatusBoard::Entry entry = board_.read(rank);
    const bool is_silent = rank != rank_ && silent(entry);
    if (is_silent) silent_ranks += text(silent_ranks.empty() ? "" : ", ", rank);
    lines += text("convoy: rank ", rank, " of ", world_);
    if (!entry.heard) {
      lines += ": was never heard\n";
      continue;
    }
    lines += text(" (", entry.status.host, "): ");
    if (is_silent)
      lines += text("silent since ",
                    time_of_day(std::time(nullptr) - static_cast<std::time_t>(seconds_since(entry.when))),
                    "; last known: ");
    lines += text(entry.status.doing, "\n");
  }
  std::fputs(lines.c_str(), stderr);
  std::fflush(stderr);
  return silent_ranks;
}

void Watchdog::end_all(const std::string& silent_ranks) const noexcept {
  alarm(kAbort);  // ends this process where the call that ends the others hangs too
  try {
    throw Error(text("no progress for ", seconds_, " s (--watchdog): all workers are ended",
                     silent_ranks.empty() ? ""
                                          : text("; silent: rank ", silent_ranks,
                                                 " (stopped, or its machine or the network hangs)")));
  } catch (const Error& error) {
    if (workers_ != nullptr) workers_->abort();  // under MPI it prints the error and does not return
    std::fflush(stdout);
    std::fprintf(stderr, "convoy: error: %s\n", error.what());
    std::fflush(stderr);
  }
  _exit(1);
}

}  // namespace convoy
