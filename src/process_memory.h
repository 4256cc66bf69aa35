// What Linux lets processes of one machine do with each other's memory. Elsewhere all of it fails, as it does where a
// container keeps them apart.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace convoy {

// to[0, bytes) = what the process has at `from`. Gives 0, or errno.
int read_process(int process, const std::byte* from, std::byte* to, int64_t bytes);

// Where only a process's parent may look into it (Yama): this one allows all of its user's.
void let_processes_read();

// A file in memory of `bytes`, zero, mapped at *here, and gone with the last process that maps it; -1: there is none.
int make_memory_file(int64_t bytes, std::byte** here);
// That file of another process, mapped; null when it can't be.
std::byte* map_memory_file(int process, int file, int64_t bytes);
void unmap_memory(std::byte* memory, int64_t bytes);

// Sleeps while *word, in such memory, is `value`; may return before.
void wait_while(std::atomic<uint32_t>& word, uint32_t value);
void wake_all(std::atomic<uint32_t>& word);

}  // namespace convoy
