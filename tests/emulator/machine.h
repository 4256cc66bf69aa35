// The emulated device: the grid that runs, its threads, barriers and warps. For the emulator's own sources;
// kernels see device.h.
//
// One launch runs at a time, on the host thread that makes it (runtime/ holds its lock meanwhile).
#pragma once
#include <array>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "clocks.h"
#include "emulator.h"
#include "fiber.h"
#include "launch.h"
#include "place.h"
#include "vector_types.h"

namespace emulator {

constexpr unsigned kMaxThreads = 1024;

// What ends a launch: thrown on the host's stack by run_grid.
struct Fault {
  std::string report;
};

// One cp.async.
struct Copy {
  void* to;
  const void* from;
  unsigned bytes;
  unsigned source_bytes;  // the rest is zero
  const void* code;
};

enum class State { kReady, kYielded, kBarrier, kWarp, kAsync, kDone };

struct Thread {
  Fiber fiber;
  State state = State::kDone;
  unsigned number = 0;  // within the block
  uint3 index{};
  const char* waits_for = nullptr;
  Place place{};
  int barrier = -1;
  int reduced = 0;         // what the barrier's reduction gave
  unsigned spins = 0;      // atomics since the thread last gave way
  std::vector<Copy> open;  // cp.async since the last commit
  std::deque<std::vector<Copy>> groups;
  unsigned proxy_fences = 0;
  int mbarrier = -1;           // the last that it waited for, or asked
  unsigned registers_out = 0;  // arrays of registers that unfinished wgmma use
  unsigned lane() const { return number % 32; }
  unsigned warp() const { return number / 32; }
};

// A barrier while threads wait at it.
struct Barrier {
  unsigned needed = 0, arrived = 0;
  int sum = 0;  // of the predicates
  const char* name = nullptr;
  Place place{};
};

// The lanes of one warp that are to meet in one collective.
struct Meeting {
  uint32_t mask = 0, arrived = 0;
  const char* name = nullptr;
  Place place{};
  std::array<const void*, 32> in{};
  std::array<void*, 32> out{};
};

struct Machine {
  const Launch* launch = nullptr;
  uint3 block_index{};
  unsigned count = 0;  // threads of a block
  std::vector<std::unique_ptr<Thread>> threads;
  Thread* current = nullptr;  // null: the host runs
  std::array<Barrier, kBarriers> barriers;
  std::vector<std::vector<Meeting>> meetings;  // by warp
  std::string fault;
  uint64_t random = 0;

  Thread& thread(unsigned number) { return *threads[number]; }
  unsigned draw(unsigned bound);  // from the seed
};
extern Machine machine;

// Runs every block; throws Fault.
void run_grid(const Launch& launch);

// Ends the launch from within a thread; `what` says what is wrong, the report adds who and where.
[[noreturn]] void fault(const std::string& what);
// The current thread waits in `state` until somebody makes it ready.
void wait(State state, const char* for_what, Place place);
// Makes way for the other threads.
void give_way();

std::string name_of(const Thread& thread);  // thread (3,0,0)
std::string name_of(Place place);           // kernels/conv.cu:120
std::string name_of_function(const void* function, const char* otherwise);
std::string name_of_code(const void* code);  // the same, of a return address

// Shared memory (shared.cpp).
void shared_begin_block(size_t dynamic_bytes);
void shared_end_block();  // faults when a red zone was written
bool shared_holds(const void* address);
// The offset of an access that lies inside one of the block's arrays; it faults otherwise.
size_t shared_offset(const Thread& thread, const char* does, const void* address, size_t bytes,
                     const void* code);
std::string shared_name(size_t offset, size_t bytes);  // tile (4096 bytes) at byte 12, 4 bytes

// Accesses to it on behalf of `thread`, made by the code at `code`: they fault when they miss the arrays or
// race (races.cpp).
void shared_read(const Thread& thread, const void* from, size_t bytes, const void* code);
void shared_write(const Thread& thread, const void* to, size_t bytes, const void* code);
void shared_atomic(const Thread& thread, void* at, size_t bytes, const void* code);
void shared_pending(const Thread& thread, const void* to, size_t bytes, int more,
                    const void* code);              // cp.async
void races_new_array(size_t offset, size_t bytes);  // nobody has touched it

// Asynchronous accesses, of whole cells of two bytes: recorded as `slot` (clocks.h) at its time, and unfinished
// until their end. A bulk store reads on behalf of the thread that made it, whose slot is its number.
struct Async {
  unsigned slot;
  uint32_t time;
  const void* code;
};
void async_write_begin(const Thread& thread, void* to, size_t bytes, const Async& by);
void async_write_end(const void* to, size_t bytes);
void async_read_check(const Thread& thread, const void* from, size_t bytes, const Async& by);
void async_read_begin(const void* from, size_t bytes, const Async& by);
void async_read_end(const void* from, size_t bytes);
size_t shared_address(const void* address);  // its offset, as the device's 32-bit shared addresses have it
void* shared_at(size_t offset);

// Hopper's asynchronous work (mbarrier.cpp, bulk.cpp, wgmma.cpp).
void hopper_begin_block();
void hopper_leave();      // the current thread exits: faults when work of its own is unfinished
void hopper_end_block();  // faults when a copy was not waited for, or an mbarrier expects more bytes
// Lands one copy or product that a thread waits for; false when there is none.
bool hopper_progress();
std::string hopper_stand();  // the mbarriers that threads wait for, for a report
bool mbarrier_progress();
bool wgmma_progress();
// The current thread touches its own stack while wgmma use some of it.
void wgmma_check_registers(const void* address, size_t bytes, bool write, const void* code);

// Device memory (runtime/memory.cpp).
bool device_holds(const void* address);
void device_read(const void* from, size_t bytes, const void* code);
void device_write(const void* to, size_t bytes, const void* code);

// One access by the current thread, wherever the address points (hooks.cpp).
void check_access(const void* address, size_t bytes, bool write, const void* code);
// While true, the current host thread runs a CUDA thread's own code, and the hooks check it.
extern thread_local bool checking;

}  // namespace emulator
