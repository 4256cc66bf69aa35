#include "atomic_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "convoy/check.h"

namespace convoy {
namespace {

int sync_file(int fd) {
  int status = 0;
  do {
    status = fsync(fd);
  } while (status != 0 && errno == EINTR);
  return status;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path), temporary_(path + kTemporarySuffix) {
  fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd_ < 0) fail("open");
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!renamed_) unlink(temporary_.c_str());
}

void AtomicFile::write(int64_t offset, const char* data, int64_t bytes) {
  for (int64_t done = 0; done < bytes;) {
    const ssize_t put =
        pwrite(fd_, data + done, static_cast<size_t>(bytes - done), static_cast<off_t>(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("write");
    done += put;
  }
}

void AtomicFile::commit() {
  if (sync_file(fd_) != 0) fail("fsync");
  const int closed = close(fd_);
  fd_ = -1;
  if (closed != 0) fail("close");  // network file systems report a full disk here
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename");
  renamed_ = true;

  const size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : path_.substr(0, slash + 1);
  const int dir = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (dir < 0) fail("open of its folder");
  const int status = sync_file(dir);
  const int reason = errno;
  close(dir);
  errno = reason;
  if (status != 0 && reason != EINVAL)
    fail("fsync of its folder");  // EINVAL: this file system has no such thing
}

void AtomicFile::fail(const char* call) const {
  throw Error(text("cannot write ", path_, ": ", call, ": ", std::strerror(errno)));
}

}  // namespace convoy
