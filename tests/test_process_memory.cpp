// Two processes, one of which reads what the other has, and what comes of places that can't be read.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <numeric>
#include <vector>

#include "process_memory.h"

namespace convoy {
namespace {

const std::byte* bytes_of(const void* memory) {
  return static_cast<const std::byte*>(memory);
}

TEST(ProcessMemory, IsReadOrSaysWhyNot) {
  std::vector<int> there(100000), here(there.size());
  std::iota(there.begin(), there.end(), 1);
  auto* const to = reinterpret_cast<std::byte*>(here.data());
  const auto bytes = static_cast<int64_t>(there.size() * sizeof(int));
  const int error = read_process(getpid(), bytes_of(there.data()), to, bytes);
  if (error == ENOSYS || error == EPERM) GTEST_SKIP() << "not here: " << std::strerror(error);
  ASSERT_EQ(error, 0);
  EXPECT_EQ(here, there);
  EXPECT_EQ(read_process(getpid(), nullptr, to, 8), EFAULT);
  const pid_t gone = fork();
  if (gone == 0) _exit(0);
  ASSERT_EQ(waitpid(gone, nullptr, 0), gone);
  EXPECT_EQ(read_process(gone, bytes_of(there.data()), to, 8), ESRCH);
}

TEST(ProcessMemory, FilesAreSharedAndWakeWhoeverWaits) {
  std::byte* mine = nullptr;
  const int file = make_memory_file(8192, &mine);
  if (file < 0) GTEST_SKIP() << "no files in memory here";
  EXPECT_EQ(mine[8191], std::byte{0});
  auto& word = *reinterpret_cast<std::atomic<uint32_t>*>(mine);
  const pid_t parent = getpid(), child = fork();
  if (child == 0) {  // maps it by itself, answers, and waits for the answer to that
    std::byte* const theirs = map_memory_file(parent, file, 8192);
    if (theirs == nullptr) _exit(1);
    auto& there = *reinterpret_cast<std::atomic<uint32_t>*>(theirs);
    there = 1;
    wake_all(there);
    while (there == 1) wait_while(there, 1);
    _exit(there == 2 ? 0 : 1);
  }
  while (word == 0) {
    int status = 0;  // a child that could not map it
    if (waitpid(child, &status, WNOHANG) == child) FAIL() << "the child ended with " << status;
    usleep(1000);
  }
  word = 2;
  wake_all(word);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(map_memory_file(child, file, 8192), nullptr);  // it has gone
  unmap_memory(mine, 8192);
  close(file);
}

}  // namespace
}  // namespace convoy
