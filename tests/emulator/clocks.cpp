#include "clocks.h"

#include <algorithm>

#include "machine.h"

namespace emulator {

uint32_t clocks_epoch = 0;

namespace {

constexpr int kGroups = kBarriers + static_cast<int>(kMaxThreads / 32);

unsigned count = 0;

// times[u]: what is known of thread u's time. Rows of an older epoch know nothing of this one.
struct Row {
  uint32_t of_epoch = 0;
  std::vector<uint32_t> times;
};
Row rows[kMaxThreads];
Row groups[kGroups];

void renew(Row& row) {
  if (row.of_epoch == clocks_epoch && row.times.size() == count) return;
  row.of_epoch = clocks_epoch;
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
  ++clocks_epoch;
  count = threads;
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
  return row.of_epoch == clocks_epoch && row.times[of] >= time;
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
