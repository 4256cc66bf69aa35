// One program at a time writes to a run's directory: DIR/run.lock names its owner, who touches it every 30 s.
//
// The file appears whole or not at all (link, which is atomic on NFS and Lustre too; O_EXCL where the file system has no
// links). A dead owner's lock is taken over by whoever comes next, by one of several. Dead is an owner
//   - of this kernel and PID namespace, of whose pid and start time no process is there;
//   - that was an earlier start of this Slurm job: a job is requeued after its end;
//   - of anywhere else, whose lock was not touched for 5 minutes by the file system's clock.
#pragma once
#include <condition_variable>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

namespace convoy {

class RunLock {
 public:
  static constexpr const char* kName = "run.lock";

  // Takes the lock of a directory that is there. Throws InputError naming the owner's host, pid and job when it is alive,
  // and when the lock cannot be written.
  explicit RunLock(std::string dir);
  ~RunLock();  // releases it
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

  // Before writing: throws Error when somebody took the lock over, because this program stood still for minutes.
  void check() const;

 private:
  struct Found;
  void take();
  void write_temporary(const std::string& content);
  bool put();
  std::optional<Found> look() const;
  bool take_over(const Found& dead);
  void remove_leftovers() const;
  bool owned() const;
  void close_file();
  void touch_until_released();
  [[noreturn]] void fail(const char* call) const;

  std::string dir_, path_, temporary_;
  int fd_ = -1;  // of the file that is, or becomes, the lock
  std::mutex mutex_;
  std::condition_variable released_;
  bool releasing_ = false;
  std::thread toucher_;
};

}  // namespace convoy
