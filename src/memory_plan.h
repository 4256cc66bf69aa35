// Offsets for buffers that live during a range of operations, so that buffers which are never alive together
// share memory.
#pragma once
#include <cstdint>
#include <vector>

namespace convoy {

struct Lifetime {
  int64_t bytes = 0;
  int first = 0, last = 0;  // operations, inclusive
};

struct MemoryPlan {
  std::vector<int64_t> offset;  // one a lifetime, multiples of 64
  int64_t bytes = 0;            // of the arena
};

// Largest first, each at the lowest offset that is free during its life.
MemoryPlan plan_memory(const std::vector<Lifetime>& lifetimes);

}  // namespace convoy
