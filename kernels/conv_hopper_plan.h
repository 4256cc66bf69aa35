// How Hopper's forward and backward data cut their product of matrices.
//
// A block's tile of the result is `rows` pixels and `columns` channels; `steps` of 64 of the depth make one product,
// which several chunks of steps may share where tiles are few.
#pragma once
#include <algorithm>
#include <cstdint>

namespace convoy::cuda {

constexpr int64_t kHopperDepth = 64;  // of a step: 128 bytes, the longest row of the swizzle

struct HopperPlan {
  int rows = 128, columns = 64;
  int64_t chunks = 1, chunk_steps = 0;
};

// Of `channels` a tap, which fill whole steps. Tiles of wgmma take about 5/8 of the time of the portable kernels'
// (mma.sync reaches 63 % of wgmma's peak, arXiv 2402.13499): they may waste no more.
inline int64_t hopper_blocks(int64_t channels) {
  return (channels + kHopperDepth - 1) / kHopperDepth;
}
inline bool hopper_fills_steps(int64_t channels) {
  return 5 * kHopperDepth * hopper_blocks(channels) <= 8 * channels;
}

// Cycles of the busiest multiprocessor, about.
//   a step   wgmma, 2048 multiply-adds a cycle, or its operands from L2, 40 bytes a cycle for each multiprocessor
//            (5120 bytes a cycle in all, as NVIDIA's A100 white paper has it)
//   a tile   filling the ring, then rounding and storing what the accumulators hold
//   chunks   writing and reading their sums, 2400 bytes a cycle in all; and one launch more
struct HopperCost {
  static constexpr double kTile = 1500, kElement = 1.0 / 16, kPartBytes = 8.0 / 2400, kLaunch = 5000;

  int64_t rows, columns;  // of the result
  int64_t multiprocessors;

  double operator()(const HopperPlan& p) const {
    const int64_t tiles = (rows + p.rows - 1) / p.rows * ((columns + p.columns - 1) / p.columns) * p.chunks;
    const double area = static_cast<double>(p.rows) * p.columns;
    const double step = std::max(area / 32, (p.rows + p.columns) * 128 / 40.0);
    const double tile = static_cast<double>(p.chunk_steps) * step + kTile + area * kElement;
    const double parts = static_cast<double>(p.chunks * rows * columns);
    return static_cast<double>((tiles + multiprocessors - 1) / multiprocessors) * tile +
           (p.chunks == 1 ? 0 : kLaunch + parts * kPartBytes);
  }
};

// The cheapest with so many chunks at most, and at least.
inline HopperPlan cheapest_hopper(const HopperCost& cost, int64_t steps, bool pooled, int64_t least,
                                  int64_t most) {
  HopperPlan best;
  double best_cost = -1;
  for (const int rows : {256, 128}) {
    if (pooled && rows != 256) continue;  // smaller tiles hold no whole windows of a fused pool
    for (const int columns : {128, 64}) {
      for (int64_t chunks = least; chunks <= most; ++chunks) {
        HopperPlan p{rows, columns, 1, (steps + chunks - 1) / chunks};
        p.chunks = (steps + p.chunk_steps - 1) / p.chunk_steps;
        const double c = cost(p);
        if (best_cost >= 0 && c >= best_cost) continue;
        best_cost = c;
        best = p;
      }
    }
  }
  return best;
}

// The chunks come from the shape alone, as do the bits of the result; the tiles fit the device. rows, columns, steps >= 1.
inline HopperPlan plan_hopper(int64_t rows, int64_t columns, int64_t steps, bool pooled,
                              int64_t multiprocessors) {
  constexpr int64_t kMultiprocessors = 132;  // of an H200
  // Of the smallest tiles two rounds at most, and at least 4 steps each.
  const int64_t tiles = (rows + 127) / 128 * ((columns + 63) / 64),
                most = std::max<int64_t>(1, std::min(2 * kMultiprocessors / tiles, steps / 4));
  const int64_t chunks = cheapest_hopper({rows, columns, kMultiprocessors}, steps, pooled, 1, most).chunks;
  return cheapest_hopper({rows, columns, multiprocessors}, steps, pooled, chunks, chunks);
}

// Bytes of f32 sums, on any device.
inline int64_t hopper_scratch(int64_t rows, int64_t columns, int64_t steps, bool pooled) {
  if (rows == 0 || columns == 0 || steps == 0) return 0;
  const int64_t chunks = plan_hopper(rows, columns, steps, pooled, 1).chunks;
  return chunks == 1 ? 0 : chunks * rows * columns * 4;
}

}  // namespace convoy::cuda
