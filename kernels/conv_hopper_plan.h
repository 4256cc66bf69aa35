// How Hopper's forward and backward data cut their product of matrices.
//
// A block's tile of the result is `rows` pixels and `columns` channels; `steps` of 64 of the depth make one product,
// which several chunks of steps may share where tiles are few. The rows are pixels one after another (im2col), or
// patches of 8x8 pixels, whose image rows are read from L2 once for all taps of a column of the filter: fewer bytes,
// but what a patch has outside of the image is lost, so that they suit large images.
#pragma once
#include <algorithm>
#include <cstdint>

namespace convoy::cuda {

constexpr int64_t kHopperDepth = 64;  // of a step: 128 bytes, the longest row of the swizzle

constexpr int kPatchSide = 8;  // pixels
constexpr int kPatchTaps = 3;  // rows of a filter, at most

struct HopperPlan {
  int rows = 128, columns = 64;
  int64_t chunks = 1, chunk_steps = 0;
  bool patches = false;
};

// All extents >= 1.
struct HopperShape {
  int64_t rows = 0, columns = 0;  // of the result
  int64_t steps = 0;              // of the depth
  bool pooled = false;            // by the kernel
  int64_t patches = 0;            // that cover the result; 0: its pixels or filters are not such
  int64_t taps_h = 1;
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
//   a step   the longest of: wgmma, 2048 multiply-adds a cycle; its operands from L2, 40 bytes a cycle for each
//            multiprocessor (5120 in all, as NVIDIA's A100 white paper has it); what is written to and read from
//            shared memory, 128 bytes a cycle, filters by both warpgroups
//   a tile   filling the ring, then rounding and storing what the accumulators hold
//   chunks   writing and reading their sums, 2400 bytes a cycle in all; and one launch more
struct HopperCost {
  static constexpr double kTile = 1500, kElement = 1.0 / 16, kPartBytes = 8.0 / 2400, kLaunch = 5000;

  HopperShape s;
  int64_t multiprocessors;

  double operator()(const HopperPlan& p) const {
    const int64_t pieces = p.patches ? s.patches : (s.rows + 63) / 64, tile_pieces = p.rows / 64;
    const int64_t tiles =
        (pieces + tile_pieces - 1) / tile_pieces * ((s.columns + p.columns - 1) / p.columns) * p.chunks;
    const double area = static_cast<double>(p.rows) * p.columns;
    const double taps = static_cast<double>(s.taps_h);
    const double bytes =
        128 * ((p.patches ? p.rows * (kPatchSide + taps - 1) / kPatchSide / taps : p.rows) + p.columns);
    const double reads = 128.0 * (p.rows + static_cast<double>(tile_pieces * p.columns));
    const double step = std::max({area / 32, bytes / 40, (bytes + reads) / 128});
    const double tile = static_cast<double>(p.chunk_steps) * step + kTile + area * kElement;
    const double parts = static_cast<double>(p.chunks * s.rows * s.columns);
    return static_cast<double>((tiles + multiprocessors - 1) / multiprocessors) * tile +
           (p.chunks == 1 ? 0 : kLaunch + parts * kPartBytes);
  }
};

// The cheapest with so many chunks at least and at most.
inline HopperPlan cheapest_hopper(const HopperCost& cost, bool patches, int64_t least, int64_t most) {
  HopperPlan best;
  double best_cost = -1;
  for (const int rows : {256, 128}) {
    if (cost.s.pooled && rows != 256) continue;  // two products of a warpgroup hold a window's four pixels
    for (const int columns : {128, 64}) {
      for (int64_t chunks = least; chunks <= most; ++chunks) {
        HopperPlan p{rows, columns, 1, (cost.s.steps + chunks - 1) / chunks, patches};
        p.chunks = (cost.s.steps + p.chunk_steps - 1) / p.chunk_steps;
        const double c = cost(p);
        if (best_cost >= 0 && c >= best_cost) continue;
        best_cost = c;
        best = p;
      }
    }
  }
  return best;
}

// What decides on the bits of the result, chunks and patches, comes from the shape alone; the tiles fit the device.
inline HopperPlan plan_hopper(const HopperShape& s, int64_t multiprocessors) {
  const HopperCost h200{s, 132}, here{s, multiprocessors};
  // Of the smallest tiles two rounds at most, and at least 4 steps each.
  const int64_t tiles = (s.rows + 127) / 128 * ((s.columns + 63) / 64),
                most = std::max<int64_t>(1, std::min(2 * h200.multiprocessors / tiles, s.steps / 4));
  const HopperPlan plain = cheapest_hopper(h200, false, 1, most);
  if (s.patches > 0 && h200(cheapest_hopper(h200, true, 1, 1)) < h200(plain))
    return cheapest_hopper(here, true, 1, 1);
  return cheapest_hopper(here, false, plain.chunks, plain.chunks);
}

// Bytes of f32 sums, on any device.
inline int64_t hopper_scratch(const HopperShape& s) {
  if (s.rows == 0 || s.columns == 0 || s.steps == 0) return 0;
  const int64_t chunks = plan_hopper(s, 1).chunks;
  return chunks == 1 ? 0 : chunks * s.rows * s.columns * 4;
}

}  // namespace convoy::cuda
