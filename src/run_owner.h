// Who holds a run's lock, as it stands in the lock file (run_lock.h).
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace convoy {

struct RunOwner {
  std::string host;
  int64_t pid = 0;
  int64_t started = 0;  // the process, in clock ticks since boot (/proc/PID/stat)
  std::string kernel;   // boot and PID namespace: where pid and started mean something
  std::string job;      // Slurm's number; empty: none
  int64_t restart = 0;  // how often Slurm started that job before
};

RunOwner this_owner();
std::string owner_text(const RunOwner& owner);
// Nothing when the text is not a whole one.
std::optional<RunOwner> parse_owner(const std::string& text);

// "pid 12 on cn1, Slurm job 17"
std::string owner_name(const RunOwner& owner);

// Whether the owner has ended, as `self` sees it: from the process table, from Slurm's count of starts, or from the
// seconds for which its lock was not touched.
bool owner_dead(const RunOwner& owner, const RunOwner& self, double untouched_seconds);
constexpr double kOwnerStaleSeconds = 300;

}  // namespace convoy
