#include "clocks.h"

#include <algorithm>

#include "machine.h"

namespace emulator {

uint32_t clocks_epoch = 0;

namespace {

static_assert(kWarpgroupSlot == kMaxThreads && kWarpgroups == kMaxThreads / 128, "slots follow the threads");
constexpr int kGroups = kMbarrierGroup + 2 * static_cast<int>(kMaxMbarriers);

unsigned count = 0;  // of threads
unsigned width = 0;  // of a row: threads, then slots if they are in use

unsigned column(unsigned slot) {
  return slot < kMaxThreads ? slot : count + slot - kMaxThreads;
}

// times[u]: what is known of thread u's time. Rows of an older epoch know nothing of this one.
struct Row {
  uint32_t of_epoch = 0;
  std::vector<uint32_t> times;
};
Row rows[kMaxThreads];
Row groups[kGroups];

void renew(Row& row) {
  if (row.of_epoch == clocks_epoch) {
    if (row.times.size() != width) row.times.resize(width);
    return;
  }
  row.of_epoch = clocks_epoch;
  row.times.assign(width, 0);
}
Row& row_of(unsigned thread) {
  Row& row = rows[thread];
  renew(row);
  if (row.times[thread] == 0) row.times[thread] = 1;
  return row;
}
void join(Row& into, const Row& from) {
  for (unsigned u = 0; u < width; ++u) into.times[u] = std::max(into.times[u], from.times[u]);
}

}  // namespace

void clocks_begin_block(unsigned threads) {
  ++clocks_epoch;
  count = width = threads;
}

void clocks_block_barrier() {
  ++clocks_epoch;
}

uint32_t clocks_time(unsigned thread) {
  const Row& row = rows[thread];
  return row.of_epoch == clocks_epoch ? row.times[thread] : 1;
}

bool clocks_known(unsigned thread, unsigned of, uint32_t time) {
  const Row& row = rows[thread];
  const unsigned at = column(of);
  return row.of_epoch == clocks_epoch && at < row.times.size() && row.times[at] >= time;
}

void clocks_use_slots() {
  width = count + kSlots;
}

void clocks_learn(unsigned thread, unsigned slot, uint32_t time) {
  uint32_t& known = row_of(thread).times[column(slot)];
  known = std::max(known, time);
}

void clocks_publish(int group, unsigned slot, uint32_t time) {
  renew(groups[group]);
  uint32_t& known = groups[group].times[column(slot)];
  known = std::max(known, time);
}

void clocks_replace(int group, int by) {
  renew(groups[by]);
  groups[group] = groups[by];
}

void clocks_release(int group, unsigned thread) {
  Row& row = row_of(thread);
  renew(groups[group]);
  join(groups[group], row);
  ++row.times[thread];
}

void clocks_acquire(int group, unsigned thread) {
  renew(groups[group]);
  Row& row = row_of(thread);
  join(row, groups[group]);
}

void clocks_forget(int group) {
  groups[group].of_epoch = 0;
}

}  // namespace emulator
