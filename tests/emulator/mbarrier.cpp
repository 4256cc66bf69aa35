// mbarriers (PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier"): their state lies beside
// shared memory, where their eight bytes hold a mark that shows when somebody overwrites them.
#include <algorithm>
#include <cstring>

#include "bulk.h"
#include "machine.h"

namespace emulator {
namespace {

constexpr uint64_t kMark = 0xB1A5ED0BA2213200;
constexpr int64_t kMaxCount = (1 << 20) - 1;  // of arrivals and of bytes

struct Mbarrier {
  size_t offset = 0;
  bool live = false;
  uint32_t count = 0, pending = 0;
  int64_t bytes = 0;   // expected and not landed
  uint32_t phase = 0;  // phases completed since the init
  uint32_t time = 0;   // phases completed since the block began
  unsigned made_by = 0;
  uint32_t made_epoch = 0, made_time = 0;
  bool fenced = false;
  const void* code = nullptr;
  std::vector<BulkLoad> late;    // not landed
  std::vector<BulkLoad> landed;  // nobody has waited for them
};
std::vector<Mbarrier> mbarriers;

int index_of(const Mbarrier& m) {
  return static_cast<int>(&m - mbarriers.data());
}
int running(const Mbarrier& m) {
  return kMbarrierGroup + 2 * index_of(m);
}
int complete(const Mbarrier& m) {
  return running(m) + 1;
}
unsigned slot(const Mbarrier& m) {
  return kMbarrierSlot + static_cast<unsigned>(index_of(m));
}
uint64_t mark(const Mbarrier& m) {
  return kMark + static_cast<uint64_t>(index_of(m));
}
std::string name_of(const Mbarrier& m) {
  return "mbarrier " + shared_name(m.offset, 8);
}

Mbarrier* find(const void* barrier) {
  for (Mbarrier& m : mbarriers) {
    if (m.live && shared_at(m.offset) == barrier) return &m;
  }
  return nullptr;
}

Mbarrier& used(const void* barrier, const char* does, const void* code) {
  const Thread& me = *machine.current;
  const auto who = [&] { return name_of(me) + " " + does + " at " + name_of_code(code); };
  if (!shared_holds(barrier)) fault("an mbarrier outside of shared memory: " + who());
  Mbarrier* m = find(barrier);
  if (!m) fault("mbarrier used before its init: " + who() + ", " + shared_name(shared_address(barrier), 8));
  uint64_t held;
  std::memcpy(&held, barrier, 8);
  if (held != mark(*m)) fault("overwritten: " + name_of(*m) + ", found when " + who());
  if (m->made_by != me.number && m->made_epoch == clocks_epoch &&
      !clocks_known(me.number, m->made_by, m->made_time)) {
    fault("mbarrier's init not published: " + who() +
          ", and no barrier stands between that and the init at " + name_of_code(m->code) + " of " +
          name_of(*m));
  }
  return *m;
}

bool passed(const Mbarrier& m, uint32_t parity) {
  return (m.phase & 1) != parity;
}

// Ends the phase if everything has arrived.
void settle(Mbarrier& m, const void* code) {
  if (m.pending > 0 || m.bytes > 0) return;
  if (m.bytes < 0) {
    fault("expect_tx mismatch: " + std::to_string(-m.bytes) + " bytes more than expected land on " +
          name_of(m) + ", by the copy or arrival at " + name_of_code(code));
  }
  ++m.phase;
  ++m.time;
  m.pending = m.count;
  clocks_publish(running(m), slot(m), m.time);
  clocks_replace(complete(m), running(m));
  for (unsigned i = 0; i < machine.count; ++i) {
    Thread& t = machine.thread(i);
    if (t.state == State::kAsync && t.mbarrier == index_of(m)) t.state = State::kReady;
  }
}

void add_bytes(Mbarrier& m, int64_t more, const void* code) {
  m.bytes += more;
  if (m.bytes > kMaxCount || m.bytes < -kMaxCount) {
    fault("an mbarrier counts to 2^20 - 1 bytes: " + name_of(m) + ", at " + name_of_code(code));
  }
}

void land(Mbarrier& m, const BulkLoad& load) {
  bulk_move(load);
  m.landed.push_back(load);
  add_bytes(m, -static_cast<int64_t>(load.bytes), load.code);
  settle(m, load.code);
}

// The current thread has seen that phases are complete.
void observe(Mbarrier& m) {
  Thread& me = *machine.current;
  me.mbarrier = -1;
  if (m.phase == 0) return;
  clocks_acquire(complete(m), me.number);
  const auto seen = [&](const BulkLoad& load) { return load.time <= m.time; };
  for (const BulkLoad& load : m.landed) {
    if (seen(load)) async_write_end(load.to, load.bytes);
  }
  m.landed.erase(std::remove_if(m.landed.begin(), m.landed.end(), seen), m.landed.end());
}

}  // namespace

void mbarrier_init(void* barrier, uint32_t count, const void* code) {
  Thread& me = *machine.current;
  const std::string where = ", at " + name_of_code(code);
  if (!shared_holds(barrier) || reinterpret_cast<uintptr_t>(barrier) % 8) {
    fault("an mbarrier is 8 aligned bytes of shared memory" + where);
  }
  if (count < 1 || count > kMaxCount) fault("an mbarrier for " + std::to_string(count) + " arrivals" + where);
  if (find(barrier)) fault("mbarrier initialised twice" + where + ", " + name_of(*find(barrier)));
  shared_write(me, barrier, 8, code);
  Mbarrier* m = nullptr;
  for (Mbarrier& old : mbarriers) {
    if (shared_at(old.offset) == barrier) m = &old;
  }
  if (!m) {
    if (mbarriers.size() == kMaxMbarriers) fault("more mbarriers than the emulator holds" + where);
    mbarriers.emplace_back();
    m = &mbarriers.back();
    m->offset = shared_address(barrier);
  }
  clocks_use_slots();
  m->live = true;
  m->count = m->pending = count;
  m->bytes = 0;
  m->phase = 0;
  m->made_by = me.number;
  m->made_epoch = clocks_epoch;
  m->made_time = clocks_time(me.number);
  m->fenced = false;
  m->code = code;
  const uint64_t held = mark(*m);
  std::memcpy(barrier, &held, 8);
}

void mbarrier_inval(void* barrier, const void* code) {
  Mbarrier& m = used(barrier, "invalidates it", code);
  if (m.bytes != 0 || !m.late.empty() || !m.landed.empty()) {
    fault("invalidated while bulk copies are under way: " + name_of(m) + ", at " + name_of_code(code));
  }
  m.live = false;
}

void mbarrier_arrive(void* barrier, uint32_t expected_bytes, const void* code) {
  Mbarrier& m = used(barrier, "arrives", code);
  if (m.pending == 0) {
    fault("more arrivals than its count of " + std::to_string(m.count) + ": " + name_of(*machine.current) +
          " at " + name_of_code(code) + ", " + name_of(m) + ", which still expects " +
          std::to_string(m.bytes) + " bytes");
  }
  add_bytes(m, expected_bytes, code);
  --m.pending;
  clocks_release(running(m), machine.current->number);
  settle(m, code);
}

bool mbarrier_try_wait(void* barrier, uint32_t parity, const void* code) {
  Mbarrier& m = used(barrier, "waits", code);
  if (!passed(m, parity)) {
    machine.current->mbarrier = index_of(m);
    give_way();
    if (!passed(m, parity)) return false;
  }
  observe(m);
  return true;
}

void mbarrier_wait(void* barrier, uint32_t parity, const void* code) {
  Mbarrier& m = used(barrier, "waits", code);
  if (parity > 1)
    fault("an mbarrier's parity is 0 or 1, not " + std::to_string(parity) + ", at " + name_of_code(code));
  while (!passed(m, parity)) {
    machine.current->mbarrier = index_of(m);
    wait(State::kAsync, parity ? "mbarrier_wait, parity 1," : "mbarrier_wait, parity 0,",
         Place{nullptr, 0, code});
  }
  observe(m);
}

void fence_mbarrier_init() {
  for (Mbarrier& m : mbarriers) {
    if (m.made_by == machine.current->number) m.fenced = true;
  }
}

void fence_proxy_async() {
  ++machine.current->proxy_fences;
  fence_mbarrier_init();
}

Async mbarrier_claim(void* barrier, const void* code) {
  const Mbarrier& m = used(barrier, "makes a bulk copy", code);
  if (!m.fenced) {
    fault("mbarrier's init not published to bulk copies: " + name_of(machine.thread(m.made_by)) +
          " made it at " + name_of_code(m.code) +
          " and called neither fence_mbarrier_init nor fence_proxy_async; " + name_of(*machine.current) +
          " copies at " + name_of_code(code));
  }
  return {slot(m), m.time + 1, code};
}

void mbarrier_copy(void* barrier, const BulkLoad& load) {
  Mbarrier& m = *find(barrier);
  if (options().late) {
    m.late.push_back(load);
  } else {
    land(m, load);
  }
}

void hopper_begin_block() {
  mbarriers.clear();
  bulk_begin_block();
  wgmma_begin_block();
}

void hopper_leave() {
  bulk_leave();
  wgmma_leave();
}

bool hopper_progress() {
  const unsigned first = machine.draw(machine.count);
  for (unsigned i = 0; i < machine.count; ++i) {
    const Thread& t = machine.thread((first + i) % machine.count);
    if (t.state == State::kDone) continue;
    if (t.mbarrier >= 0) {
      Mbarrier& m = mbarriers[static_cast<size_t>(t.mbarrier)];
      if (m.late.empty()) continue;
      const size_t which = machine.draw(static_cast<unsigned>(m.late.size()));
      const BulkLoad load = m.late[which];
      m.late.erase(m.late.begin() + static_cast<std::ptrdiff_t>(which));
      land(m, load);
      return true;
    }
    if (t.state == State::kAsync && wgmma_land(t.warp() / 4)) return true;
  }
  return false;
}

void hopper_end_block() {
  for (const Mbarrier& m : mbarriers) {
    if (!m.live) continue;
    if (m.bytes != 0) {
      fault("the block exits while " + name_of(m) + " expects " + std::to_string(m.bytes) +
            " more bytes (expect_tx mismatch)");
    }
    for (const auto* copies : {&m.late, &m.landed}) {
      if (copies->empty()) continue;
      fault("the block exits, and nobody has waited for the bulk copy made at " +
            name_of_code(copies->front().code) + " on " + name_of(m));
    }
  }
}

std::string hopper_stand() {
  std::string out;
  for (const Mbarrier& m : mbarriers) {
    bool waits = false;
    for (unsigned i = 0; i < machine.count; ++i) {
      const Thread& t = machine.thread(i);
      waits |= t.state != State::kDone && t.mbarrier == index_of(m);
    }
    if (!waits) continue;
    out += "\n  " + name_of(m) + ": phase " + std::to_string(m.phase) + ", " + std::to_string(m.pending) +
           " of " + std::to_string(m.count) + " arrivals and " + std::to_string(m.bytes) + " bytes missing";
  }
  return out;
}

}  // namespace emulator
