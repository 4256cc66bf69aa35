#include "memory_plan.h"

#include <algorithm>
#include <numeric>

namespace convoy {

MemoryPlan plan_memory(const std::vector<Lifetime>& lifetimes) {
  const auto aligned = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  std::vector<size_t> order(lifetimes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lifetimes[a].bytes > lifetimes[b].bytes; });

  MemoryPlan plan;
  plan.offset.assign(lifetimes.size(), 0);
  std::vector<size_t> placed;  // by offset
  for (const size_t i : order) {
    int64_t offset = 0;
    for (const size_t other : placed) {
      const Lifetime &a = lifetimes[i], &b = lifetimes[other];
      if (a.last < b.first || b.last < a.first) continue;
      if (offset + aligned(a.bytes) <= plan.offset[other]) break;  // fits into the gap below `other`
      offset = std::max(offset, plan.offset[other] + aligned(b.bytes));
    }
    plan.offset[i] = offset;
    plan.bytes = std::max(plan.bytes, offset + aligned(lifetimes[i].bytes));
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](size_t a, size_t b) { return plan.offset[a] < plan.offset[b]; }),
                  i);
  }
  return plan;
}

}  // namespace convoy
