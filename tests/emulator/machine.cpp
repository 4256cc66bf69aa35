#include "machine.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <numeric>
#include <sstream>

#include "sync.h"

namespace emulator {

Machine machine;
thread_local bool checking = false;

namespace {

// Rounds in which threads only gave way to each other, before that counts as a hang.
constexpr int kIdleRounds = 100000;

// Unwinds the stack of the thread that faulted, for leak checkers; the others are dropped where they stand.
struct Unwind {};

void thread_main() {
  const Launch& launch = *machine.launch;
  try {
    checking = true;
    launch.call(launch.arguments.get());
    checking = false;
    leave_warp();
    hopper_leave();
  } catch (const Unwind&) {
  }
  Thread& me = *machine.current;
  me.state = State::kDone;
  me.fiber.suspend();
}

void start_block(const Launch& launch) {
  const dim3& b = launch.block;
  for (unsigned i = 0; i < machine.count; ++i) {
    Thread& t = machine.thread(i);
    t.state = State::kReady;
    t.number = i;
    t.index = {i % b.x, i / b.x % b.y, i / (b.x * b.y)};
    t.waits_for = nullptr;
    t.place = {};
    t.barrier = -1;
    t.spins = 0;
    t.open.clear();
    t.groups.clear();
    t.proxy_fences = 0;
    t.mbarrier = -1;
    t.registers_out = 0;
    t.fiber.start(thread_main);
  }
  machine.barriers = {};
  machine.meetings.assign((machine.count + 31) / 32, {});
  clocks_begin_block(machine.count);
  shared_begin_block(launch.shared_bytes);
  hopper_begin_block();
}

void step(Thread& t) {
  machine.current = &t;
  t.fiber.resume();
  machine.current = nullptr;
  checking = false;
  if (!machine.fault.empty()) throw Fault{machine.fault};
}

// Threads by what they do, with ranges of their numbers.
std::string stand() {
  std::map<std::string, std::vector<unsigned>> groups;
  for (unsigned i = 0; i < machine.count; ++i) {
    const Thread& t = machine.thread(i);
    groups[t.state == State::kDone ? std::string("exited")
                                   : std::string("waiting at ") + t.waits_for + " at " + name_of(t.place)]
        .push_back(i);
  }
  std::ostringstream out;
  for (const auto& [what, numbers] : groups) {
    out << "\n  threads ";
    for (size_t i = 0, ranges = 0; i < numbers.size(); ++ranges) {
      size_t last = i;
      while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
      out << (ranges ? ", " : "");
      if (ranges == 8) {
        out << "and " << numbers.size() - i << " more";
        break;
      }
      out << numbers[i];
      if (last > i) out << "-" << numbers[last];
      i = last + 1;
    }
    out << ": " << what;
  }
  return out.str();
}

std::string report(const std::string& what) {
  std::ostringstream out;
  out << "emulator: " << what << "\n  kernel "
      << name_of_function(machine.launch->function, machine.launch->kernel) << ", block ("
      << machine.block_index.x << "," << machine.block_index.y << "," << machine.block_index.z << ")";
  return out.str();
}

// A warp runs until all its lanes wait: what can go wrong when one warp is far ahead of another, does.
bool run_warp(unsigned warp) {
  bool any = false;
  for (bool again = true; again;) {
    again = false;
    const unsigned first = machine.draw(32);
    for (unsigned k = 0; k < 32; ++k) {
      const unsigned i = warp * 32 + (k + first) % 32;
      if (i < machine.count && machine.thread(i).state == State::kReady) {
        step(machine.thread(i));
        again = any = true;
      }
    }
  }
  return any;
}

void run_block(const Launch& launch) {
  start_block(launch);
  std::vector<unsigned> order(machine.meetings.size());
  std::iota(order.begin(), order.end(), 0u);
  for (int idle = 0;;) {
    for (size_t i = order.size(); i > 1; --i) {
      if (options().seed) std::swap(order[i - 1], order[machine.draw(static_cast<unsigned>(i))]);
    }
    bool any = false, all_done = true, spins = false;
    for (unsigned warp : order) any |= run_warp(warp);
    for (unsigned i = 0; i < machine.count; ++i) {
      Thread& t = machine.thread(i);
      all_done &= t.state == State::kDone;
      if (t.state == State::kYielded) {
        t.state = State::kReady;
        spins = true;
      }
    }
    if (all_done) break;
    // Asynchronous work that is as late as it can be: everybody waits, or only asks again and again.
    if ((spins ? idle % 4 == 3 : !any) && hopper_progress()) continue;
    if (!any && !spins) throw Fault{report("deadlock: no thread can go on") + stand() + hopper_stand()};
    idle = spins ? idle + 1 : 0;
    if (idle > kIdleRounds) {
      throw Fault{report("threads spin, and nobody makes progress") + stand() + hopper_stand()};
    }
  }
  hopper_end_block();
  shared_end_block();
}

}  // namespace

Options& options() {
  static Options o = [] {
    Options from;
    if (const char* seed = std::getenv("CONVOY_EMULATOR_SEED")) from.seed = std::strtoull(seed, nullptr, 10);
    if (const char* async = std::getenv("CONVOY_EMULATOR_ASYNC")) from.late = std::string(async) == "late";
    if (const char* arch = std::getenv("CONVOY_EMULATOR_ARCH")) from.architecture = std::atoi(arch);
    if (const char* devices = std::getenv("CONVOY_EMULATOR_DEVICES")) from.devices = std::atoi(devices);
    return from;
  }();
  return o;
}

unsigned Machine::draw(unsigned bound) {
  if (options().seed == 0) return 0;
  random ^= random << 13;  // xorshift64 (Marsaglia 2003)
  random ^= random >> 7;
  random ^= random << 17;
  return static_cast<unsigned>(random >> 32) % bound;
}

void run_grid(const Launch& launch) {
  machine.launch = &launch;
  machine.count = launch.block.x * launch.block.y * launch.block.z;
  machine.fault.clear();
  machine.random = options().seed * 0x9E3779B97F4A7C15u + 1;
  while (machine.threads.size() < machine.count) machine.threads.push_back(std::make_unique<Thread>());

  const uint64_t blocks = uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  // A stride that has no factor in common with the count visits every block once.
  uint64_t stride = 1, first = 0;
  if (options().seed) {
    first = machine.draw(static_cast<unsigned>(std::min<uint64_t>(blocks, 1u << 31)));
    stride = blocks / 2 + machine.draw(64);
    while (std::gcd(stride, blocks) != 1) ++stride;
  }
  for (uint64_t k = 0; k < blocks; ++k) {
    const uint64_t i = (first + k * stride) % blocks;
    machine.block_index = {static_cast<unsigned>(i % launch.grid.x),
                           static_cast<unsigned>(i / launch.grid.x % launch.grid.y),
                           static_cast<unsigned>(i / launch.grid.x / launch.grid.y)};
    run_block(launch);
  }
}

void fault(const std::string& what) {
  checking = false;
  if (!machine.current) throw Fault{report(what)};
  machine.fault = report(what);
  // The compiler takes it that its calls to the hooks do not throw: where there are any, this stack is
  // dropped too.
  if (instrumented()) machine.current->fiber.suspend();
  throw Unwind{};
}

void wait(State state, const char* for_what, Place place) {
  Thread& me = *machine.current;
  me.state = state;
  me.waits_for = for_what;
  me.place = place;
  const bool was_checking = checking;
  me.fiber.suspend();
  checking = was_checking;
}

void give_way() {
  wait(State::kYielded, "its turn", {});
}

std::string name_of(const Thread& thread) {
  std::ostringstream out;
  out << "thread (" << thread.index.x << "," << thread.index.y << "," << thread.index.z << ")";
  return out.str();
}

std::string name_of(Place place) {
  if (place.file) return std::string(place.file) + ":" + std::to_string(place.line);
  return place.code ? name_of_code(place.code) : "an unknown line";
}

}  // namespace emulator
