#include "copies.h"

#include <cstring>

#include "machine.h"

namespace emulator {
namespace {

void move(const Copy& c) {
  if (c.source_bytes > 0) std::memcpy(c.to, c.from, c.source_bytes);
  if (c.source_bytes < c.bytes)
    std::memset(static_cast<char*>(c.to) + c.source_bytes, 0, c.bytes - c.source_bytes);
}

void land(const std::vector<Copy>& copies) {
  for (const Copy& c : copies) {
    if (options().late) move(c);
    shared_pending(*machine.current, c.to, c.bytes, -1, c.code);
    // Others see it only after a barrier that follows the wait.
    shared_write(*machine.current, c.to, c.bytes, c.code);
  }
}

}  // namespace

void async_copy(void* to, const void* from, unsigned bytes, unsigned source_bytes, const void* code) {
  const std::string what = "cp.async of " + std::to_string(bytes) + " bytes at " + name_of_code(code);
  if (bytes != 4 && bytes != 8 && bytes != 16) fault(what + ": it copies 4, 8 or 16");
  if (source_bytes > bytes) fault(what + " from " + std::to_string(source_bytes));
  if (!shared_holds(to)) fault(what + ": the destination is not in shared memory");
  if (reinterpret_cast<uintptr_t>(to) % bytes ||
      (source_bytes && reinterpret_cast<uintptr_t>(from) % bytes)) {
    fault(what + " by " + name_of(*machine.current) + ": misaligned");
  }
  if (source_bytes > 0) {
    if (!device_holds(from)) fault(what + ": the source is not in device memory");
    device_read(from, source_bytes, code);
  }
  const Copy copy{to, from, bytes, source_bytes, code};
  shared_write(*machine.current, to, bytes, code);
  shared_pending(*machine.current, to, bytes, +1, code);
  if (!options().late) move(copy);
  machine.current->open.push_back(copy);
}

void async_commit() {
  Thread& me = *machine.current;
  me.groups.push_back(std::move(me.open));
  me.open.clear();
}

void async_wait(unsigned groups_left) {
  Thread& me = *machine.current;
  while (me.groups.size() > groups_left) {
    land(me.groups.front());
    me.groups.pop_front();
  }
}

void async_wait_all() {
  async_commit();
  async_wait(0);
}

void lane_read(unsigned lane, const void* from, size_t bytes, const void* code) {
  const Thread& thread = machine.thread(machine.current->warp() * 32 + lane);
  if (!shared_holds(from))
    fault(name_of(thread) + ": not an address of shared memory, at " + name_of_code(code));
  if (reinterpret_cast<uintptr_t>(from) % bytes)
    fault(name_of(thread) + ": misaligned row, at " + name_of_code(code));
  shared_read(thread, from, bytes, code);
}

void lane_write(unsigned lane, void* to, size_t bytes, const void* code) {
  const Thread& thread = machine.thread(machine.current->warp() * 32 + lane);
  if (!shared_holds(to))
    fault(name_of(thread) + ": not an address of shared memory, at " + name_of_code(code));
  if (reinterpret_cast<uintptr_t>(to) % bytes)
    fault(name_of(thread) + ": misaligned row, at " + name_of_code(code));
  shared_write(thread, to, bytes, code);
}

}  // namespace emulator
