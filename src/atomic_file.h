// A file that appears under its name whole or not at all: written as FILE.tmp, synced, renamed, its folder
// synced.
#pragma once
#include <cstdint>
#include <string>

namespace convoy {

constexpr const char* kTemporarySuffix = ".tmp";

// Every call throws Error naming the file, the system call and the reason when it fails.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();  // removes FILE.tmp unless it was renamed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(int64_t offset, const char* data, int64_t bytes);
  void commit();

 private:
  [[noreturn]] void fail(const char* call) const;

  std::string path_, temporary_;
  int fd_ = -1;
  bool renamed_ = false;
};

}  // namespace convoy
