#include "sync.h"

#include <cstring>
#include <sstream>
#include <string>

#include "machine.h"

namespace emulator {
namespace {

std::string lanes_text(uint32_t mask) {
  std::ostringstream out;
  out << "lanes 0x" << std::hex << mask;
  return out.str();
}

// Adds the current thread to the barrier, after checks; true when it completes it.
bool arrive_at(int id, unsigned threads, int value, const char* name, Place place) {
  Thread& me = *machine.current;
  if (id < 0 || id >= kBarriers)
    fault("barrier " + std::to_string(id) + " at " + name_of(place) + ": ids are 0 to 15");
  if (threads % 32 != 0 && threads != machine.count) {
    fault("barrier of " + std::to_string(threads) + " threads at " + name_of(place) +
          ": not a multiple of 32");
  }
  Barrier& b = machine.barriers[static_cast<size_t>(id)];
  if (b.arrived > 0) {
    const std::string both = name_of(me) + " at " + name + " at " + name_of(place) + ", others at " + b.name +
                             " at " + name_of(b.place);
    if (b.needed != threads) fault("one barrier, two thread counts: " + both);
    const bool same = b.place.line == place.line && b.place.code == place.code &&
                      (b.place.file == place.file || std::strcmp(b.place.file, place.file) == 0);
    if (id == 0 && threads == machine.count && !same) fault("divergent barrier: " + both);
  }
  b.needed = threads;
  b.name = name;
  b.place = place;
  b.sum += value;
  return ++b.arrived == threads;
}

// Everybody who waits at the barrier, and the current thread, knows what the others did.
void complete(int id) {
  Barrier& b = machine.barriers[static_cast<size_t>(id)];
  Thread& me = *machine.current;
  const bool whole_block = b.needed == machine.count;
  if (whole_block) clocks_block_barrier();
  for (unsigned i = 0; i < machine.count; ++i) {
    Thread& t = machine.thread(i);
    if (&t != &me && (t.state != State::kBarrier || t.barrier != id)) continue;
    if (&t != &me) t.state = State::kReady;
    t.reduced = b.sum;
    if (!whole_block) clocks_acquire(id, i);
  }
  clocks_forget(id);
  b = {};
}

}  // namespace

int barrier(int id, unsigned threads, int value, const char* name, Place place) {
  Thread& me = *machine.current;
  if (threads == 0) threads = machine.count;
  const bool last = arrive_at(id, threads, value, name, place);
  if (threads != machine.count) clocks_release(id, me.number);
  if (last) {
    complete(id);
    return me.reduced;
  }
  me.barrier = id;
  wait(State::kBarrier, name, place);
  return me.reduced;
}

void barrier_arrive(int id, unsigned threads, Place place) {
  const bool last = arrive_at(id, threads, 0, "bar.arrive", place);
  if (threads != machine.count) clocks_release(id, machine.current->number);
  if (last) complete(id);
}

void warp_barrier(uint32_t mask, Place place) {
  // Made known before the lanes meet, learnt afterwards.
  struct Nothing {};
  warp_exchange<Nothing>(mask, "__syncwarp", place, Nothing{},
                         [](const Nothing* const*, Nothing* const*, uint32_t lanes) {
                           const unsigned first = machine.current->warp() * 32;
                           const int group = kWarpGroup + static_cast<int>(machine.current->warp());
                           for (unsigned i = 0; i < 32; ++i) {
                             if (lanes >> i & 1) clocks_release(group, first + i);
                           }
                           for (unsigned i = 0; i < 32; ++i) {
                             if (lanes >> i & 1) clocks_acquire(group, first + i);
                           }
                           clocks_forget(group);
                         });
}

uint32_t live_lanes() {
  const unsigned first = machine.current->warp() * 32;
  uint32_t mask = 0;
  for (unsigned i = 0; i < 32; ++i) {
    if (first + i < machine.count && machine.thread(first + i).state != State::kDone) mask |= 1u << i;
  }
  return mask;
}

void leave_warp() {
  const Thread& me = *machine.current;
  for (const Meeting& m : machine.meetings[me.warp()]) {
    if (m.mask >> me.lane() & 1) {
      fault(std::string(m.name) + " at " + name_of(m.place) + ": " + lanes_text(m.arrived) + " wait for " +
            lanes_text(m.mask & ~m.arrived) + ", of which " + name_of(me) + " has exited");
    }
  }
}

void meet(uint32_t mask, const char* name, Place place, const void* in, void* out, Collective function,
          void* context) {
  const bool was_checking = checking;
  checking = false;
  Thread& me = *machine.current;
  const uint32_t lane = 1u << me.lane();
  // Called for reports only: a thread that waits owns nothing, since it may be dropped.
  const auto where = [&] { return std::string(name) + " at " + name_of(place); };
  if (!(mask & lane)) fault(where() + ": " + name_of(me) + " is not in its own mask, " + lanes_text(mask));
  const unsigned first = me.warp() * 32;
  const uint32_t exists = machine.count - first >= 32 ? ~0u : (1u << (machine.count - first)) - 1;
  // A block whose threads do not fill the last warp: a full mask means the lanes that there are.
  const uint32_t wanted = mask & exists;
  if (wanted & ~live_lanes()) {
    fault(where() + ": " + lanes_text(wanted & ~live_lanes()) + " of its mask have exited");
  }
  std::vector<Meeting>& meetings = machine.meetings[me.warp()];
  Meeting* meeting = nullptr;
  // Meetings whose masks overlap are fine: some lanes are further than others, and will come.
  for (Meeting& m : meetings) {
    if (m.mask == wanted) meeting = &m;
  }
  if (!meeting) {
    meetings.emplace_back();
    meeting = &meetings.back();
    meeting->mask = wanted;
    meeting->name = name;
    meeting->place = place;
  }
  if (std::strcmp(meeting->name, name) != 0) {
    fault("the lanes of one warp diverge: " + name_of(me) + " at " + where() + ", " +
          lanes_text(meeting->arrived) + " at " + meeting->name);
  }
  meeting->in[me.lane()] = in;
  meeting->out[me.lane()] = out;
  meeting->arrived |= lane;
  if (meeting->arrived != wanted) {
    wait(State::kWarp, name, place);
    checking = was_checking;
    return;
  }
  const Meeting all = *meeting;
  meetings.erase(meetings.begin() + (meeting - meetings.data()));
  function(context, all.in.data(), all.out.data(), wanted);
  for (unsigned i = 0; i < 32; ++i) {
    Thread* t = wanted >> i & 1 ? &machine.thread(first + i) : nullptr;
    if (t && t != &me) t->state = State::kReady;
  }
  checking = was_checking;
}

}  // namespace emulator
