#include "process_memory.h"

#include <cerrno>

#include "convoy/check.h"

#ifdef __linux__
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <climits>
#include <string>

namespace convoy {

int read_process(int process, const std::byte* from, std::byte* to, int64_t bytes) {
  while (bytes > 0) {
    const iovec there{const_cast<std::byte*>(from), static_cast<size_t>(bytes)};
    const iovec here{to, static_cast<size_t>(bytes)};
    const ssize_t count = process_vm_readv(process, &here, 1, &there, 1, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return count < 0 ? errno : EIO;
    from += count;
    to += count;
    bytes -= count;
  }
  return 0;
}

void let_processes_read() {
  prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);  // without Yama it fails, and is not needed
}

int make_memory_file(int64_t bytes, std::byte** here) {
  const int file = memfd_create("convoy", MFD_CLOEXEC);
  if (file < 0) return -1;
  void* memory = MAP_FAILED;
  if (ftruncate(file, bytes) == 0)
    memory = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (memory == MAP_FAILED) {
    close(file);
    return -1;
  }
  madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a wish: a refusal costs speed only
  *here = static_cast<std::byte*>(memory);
  return file;
}

std::byte* map_memory_file(int process, int file, int64_t bytes) {
  const std::string path = text("/proc/", process, "/fd/", file);
  const int opened = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (opened < 0) return nullptr;
  void* const memory =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, opened, 0);
  close(opened);
  return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

void unmap_memory(std::byte* memory, int64_t bytes) {
  munmap(memory, static_cast<size_t>(bytes));
}

void wait_while(std::atomic<uint32_t>& word, uint32_t value) {
  syscall(SYS_futex, &word, FUTEX_WAIT, value, nullptr, nullptr, 0);
}
void wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, &word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace convoy

#else

namespace convoy {

int read_process(int, const std::byte*, std::byte*, int64_t) {
  return ENOSYS;
}
void let_processes_read() {}
int make_memory_file(int64_t, std::byte**) {
  return -1;
}
std::byte* map_memory_file(int, int, int64_t) {
  return nullptr;
}
void unmap_memory(std::byte*, int64_t) {}
void wait_while(std::atomic<uint32_t>&, uint32_t) {}
void wake_all(std::atomic<uint32_t>&) {}

}  // namespace convoy

#endif
