// Device memory: one reserved range of addresses, handed out once and never again, so that a freed pointer
// stays wrong. Beside each byte lies a mark: allocated, and written.
#include <sys/mman.h>

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "../address_sanitizer.h"
#include "../machine.h"
#include "runtime.h"

namespace emulator {
namespace {

constexpr size_t kDeviceBytes = size_t{4} << 30;  // what the device pretends to have
constexpr size_t kPage = 4096, kGuardBytes = kPage;
constexpr size_t kAlignment = 256;  // cudaMalloc's
enum Mark : unsigned char { kNone = 0, kAllocated = 1, kWritten = 3, kFreed = 4 };

constexpr unsigned char kPinned = 255;  // as an owner

unsigned char* memory = nullptr;
unsigned char* marks = nullptr;
unsigned char* owners = nullptr;  // the device, one entry a page: no two allocations share one
size_t reserved = 0, used = 0, live_bytes = 0;
std::map<size_t, size_t> live;  // offset, bytes

void* reserve(size_t bytes) {
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

bool ready() {
  for (reserved = reserved ? reserved : size_t{256} << 30; !memory && reserved > kDeviceBytes;
       reserved /= 2) {
    void* m = reserve(reserved);
    void* n = m ? reserve(reserved) : nullptr;
    void* o = n ? reserve(reserved / kPage) : nullptr;
    if (o) {
      memory = static_cast<unsigned char*>(m);
      marks = static_cast<unsigned char*>(n);
      owners = static_cast<unsigned char*>(o);
      break;
    }
    if (m) munmap(m, reserved);
    if (n) munmap(n, reserved);
  }
  return memory != nullptr;
}

size_t offset_of(const void* p) {
  return static_cast<size_t>(static_cast<const unsigned char*>(p) - memory);
}

cudaError_t allocate(void** out, size_t bytes, Mark mark, int owner) {
  *out = nullptr;
  if (broken()) return result(cudaSuccess);
  if (bytes == 0) return cudaSuccess;
  if (!ready() || bytes > kDeviceBytes - live_bytes) return result(cudaErrorMemoryAllocation);
  const size_t offset = used + kGuardBytes;
  const size_t end = (offset + bytes + kGuardBytes + kAlignment - 1) / kAlignment * kAlignment;
  if (end > reserved) return result(cudaErrorMemoryAllocation);
  ASAN_POISON_MEMORY_REGION(memory + used, end - used);
  ASAN_UNPOISON_MEMORY_REGION(memory + offset, bytes);
  used = end - kGuardBytes;
  std::memset(memory + offset, 0xff, bytes);
  std::memset(marks + offset, mark, bytes);
  std::memset(owners + offset / kPage, owner, (offset + bytes - 1) / kPage - offset / kPage + 1);
  live[offset] = bytes;
  live_bytes += bytes;
  *out = memory + offset;
  return cudaSuccess;
}

cudaError_t release(void* p) {
  if (!p) return cudaSuccess;
  finish(nullptr);
  const auto found = device_holds(p) ? live.find(offset_of(p)) : live.end();
  if (found == live.end()) return result(cudaErrorInvalidValue);
  std::memset(marks + found->first, kFreed, found->second);
  ASAN_POISON_MEMORY_REGION(memory + found->first, found->second);
  // Whole pages go back to the system; the addresses stay ours.
  const size_t first = (found->first + kPage - 1) / kPage * kPage;
  const size_t last = (found->first + found->second) / kPage * kPage;
  if (last > first) madvise(memory + first, last - first, MADV_DONTNEED);
  live_bytes -= found->second;
  live.erase(found);
  return result(cudaSuccess);
}

// What is wrong with `bytes` at p.
[[noreturn]] void bad(const char* does, const void* p, size_t bytes, const void* code) {
  const size_t offset = offset_of(p);
  std::string where = "outside of every allocation";
  auto next = live.upper_bound(offset);
  if (next != live.begin()) {
    const auto& [first, count] = *std::prev(next);
    where =
        "byte " + std::to_string(offset - first) + " of an allocation of " + std::to_string(count) + " bytes";
  }
  bool freed = false, allocated = true;
  for (size_t i = 0; i < bytes; ++i) {
    freed |= marks[offset + i] == kFreed;
    allocated &= (marks[offset + i] & kAllocated) != 0;
  }
  const char* what = freed       ? "freed device memory: "
                     : allocated ? "uninitialised device memory: "
                                 : "device memory overrun: ";
  fault(what + name_of(*machine.current) + " " + does + " " + std::to_string(bytes) + " bytes, " + where +
        ", at " + name_of_code(code) + (allocated && !freed ? "; nobody wrote it" : ""));
}

// Another device's memory is reached once it was enabled.
void check_owner(const char* does, const void* p, size_t bytes, const void* code) {
  const unsigned char owner = owners[offset_of(p) / kPage];
  if (owner == kPinned || reaches(machine.launch->device, owner)) return;
  fault("no peer access: " + name_of(*machine.current) + " of device " +
        std::to_string(machine.launch->device) + " " + does + " " + std::to_string(bytes) +
        " bytes of device " + std::to_string(owner) + ", at " + name_of_code(code));
}

}  // namespace

bool device_holds(const void* address) {
  return memory && address >= memory && address < memory + reserved;
}

void device_read(const void* from, size_t bytes, const void* code) {
  const unsigned char* mark = marks + offset_of(from);
  for (size_t i = 0; i < bytes; ++i) {
    if (mark[i] == kWritten || (mark[i] == kAllocated && !instrumented())) continue;
    bad("reads", from, bytes, code);
  }
  check_owner("reads", from, bytes, code);
}

void device_write(const void* to, size_t bytes, const void* code) {
  unsigned char* mark = marks + offset_of(to);
  for (size_t i = 0; i < bytes; ++i) {
    if (!(mark[i] & kAllocated)) bad("writes", to, bytes, code);
    mark[i] = kWritten;
  }
  check_owner("writes", to, bytes, code);
}

bool device_range(const void* p, size_t bytes) {
  if (!device_holds(p)) return false;
  const size_t offset = offset_of(p);
  auto next = live.upper_bound(offset);
  if (next == live.begin()) return false;
  const auto& [first, count] = *std::prev(next);
  return offset - first <= count && bytes <= count - (offset - first);
}

void mark_written(void* p, size_t bytes) {
  std::memset(marks + offset_of(p), kWritten, bytes);
}

void copy_marks(void* to, const void* from, size_t bytes) {
  std::memmove(marks + offset_of(to), marks + offset_of(from), bytes);
}

size_t unwritten_bytes(const void* p, size_t bytes) {
  const Guard guard(runtime_lock());
  size_t count = 0;
  for (size_t i = 0; i < bytes; ++i) count += marks[offset_of(p) + i] != kWritten;
  return count;
}

}  // namespace emulator

using namespace emulator;

cudaError_t emulator_malloc(void** out, size_t bytes) {
  const Guard guard(runtime_lock());
  return allocate(out, bytes, kAllocated, current_device());
}
cudaError_t emulator_malloc_host(void** out, size_t bytes) {
  const Guard guard(runtime_lock());
  return allocate(out, bytes, kWritten, kPinned);  // the host's writes are not seen
}
cudaError_t cudaFree(void* p) {
  const Guard guard(runtime_lock());
  return release(p);
}
cudaError_t cudaFreeHost(void* p) {
  const Guard guard(runtime_lock());
  return release(p);
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* p) {
  const Guard guard(runtime_lock());
  *attributes = {cudaMemoryTypeUnregistered, -2};
  if (device_range(p, 1)) {
    const unsigned char owner = owners[offset_of(p) / kPage];
    *attributes = {owner == kPinned ? cudaMemoryTypeHost : cudaMemoryTypeDevice,
                   owner == kPinned ? current_device() : owner};
  }
  return result(cudaSuccess);
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  const Guard guard(runtime_lock());
  *total = kDeviceBytes;
  *free = kDeviceBytes - live_bytes;
  return result(cudaSuccess);
}

cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch, size_t width,
                              size_t height, cudaMemcpyKind kind, cudaStream_t stream) {
  const Guard guard(runtime_lock());
  if (broken()) return result(cudaSuccess);
  if (width == 0 || height == 0) return cudaSuccess;
  if (to_pitch < width || from_pitch < width) return result(cudaErrorInvalidValue);
  const bool to_device = device_holds(to), from_device = device_holds(from);
  const bool wants_to = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool wants_from = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  // Pinned memory lies among the device's: it may stand for the host's, not the other way round.
  if (kind != cudaMemcpyDefault && ((wants_to && !to_device) || (wants_from && !from_device))) {
    return result(cudaErrorInvalidValue);
  }
  if ((to_device && !device_range(to, to_pitch * (height - 1) + width)) ||
      (from_device && !device_range(from, from_pitch * (height - 1) + width))) {
    return result(cudaErrorInvalidValue);
  }
  // Memory that is not pinned: what is read of it is taken before the call returns, and what is written to it is there
  // when it returns.
  std::shared_ptr<std::vector<char>> taken;
  if (!from_device && to_device) {
    const char* first = static_cast<const char*>(from);
    taken = std::make_shared<std::vector<char>>(first, first + from_pitch * (height - 1) + width);
  }
  const cudaError_t queued = submit(stream, [=] {
    const char* begin = taken ? taken->data() : static_cast<const char*>(from);
    for (size_t row = 0; row < height; ++row) {
      char* target = static_cast<char*>(to) + row * to_pitch;
      const char* source = begin + row * from_pitch;
      std::memmove(target, source, width);
      if (to_device && from_device) copy_marks(target, source, width);
      if (to_device && !from_device) mark_written(target, width);
    }
  });
  if (queued == cudaSuccess && from_device && !to_device && !capturing(stream)) finish(stream);
  return queued;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  return cudaMemcpy2DAsync(to, bytes, from, bytes, bytes, 1, kind, stream);
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const cudaError_t queued = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
  return queued ? queued : cudaStreamSynchronize(nullptr);
}

cudaError_t cudaMemsetAsync(void* p, int value, size_t bytes, cudaStream_t stream) {
  const Guard guard(runtime_lock());
  if (broken() || bytes == 0) return result(cudaSuccess);
  if (!device_range(p, bytes)) return result(cudaErrorInvalidValue);
  return submit(stream, [=] {
    std::memset(p, value, bytes);
    mark_written(p, bytes);
  });
}

cudaError_t cudaMemset(void* p, int value, size_t bytes) {
  return cudaMemsetAsync(p, value, bytes, nullptr);
}
