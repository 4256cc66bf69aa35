// Vector clocks, as in FastTrack (Flanagan and Freund, PLDI 2009). A barrier of the whole block starts a new
// epoch, in which everybody knows everything before: the usual kernel never pays for a vector.
#include <algorithm>

#include "machine.h"

namespace emulator {
namespace {

constexpr int kGroups = kBarriers + static_cast<int>(kMaxThreads / 32);

uint32_t epoch = 0;
unsigned count = 0;

// times[u]: what is known of thread u's time. Rows of an older epoch know nothing of this one.
struct Row {
  uint32_t of_epoch = 0;
  std::vector<uint32_t> times;
};
Row rows[kMaxThreads];
Row groups[kGroups];

void renew(Row& row) {
  if (row.of_epoch == epoch && row.times.size() == count) return;
  row.of_epoch = epoch;
  row.times.assign(count, 0);
}
Row& row_of(unsigned thread) {
  Row& row = rows[thread];
  renew(row);
  if (row.times[thread] == 0) row.times[thread] = 1;
  return row;
}
void join(Row& into, const Row& from) {
  for (unsigned u = 0; u < count; ++u) into.times[u] = std::max(into.times[u], from.times[u]);
}

}  // namespace

void clocks_begin_block(unsigned threads) {
  ++epoch;
  count = threads;
}

void clocks_block_barrier() {
  ++epoch;
}

Stamp clocks_stamp(unsigned thread) {
  const Row& row = rows[thread];
  return {epoch, row.of_epoch == epoch ? row.times[thread] : 1, static_cast<uint16_t>(thread)};
}

bool clocks_stale(const Stamp& stamp) {
  return stamp.epoch != epoch;
}

bool clocks_ordered(const Stamp& before, unsigned thread) {
  if (before.epoch != epoch || before.thread == thread) return true;
  const Row& row = rows[thread];
  return row.of_epoch == epoch && row.times[before.thread] >= before.time;
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
