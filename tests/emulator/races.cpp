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
  uint32_t time = 0;
  uint32_t code = 0;    // offset in the program
  uint16_t thread = 0;  // or a slot (clocks.h)
  uint16_t bytes = 0;
};
// Two readers are kept, the first and the latest of others: a writer that races with any of several readers
// almost always races with one of these.
struct Cell {
  Access write, read, other_read, atomic;
  uint16_t writing = 0, reading = 0;  // copies that still write it; products and stores that still read it
  uint32_t fences = 0;                // the writer's fence_proxy_async before it wrote
};

Cell* cells = nullptr;
bool* written = nullptr;  // by byte, in this block

void make_cells() {
  if (cells) return;
  // Untouched zero pages.
  cells = static_cast<Cell*>(std::calloc(kArenaBytes / kCellBytes, sizeof(Cell)));
  written = static_cast<bool*>(std::calloc(kArenaBytes, 1));
  if (!cells || !written) throw std::bad_alloc();
}

uint32_t code_offset(const void* code) {
  return static_cast<uint32_t>(static_cast<const char*>(code) - &__executable_start);
}

// Whole cells of an address that was checked before.
template <class F>
void each_cell_of(const void* address, size_t bytes, F f) {
  const size_t first = shared_address(address) / kCellBytes;
  for (size_t i = 0; i < bytes / kCellBytes; ++i) f(cells[first + i]);
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
    now.time = clocks_time(by.number);
    now.thread = static_cast<uint16_t>(by.number);
    now.code = code_offset(at);
  }

  template <class F>
  void each_cell(F f) {
    for (size_t first = offset; first < offset + bytes;) {
      const size_t cell = first / kCellBytes, end = (cell + 1) * kCellBytes;
      const size_t last = end < offset + bytes ? end : offset + bytes;
      now.bytes =
          static_cast<uint16_t>((1u << (last - cell * kCellBytes)) - (1u << (first - cell * kCellBytes)));
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
  void check_landed(const Cell& cell) const {
    if (cell.writing > 0)
      report_unfinished(cell.write, cell.write.thread < kMaxThreads ? "cp.async" : "bulk copy");
  }
  void check_free(const Cell& cell) const {
    check_landed(cell);
    if (cell.reading == 0) return;
    report_unfinished(cell.read, cell.read.thread < kMaxThreads ? "bulk store" : "wgmma");
  }
  // What a thread wrote reaches the proxy of asynchronous work after that thread's fence only (PTX ISA, "Async
  // proxy"), however many barriers stand in between.
  void check_fenced(const Cell& cell) const {
    if (cell.write.epoch == 0 || cell.write.thread >= kMaxThreads) return;
    const Thread& writer = machine.thread(cell.write.thread);
    if (cell.fences != writer.proxy_fences) return;
    fault("missing fence_proxy_async: " + what() + ", which " + name_of(writer) + " wrote at " +
          line_of(cell.write) + " without a fence_proxy_async after it");
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
    const std::string other = before.thread < kMaxThreads      ? name_of(machine.thread(before.thread))
                              : before.thread >= kMbarrierSlot ? "a bulk copy"
                                                               : "a wgmma";
    fault("race on shared memory " + shared_name(offset, bytes) + ": " + name_of(thread) + " " + does +
          " at " + name_of_code(code) + ", " + other + " " + did + " at " + line_of(before) +
          ", and no barrier stands between them");
  }
  [[noreturn]] void report_unfinished(const Access& access, const char* kind) const {
    fault(std::string("unfinished ") + kind + ": " + what() + ", before the " + kind + " made at " +
          line_of(access) + " was waited for");
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
    visit.check_landed(cell);
    visit.check(cell.write, "wrote it");
    visit.check(cell.atomic, "changed it atomically");
    if (cell.reading > 0) return;  // what reads it asynchronously stays on record
    const bool first = cell.read.epoch != visit.now.epoch || cell.read.thread == visit.now.thread;
    (first ? cell.read : cell.other_read) = visit.now;
  });
  visit.check_written();
}

void shared_write(const Thread& thread, const void* to, size_t bytes, const void* code) {
  Visit visit(thread, "writes", to, bytes, code);
  visit.each_cell([&](Cell& cell) {
    visit.check_free(cell);
    visit.check(cell.write, "wrote it");
    visit.check(cell.atomic, "changed it atomically");
    visit.check(cell.read, "read it");
    visit.check(cell.other_read, "read it");
    cell.write = visit.now;
    cell.fences = thread.proxy_fences;
  });
  std::memset(written + visit.offset, 1, bytes);
}

void shared_atomic(const Thread& thread, void* at, size_t bytes, const void* code) {
  Visit visit(thread, "changes atomically", at, bytes, code);
  visit.each_cell([&](Cell& cell) {
    visit.check_free(cell);
    visit.check(cell.write, "wrote it");
    visit.check(cell.read, "read it");
    visit.check(cell.other_read, "read it");
    cell.atomic = visit.now;
  });
  visit.check_written();
}

void shared_pending(const Thread& thread, const void* to, size_t bytes, int more, const void* code) {
  Visit visit(thread, "copies to", to, bytes, code);
  visit.each_cell([&](Cell& cell) { cell.writing = static_cast<uint16_t>(cell.writing + more); });
}

void async_write_begin(const Thread& thread, void* to, size_t bytes, const Async& by) {
  Visit visit(thread, "makes a bulk copy that writes", to, bytes, by.code);
  Access access = visit.now;
  access.thread = static_cast<uint16_t>(by.slot);
  access.time = by.time;
  visit.each_cell([&](Cell& cell) {
    visit.check_free(cell);
    visit.check(cell.write, "wrote it");
    visit.check(cell.atomic, "changed it atomically");
    visit.check(cell.read, "read it");
    visit.check(cell.other_read, "read it");
    visit.check_fenced(cell);
    access.bytes = visit.now.bytes;
    cell.write = access;
    ++cell.writing;
  });
  std::memset(written + visit.offset, 1, bytes);
}

void async_write_end(const void* to, size_t bytes) {
  each_cell_of(to, bytes, [](Cell& cell) { --cell.writing; });
}

void async_read_check(const Thread& thread, const void* from, size_t bytes, const Async& by) {
  Visit visit(thread, by.slot < kMaxThreads ? "makes a bulk store that reads" : "makes a wgmma that reads",
              from, bytes, by.code);
  visit.each_cell([&](Cell& cell) {
    visit.check_landed(cell);
    visit.check(cell.write, "wrote it");
    visit.check(cell.atomic, "changed it atomically");
    visit.check_fenced(cell);
  });
  visit.check_written();
}

void async_read_begin(const void* from, size_t bytes, const Async& by) {
  Access access;
  access.epoch = clocks_epoch;
  access.time = by.time;
  access.thread = static_cast<uint16_t>(by.slot);
  access.bytes = 3;
  access.code = code_offset(by.code);
  each_cell_of(from, bytes, [&](Cell& cell) {
    const bool first = cell.read.epoch != access.epoch || cell.read.thread == access.thread;
    if (!first) cell.other_read = cell.read;
    cell.read = access;
    ++cell.reading;
  });
}

void async_read_end(const void* from, size_t bytes) {
  each_cell_of(from, bytes, [](Cell& cell) { --cell.reading; });
}

}  // namespace emulator
