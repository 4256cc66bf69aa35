#include "shared.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "address_sanitizer.h"
#include "machine.h"

namespace emulator {
namespace {

constexpr size_t kRedZone = 256;
constexpr unsigned char kRed = 0xA5;

struct Array {
  const void* key;
  const char* name;
  size_t offset, bytes;
};

unsigned char* arena = nullptr;
std::vector<Array> arrays;
size_t used = 0, dynamic = 0;
const char dynamic_key = 0;

void make_arena() {
  if (arena) return;
  void* memory = mmap(nullptr, kArenaBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  arena = static_cast<unsigned char*>(memory);
  std::memset(arena, kRed, kArenaBytes);
}

}  // namespace

void shared_begin_block(size_t dynamic_bytes) {
  make_arena();
  for (const Array& a : arrays) std::memset(arena + a.offset, kRed, a.bytes);
  ASAN_POISON_MEMORY_REGION(arena, kArenaBytes);
  arrays.clear();
  used = kRedZone;
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
        fault("shared memory overrun: somebody wrote " + shared_name(offset, 1));
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

size_t shared_address(const void* address) {
  return static_cast<size_t>(static_cast<const unsigned char*>(address) - arena);
}

void* shared_at(size_t offset) {
  return arena + offset;
}

std::string shared_name(size_t offset, size_t bytes) {
  const Array* nearest = arrays.empty() ? nullptr : &arrays.front();
  for (const Array& a : arrays) {
    if (a.offset <= offset) nearest = &a;
  }
  if (!nearest) return "(the block has no shared array)";
  const long at = static_cast<long>(offset) - static_cast<long>(nearest->offset);
  return std::string(nearest->name) + " (" + std::to_string(nearest->bytes) + " bytes) at byte " +
         std::to_string(at) + ", " + std::to_string(bytes) + " bytes";
}

size_t shared_offset(const Thread& thread, const char* does, const void* address, size_t bytes,
                     const void* code) {
  const auto offset = static_cast<size_t>(static_cast<const unsigned char*>(address) - arena);
  for (const Array& a : arrays) {
    if (offset >= a.offset && offset + bytes <= a.offset + a.bytes) return offset;
  }
  fault("shared memory overrun: " + name_of(thread) + " " + does + " " + shared_name(offset, bytes) +
        ", at " + name_of_code(code));
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
  races_new_array(offset, bytes);
  used = offset + bytes + kRedZone;
  return arena + offset;
}

void* shared_dynamic() {
  return dynamic > 0 ? arena + arrays.front().offset : nullptr;
}

}  // namespace emulator
