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
constexpr double kAnswers = 2;   // seconds in which the others say what they do
constexpr unsigned kAbort = 10;  // seconds that ending the others may take

std::string time_of_day(std::time_t time) {
  std::tm local{};
  localtime_r(&time, &local);
  char digits[16];
  std::strftime(digits, sizeof digits, "%H:%M:%S", &local);
  return digits;
}

}  // namespace

Watchdog::Watchdog(const Activity& activity, int64_t seconds, int rank, int world, Communicator* workers)
    : activity_(activity), seconds_(seconds), rank_(rank), world_(world), workers_(workers) {
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
    if (still < static_cast<double>(seconds_)) continue;
    report();
    if (sleep(kAnswers)) end_all();
    return;
  }
}

std::string Watchdog::lane_text(Lane lane) const {
  const char* name = activity_.name(lane);
  if (name == nullptr) return "";
  const int32_t pass = activity_.pass(lane);
  return text("; ", lane_name(lane), ": ", name, pass < 0 ? "" : text(", pass ", pass), ", since ",
              time_of_day(seen_[static_cast<size_t>(lane)].since));
}

void Watchdog::report() const {
  char host[256] = "unknown host";
  gethostname(host, sizeof host - 1);
  const char* phase = activity_.phase();
  const std::time_t last = std::max(seen_[0].since, seen_[1].since);
  const std::string line =
      text("convoy: rank ", rank_, " of ", world_, " (", host, "): no progress since ", time_of_day(last),
           ", ", seconds_, " s: ", phase == nullptr ? "before the first step" : phase, ", step ",
           activity_.step(), lane_text(Lane::kCompute), lane_text(Lane::kTransfer), "\n");
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

void Watchdog::end_all() const noexcept {
  alarm(kAbort);  // ends this process where the call that ends the others hangs too
  try {
    throw Error(text("no progress for ", seconds_, " s (--watchdog): all workers are ended",
                     world_ > 1 ? "; one that said nothing above did not run" : ""));
  } catch (const Error& error) {
    if (workers_ != nullptr) workers_->abort();  // under MPI it prints the error and does not return
    std::fflush(stdout);
    std::fprintf(stderr, "convoy: error: %s\n", error.what());
    std::fflush(stderr);
  }
  _exit(1);
}

}  // namespace convoy
