#include "shared.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <new>

#include "machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) static_cast<void>(0)
#endif

namespace emulator {
namespace {

constexpr size_t kArenaBytes = 512 << 10;  // the largest shared memory, 227 KiB, and its red zones
constexpr size_t kRedZone = 256;
constexpr unsigned char kRed = 0xA5;

struct Array {
  const void* key;
  const char* name;
  size_t offset, bytes;
};

// What is known of one byte. Two readers are kept, the first and the latest of others: a writer that races with
// any of several readers almost always races with one of these.
struct Access {
  Stamp stamp;
  const void* code = nullptr;
};
struct Cell {
  Access write, read, other_read, atomic;
  int pending = 0;     // cp.async that still write it
  unsigned block = 0;  // in which the byte was last written
};

unsigned char* arena = nullptr;
Cell* cells = nullptr;
std::vector<Array> arrays;
size_t used = 0, dynamic = 0;
unsigned block_number = 0;
const char dynamic_key = 0;

void make_arena() {
  if (arena) return;
  void* memory = mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  arena = static_cast<unsigned char*>(memory);
  std::memset(arena, kRed, kArenaBytes);
  // Untouched zero pages: a stamp of epoch 0 is older than everything.
  cells = static_cast<Cell*>(std::calloc(kArenaBytes, sizeof(Cell)));
  if (!cells) throw std::bad_alloc();
}

size_t offset_of(const void* address) {
  return static_cast<size_t>(static_cast<const unsigned char*>(address) - arena);
}

std::string place_in_arrays(size_t offset, size_t bytes) {
  const Array* nearest = nullptr;
  for (const Array& a : arrays) {
    if (a.offset <= offset) nearest = &a;
  }
  if (!nearest && !arrays.empty()) nearest = &arrays.front();
  if (!nearest) return "(the block has no shared array)";
  const long at = static_cast<long>(offset) - static_cast<long>(nearest->offset);
  return std::string(nearest->name) + " (" + std::to_string(nearest->bytes) + " bytes) at byte " +
         std::to_string(at) + ", " + std::to_string(bytes) + " bytes";
}

[[noreturn]] void race(const Thread& thread, const char* does, size_t offset, size_t bytes, const void* code,
                       const Access& before, const char* did) {
  fault("race on shared memory " + place_in_arrays(offset, bytes) + ": " + name_of(thread) + " " + does +
        " at " + name_of_code(code) + ", " + name_of(machine.thread(before.stamp.thread)) + " " + did +
        " at " + name_of_code(before.code) + ", and no barrier stands between them");
}

void check_ordered(const Thread& thread, const char* does, size_t offset, size_t bytes, const void* code,
                   const Access& before, const char* did) {
  if (!clocks_ordered(before.stamp, thread.number)) race(thread, does, offset, bytes, code, before, did);
}
void check_written(const Thread& thread, const Cell& cell, size_t offset, size_t bytes, const void* code) {
  if (!instrumented() || cell.block == block_number) return;
  fault("uninitialised shared memory: " + name_of(thread) + " reads " + place_in_arrays(offset, bytes) +
        ", at " + name_of_code(code) + "; nobody wrote it");
}

// The cells of an access, after the checks that reads and writes share.
Cell* access(const Thread& thread, const char* does, const void* address, size_t bytes, const void* code) {
  const size_t offset = offset_of(address);
  bool inside = false;
  for (const Array& a : arrays) inside |= offset >= a.offset && offset + bytes <= a.offset + a.bytes;
  if (!inside) {
    fault("shared memory overrun: " + name_of(thread) + " " + does + " " + place_in_arrays(offset, bytes) +
          ", at " + name_of_code(code));
  }
  Cell* cell = &cells[offset];
  for (size_t i = 0; i < bytes; ++i) {
    if (cell[i].pending > 0) {
      fault("unfinished cp.async: " + name_of(thread) + " " + does + " " + place_in_arrays(offset, bytes) +
            ", at " + name_of_code(code) + ", before the copy made at " + name_of_code(cell[i].write.code) +
            " was waited for");
    }
    check_ordered(thread, does, offset, bytes, code, cell[i].write, "wrote it");
  }
  return cell;
}

}  // namespace

void shared_begin_block(size_t dynamic_bytes) {
  make_arena();
  for (const Array& a : arrays) {
    std::memset(arena + a.offset, kRed, a.bytes);
    for (size_t i = 0; i < a.bytes; ++i) cells[a.offset + i].pending = 0;
  }
  ASAN_POISON_MEMORY_REGION(arena, kArenaBytes);
  arrays.clear();
  used = kRedZone;
  ++block_number;
  dynamic = dynamic_bytes;
  if (dynamic_bytes > 0) shared_array(&dynamic_key, "dynamic", dynamic_bytes, 1024);
}

void shared_end_block() {
  ASAN_UNPOISON_MEMORY_REGION(arena, kArenaBytes);
  size_t at = 0;
  const auto check = [&](size_t end) {
    for (; at < end; ++at) {
      if (arena[at] != kRed) {
        const size_t offset = at;
        arena[offset] = kRed;
        fault("shared memory overrun: somebody wrote " + place_in_arrays(offset, 1));
      }
    }
  };
  for (const Array& a : arrays) {
    check(a.offset);
    at = a.offset + a.bytes;
  }
  check(used);
}

bool shared_holds(const void* address) {
  return arena && address >= arena && address < arena + kArenaBytes;
}

void shared_read(const Thread& thread, const void* from, size_t bytes, const void* code) {
  Cell* cell = access(thread, "reads", from, bytes, code);
  const Access now{clocks_stamp(thread.number), code};
  for (size_t i = 0; i < bytes; ++i) {
    check_ordered(thread, "reads", offset_of(from), bytes, code, cell[i].atomic, "changed it atomically");
    check_written(thread, cell[i], offset_of(from), bytes, code);
    const bool first = clocks_stale(cell[i].read.stamp) || cell[i].read.stamp.thread == now.stamp.thread;
    (first ? cell[i].read : cell[i].other_read) = now;
  }
}

void shared_write(const Thread& thread, const void* to, size_t bytes, const void* code) {
  Cell* cell = access(thread, "writes", to, bytes, code);
  const Access now{clocks_stamp(thread.number), code};
  for (size_t i = 0; i < bytes; ++i) {
    check_ordered(thread, "writes", offset_of(to), bytes, code, cell[i].read, "read it");
    check_ordered(thread, "writes", offset_of(to), bytes, code, cell[i].other_read, "read it");
    check_ordered(thread, "writes", offset_of(to), bytes, code, cell[i].atomic, "changed it atomically");
    cell[i].write = now;
    cell[i].block = block_number;
  }
}

void shared_atomic(const Thread& thread, void* at, size_t bytes, const void* code) {
  const char* const does = "changes atomically";
  Cell* cell = access(thread, does, at, bytes, code);
  const Access now{clocks_stamp(thread.number), code};
  for (size_t i = 0; i < bytes; ++i) {
    check_written(thread, cell[i], offset_of(at), bytes, code);
    check_ordered(thread, does, offset_of(at), bytes, code, cell[i].read, "read it");
    check_ordered(thread, does, offset_of(at), bytes, code, cell[i].other_read, "read it");
    cell[i].atomic = now;
  }
}

void shared_pending(const void* to, size_t bytes, int more) {
  Cell* cell = &cells[offset_of(to)];
  for (size_t i = 0; i < bytes; ++i) cell[i].pending += more;
}

void* shared_array(const void* key, const char* name, size_t bytes, size_t alignment) {
  for (const Array& a : arrays) {
    if (a.key == key) return arena + a.offset;
  }
  if (alignment < 16) alignment = 16;
  const size_t offset = (used + alignment - 1) / alignment * alignment;
  if (offset + bytes + kRedZone > kArenaBytes) fault("shared arrays of more than 227 KiB");
  ASAN_UNPOISON_MEMORY_REGION(arena + offset, bytes);
  std::memset(arena + offset, 0xff, bytes);
  arrays.push_back({key, name, offset, bytes});
  used = offset + bytes + kRedZone;
  return arena + offset;
}

void* shared_dynamic() {
  return dynamic > 0 ? arena + arrays.front().offset : nullptr;
}

}  // namespace emulator
