#include "run_owner.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "convoy/check.h"

namespace convoy {
namespace {

std::string first_line(const std::string& file) {
  std::string line;
  std::ifstream in(file);
  std::getline(in, line);
  return line;
}

std::string link_target(const char* path) {
  char target[128];
  const ssize_t length = readlink(path, target, sizeof target);
  return length < 0 ? "" : std::string(target, static_cast<size_t>(length));
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

int64_t number(const std::string& value) {
  return std::strtoll(value.c_str(), nullptr, 10);
}

struct ProcessState {
  char state = 'X';
  int64_t started = 0;
};

// Nothing when the process is not there, or its entry cannot be read.
std::optional<ProcessState> process_state(int64_t pid) {
  const std::string line = first_line(text("/proc/", pid, "/stat"));
  const size_t name_end = line.rfind(')');  // the name may hold anything
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  ProcessState process;
  std::string skipped;
  fields >> process.state;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> process.started;
  if (!fields) return std::nullopt;
  return process;
}

bool process_alive(const RunOwner& owner) {
  if (const auto process = process_state(owner.pid))
    return process->started == owner.started && process->state != 'Z' && process->state != 'X';
  return kill(static_cast<pid_t>(owner.pid), 0) == 0 ||
         errno == EPERM;  // /proc may hide other users' processes
}

}  // namespace

RunOwner this_owner() {
  RunOwner owner;
  char host[256] = "unknown";
  gethostname(host, sizeof host - 1);
  owner.host = host;
  owner.pid = getpid();
  if (const auto process = process_state(owner.pid)) owner.started = process->started;
  const std::string boot = first_line("/proc/sys/kernel/random/boot_id"),
                    space = link_target("/proc/self/ns/pid");
  if (!boot.empty() && !space.empty()) owner.kernel = boot + "/" + space;
  owner.job = variable("SLURM_JOB_ID");
  owner.restart = number(variable("SLURM_RESTART_COUNT"));
  return owner;
}

std::string owner_text(const RunOwner& owner) {
  return text("host ", owner.host, "\npid ", owner.pid, "\nstarted ", owner.started, "\nkernel ",
              owner.kernel, "\njob ", owner.job, "\nrestart ", owner.restart, "\nend\n");
}

std::optional<RunOwner> parse_owner(const std::string& content) {
  std::map<std::string, std::string> values;
  std::istringstream lines(content);
  for (std::string line; std::getline(lines, line);) {
    const size_t space = line.find(' ');
    values[line.substr(0, space)] = space == std::string::npos ? "" : line.substr(space + 1);
  }
  if (values.count("end") == 0 || number(values["pid"]) <= 0) return std::nullopt;
  RunOwner owner;
  owner.host = values["host"];
  owner.pid = number(values["pid"]);
  owner.started = number(values["started"]);
  owner.kernel = values["kernel"];
  owner.job = values["job"];
  owner.restart = number(values["restart"]);
  return owner;
}

std::string owner_name(const RunOwner& owner) {
  return text("pid ", owner.pid, " on ", owner.host, owner.job.empty() ? ", no Slurm job" : ", Slurm job ",
              owner.job);
}

bool owner_dead(const RunOwner& owner, const RunOwner& self, double untouched_seconds) {
  if (!owner.job.empty() && owner.job == self.job && owner.restart < self.restart) return true;
  if (!owner.kernel.empty() && owner.kernel == self.kernel) return !process_alive(owner);
  return untouched_seconds > kOwnerStaleSeconds;
}

}  // namespace convoy
