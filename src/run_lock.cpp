#include "run_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <utility>

#include "convoy/check.h"
#include "run_owner.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kTouch{30};
// Without flock: longer than anybody takes from looking at a dead lock to renaming his own over it.
constexpr seconds kSettle{2};
constexpr milliseconds kChanging{20};
constexpr int kAttempts = 250;

std::atomic<int> g_temporaries{0};

bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

double modified(const struct stat& file) {
  return static_cast<double>(file.st_mtim.tv_sec) + 1e-9 * static_cast<double>(file.st_mtim.tv_nsec);
}

bool write_whole(int fd, const std::string& content) {
  return write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()) && fsync(fd) == 0;
}

// A file that is closed at the end of its scope.
struct OpenFile {
  int fd;
  OpenFile(const std::string& path, int flags) : fd(open(path.c_str(), flags | O_CLOEXEC)) {}
  ~OpenFile() {
    if (fd >= 0) close(fd);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
};

}  // namespace

// The lock as somebody left it.
struct RunLock::Found {
  struct stat file {};
  std::string content;
};

RunLock::RunLock(std::string dir) : dir_(std::move(dir)), path_((fs::path(dir_) / kName).string()) {
  try {
    take();
  } catch (...) {
    close_file();
    throw;
  }
  remove_leftovers();
  toucher_ = std::thread([this] { touch_until_released(); });
}

void RunLock::take() {
  const RunOwner self = this_owner();
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    if (fd_ < 0) write_temporary(owner_text(self));
    if (put()) return;
    const std::optional<Found> found = look();
    if (!found) continue;  // released in this moment
    struct stat own {};
    fstat(fd_, &own);
    const double untouched = modified(own) - modified(found->file);
    const std::optional<RunOwner> owner = parse_owner(found->content);
    if (owner ? !owner_dead(*owner, self, untouched) : untouched <= kOwnerStaleSeconds)
      input_error(dir_, ": another program writes to it (", owner ? owner_name(*owner) : "which is starting",
                  "): wait for its end, or give another --out");
    if (take_over(*found)) return;
  }
  throw Error(text(path_, " goes from hand to hand: try again"));
}

RunLock::~RunLock() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    releasing_ = true;
  }
  released_.notify_one();
  toucher_.join();
  if (owned()) unlink(path_.c_str());
  close(fd_);
}

void RunLock::check() const {
  if (owned()) return;
  const std::optional<Found> found = look();
  const std::optional<RunOwner> owner = found ? parse_owner(found->content) : std::nullopt;
  throw Error(text(dir_, ": the run's lock is gone while this program stood still; ",
                   owner ? owner_name(*owner) + " goes on with the run" : "somebody removed " + path_));
}

void RunLock::write_temporary(const std::string& content) {
  const RunOwner self = this_owner();
  temporary_ = text(path_, ".", self.host, ".", self.pid, ".", g_temporaries++, ".tmp");
  fd_ = open(temporary_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd_ < 0 || !write_whole(fd_, content)) fail("write");
}

// The own file becomes the lock, if there is none.
bool RunLock::put() {
  const int reason = link(temporary_.c_str(), path_.c_str()) == 0 ? 0 : errno;
  if (reason == 0 || owned()) {  // NFS may lose the answer to a link that was made
    unlink(temporary_.c_str());
    return true;
  }
  if (reason == EEXIST) return false;
  errno = reason;
  if (reason != EPERM && reason != EOPNOTSUPP && reason != ENOSYS && reason != EMLINK) fail("link");
  const int fd = open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd < 0 && errno == EEXIST) return false;
  if (fd < 0) fail("open");
  close_file();
  fd_ = fd;
  if (!write_whole(fd_, owner_text(this_owner()))) fail("write");
  return true;
}

std::optional<RunLock::Found> RunLock::look() const {
  const OpenFile file(path_, O_RDONLY);
  Found found;
  char content[1024];
  const ssize_t bytes = file.fd < 0 ? -1 : read(file.fd, content, sizeof content);
  if (bytes < 0 || fstat(file.fd, &found.file) != 0) {
    if (errno == ENOENT || errno == ESTALE) return std::nullopt;
    fail("read");
  }
  found.content.assign(content, static_cast<size_t>(bytes));
  return found;
}

// Of several that want a dead lock, one has its file locked, and all others then find another file in its place. A file
// system that locks no files: the last one to rename over it has it.
bool RunLock::take_over(const Found& dead) {
  const OpenFile old(path_, O_RDWR);
  const bool locked = old.fd >= 0 && flock(old.fd, LOCK_EX | LOCK_NB) == 0;
  if (!locked && errno == EWOULDBLOCK) {
    std::this_thread::sleep_for(kChanging);
    return false;
  }
  const std::optional<Found> now = look();
  if (!now || !same_file(now->file, dead.file) || now->content != dead.content) return false;
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename");
  if (!locked) std::this_thread::sleep_for(kSettle);
  if (owned()) return true;
  close_file();
  return false;
}

// Of programs that died while they took the lock.
void RunLock::remove_leftovers() const {
  struct stat own {};
  fstat(fd_, &own);
  std::error_code error;
  for (fs::directory_iterator it(dir_, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    struct stat file {};
    if (name.rfind(std::string(kName) + ".", 0) == 0 && it->path().extension() == ".tmp" &&
        stat(it->path().c_str(), &file) == 0 && modified(own) - modified(file) > kOwnerStaleSeconds)
      unlink(it->path().c_str());
  }
}

bool RunLock::owned() const {
  struct stat own {
  }, there{};
  return fstat(fd_, &own) == 0 && stat(path_.c_str(), &there) == 0 && same_file(own, there);
}

void RunLock::close_file() {
  if (fd_ < 0) return;
  close(fd_);
  fd_ = -1;
  unlink(temporary_.c_str());
}

void RunLock::touch_until_released() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!released_.wait_for(lock, kTouch, [&] { return releasing_; })) futimens(fd_, nullptr);
}

void RunLock::fail(const char* call) const {
  input_error(dir_, ": cannot take ", kName, ": ", call, ": ", std::strerror(errno));
}

}  // namespace convoy
