// Who touched each byte of shared memory last, and whether a barrier stands in between.
#include <cstdlib>
#include <cstring>
#include <new>

#include "clocks.h"
#include "machine.h"
#include "shared.h"

extern char __executable_start;  // the linker's

namespace emulator {
namespace {

// Two bytes share a cell; an access names those that it means.
constexpr size_t kCellBytes = 2;

struct Access {
  uint32_t epoch = 0;  // 0: none
  uint32_t time : 20, thread : 10, bytes : 2;
  uint32_t code = 0;  // offset in the program
};
// Two readers are kept, the first and the latest of others: a writer that races with any of several readers
// almost always races with one of these.
struct Cell {
  Access write, read, other_read, atomic;
  int pending = 0;  // cp.async that still write it
};
static_assert(kMaxThreads <= 1u << 10, "what Access::thread holds");

Cell* cells = nullptr;
bool* written = nullptr;  // by byte, in this block

void make_cells() {
  if (cells) return;
  // Untouched zero pages.
  cells = static_cast<Cell*>(std::calloc(kArenaBytes / kCellBytes, sizeof(Cell)));
  written = static_cast<bool*>(std::calloc(kArenaBytes, 1));
  if (!cells || !written) throw std::bad_alloc();
}

// One access as its cells are visited.
struct Visit {
  const Thread& thread;
  const char* does;
  size_t offset, bytes;
  const void* code;
  Access now;

  Visit(const Thread& by, const char* what, const void* address, size_t count, const void* at)
      : thread(by), does(what), offset(shared_offset(by, what, address, count, at)), bytes(count), code(at) {
    now.epoch = clocks_epoch;
    now.time = clocks_time(by.number) & 0xfffff;
    now.thread = by.number & 0x3ff;
    now.bytes = 0;
    now.code = static_cast<uint32_t>(static_cast<const char*>(at) - &__executable_start);
  }

  template <class F>
  void each_cell(F f) {
    for (size_t first = offset; first < offset + bytes;) {
      const size_t cell = first / kCellBytes, end = (cell + 1) * kCellBytes;
      const size_t last = end < offset + bytes ? end : offset + bytes;
      now.bytes = ((1u << (last - cell * kCellBytes)) - (1u << (first - cell * kCellBytes))) & 3;
      f(cells[cell]);
      first = last;
    }
  }

  bool races_with(const Access& before) const {
    return before.epoch == now.epoch && before.thread != now.thread && (before.bytes & now.bytes) &&
           !clocks_known(thread.number, before.thread, before.time);
  }
  void check(const Access& before, const char* did) const {
    if (races_with(before)) report_race(before, did);
  }
  void check_pending(const Cell& cell) const {
    if (cell.pending > 0) report_pending(cell);
  }
  void check_written() const {
    if (!instrumented()) return;
    for (size_t i = 0; i < bytes; ++i) {
      if (!written[offset + i]) {
        fault("uninitialised shared memory: " + what() + "; nobody wrote it");
      }
    }
  }

  std::string what() const {
    return name_of(thread) + " " + does + " " + shared_name(offset, bytes) + ", at " + name_of_code(code);
  }
  static std::string line_of(const Access& access) { return name_of_code(&__executable_start + access.code); }
  [[noreturn]] void report_race(const Access& before, const char* did) const {
    fault("race on shared memory " + shared_name(offset, bytes) + ": " + name_of(thread) + " " + does +
          " at " + name_of_code(code) + ", " + name_of(machine.thread(before.thread)) + " " + did + " at " +
          line_of(before) + ", and no barrier stands between them");
  }
  [[noreturn]] void report_pending(const Cell& cell) const {
    fault("unfinished cp.async: " + what() + ", before the copy made at " + line_of(cell.write) +
          " was waited for");
  }
};

}  // namespace

void races_new_array(size_t offset, size_t bytes) {
  make_cells();
  std::memset(written + offset, 0, bytes);
  std::memset(static_cast<void*>(cells + offset / kCellBytes), 0, (bytes + 1) / kCellBytes * sizeof(Cell));
}

void shared_read(const Thread& thread, const void* from, size_t bytes, const void* code) {
  Visit visit(thread, "reads", from, bytes, code);
  visit.each_cell([&](Cell& cell) {
    visit.check_pending(cell);
    visit.check(cell.write, "wrote it");
    visit.check(cell.atomic, "changed it atomically");
    const bool first = cell.read.epoch != visit.now.epoch || cell.read.thread == visit.now.thread;
    (first ? cell.read : cell.other_read) = visit.now;
  });
  visit.check_written();
}

void shared_write(const Thread& thread, const void* to, size_t bytes, const void* code) {
  Visit visit(thread, "writes", to, bytes, code);
  visit.each_cell([&](Cell& cell) {
    visit.check_pending(cell);
    visit.check(cell.write, "wrote it");
    visit.check(cell.atomic, "changed it atomically");
    visit.check(cell.read, "read it");
    visit.check(cell.other_read, "read it");
    cell.write = visit.now;
  });
  std::memset(written + visit.offset, 1, bytes);
}

void shared_atomic(const Thread& thread, void* at, size_t bytes, const void* code) {
  Visit visit(thread, "changes atomically", at, bytes, code);
  visit.each_cell([&](Cell& cell) {
    visit.check_pending(cell);
    visit.check(cell.write, "wrote it");
    visit.check(cell.read, "read it");
    visit.check(cell.other_read, "read it");
    cell.atomic = visit.now;
  });
  visit.check_written();
}

void shared_pending(const Thread& thread, const void* to, size_t bytes, int more, const void* code) {
  Visit visit(thread, "copies to", to, bytes, code);
  visit.each_cell([&](Cell& cell) { cell.pending += more; });
}

}  // namespace emulator
