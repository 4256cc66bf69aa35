// How Hopper's kernel for backward weights is cut, from the shape alone: the same bits on every GPU.
//
// dw's columns come in runs of 64 channels of one tap, the last run of a tap filled up with zeros; a tile is so many
// filters by so many runs, whatever taps they are of. It is summed over steps of so many pixels. The steps of all
// tiles, one tile after another, are dealt out to the blocks of the grid in equal shares, so that all of them end at
// the same time however few tiles there are; a block leaves a part of each tile that its share touches.
//
// A step is 64 or 32 pixels of dy, one after another, and for each run those that its tap sees (im2col). Or it is a patch
// of 8x8 pixels, where dy's extents are multiples of 8, the stride is 1 and there are 3 rows of taps: the 10 rows of 8
// pixels that a column of taps sees are read once, and serve 3 runs, which follow each other in the tile.
#pragma once
#include <algorithm>
#include <cstdint>
#include <iterator>

#include "convoy/backend.h"
#include "kernels/conv.h"

namespace convoy::cuda {

struct HopperWeightsTile {
  int groups_down, groups_across, group_columns;  // warpgroups, with 64 filters by so many columns each
  bool patches = false;

  constexpr int groups() const { return groups_down * groups_across; }
  constexpr int filters() const { return 64 * groups_down; }
  constexpr int columns() const { return group_columns * groups_across; }
  // Pixels of a step: what leaves room for four stages of the ring in shared memory.
  constexpr int depth() const { return !patches && filters() + columns() > 384 ? 32 : 64; }
  // Boxes of x, their bytes, and the runs of each.
  constexpr int box_runs() const { return patches ? kRows : 1; }
  constexpr int boxes() const { return columns() / 64 / box_runs(); }
  constexpr int box_bytes() const { return (patches ? (kSide + kRows - 1) * kSide : depth()) * 128; }
  constexpr int stage_bytes() const { return filters() * depth() * 2 + boxes() * box_bytes(); }
  constexpr int stages() const { return std::min(8, (200 << 10) / stage_bytes()); }

  static constexpr int kSide = 8, kRows = 3;  // of a patch, and of its taps
  bool takes(const ConvShape& s) const {
    return !patches ||
           (s.R == kRows && s.stride_h == 1 && s.stride_w == 1 && s.P() % kSide == 0 && s.Q() % kSide == 0);
  }
};
// 64 filters by 9 runs are a layer of 64 channels and 3x3 taps, whose dy is read once.
inline constexpr HopperWeightsTile kHopperWeightsTiles[] = {
    {2, 1, 256}, {2, 1, 192}, {3, 1, 192},       {1, 3, 192},       {2, 1, 128},       {1, 2, 128},
    {2, 1, 64},  {1, 2, 64},  {2, 1, 192, true}, {3, 1, 192, true}, {1, 3, 192, true},
};
constexpr int kHopperWeightsTileCount = static_cast<int>(std::size(kHopperWeightsTiles));

struct HopperWeightsPlan {
  int tile = 0;  // of kHopperWeightsTiles
  int64_t across = 0, tiles = 0;
  int64_t steps = 0;              // of one tile
  int64_t share = 1, blocks = 0;  // steps of one block

  const HopperWeightsTile& shape() const { return kHopperWeightsTiles[tile]; }
  // The blocks that have a part of a tile. Both numbers grow along the steps: tile + block is a place of its own.
  int64_t first_block(int64_t t) const { return t * steps / share; }
  int64_t last_block(int64_t t) const { return ((t + 1) * steps - 1) / share; }
  int64_t places() const { return tiles + blocks - 1; }
  // Of the parts of tiles and, behind them, of the bias's gradient.
  int64_t tile_floats() const { return int64_t{shape().filters()} * shape().columns(); }
  int64_t part_floats() const { return places() * tile_floats(); }
  int64_t floats() const { return part_floats() + places() * shape().filters(); }
};

// Cycles of the slowest block, and of the sum of all parts. Assumed of an H200 at 1.7 GHz, until measured: 2048
// multiply-adds a cycle and multiprocessor, 40 bytes from the L2 cache, which holds 32 MB of the operands; 4.3 TB/s
// of memory; 24 bytes a cycle stored, a launch of 3000 cycles.
struct HopperWeightsCost {
  static constexpr int64_t kMultiprocessors = 132;
  static constexpr int64_t kProducts = 2048, kCopied = 40, kStored = 24, kMemory = 2500, kCached = 32 << 20,
                           kLaunch = 3000;
  int64_t bytes;  // of x and dy

  // `passes`: how often x and dy are read from memory.
  int64_t operator()(const HopperWeightsPlan& p, int64_t passes) const {
    const HopperWeightsTile& t = p.shape();
    const int64_t products = int64_t{t.filters()} * t.columns() * t.depth() / kProducts,
                  copies = t.stage_bytes() / kCopied;
    const int64_t read = bytes * (bytes > kCached ? passes : 1) / kMemory;
    const int64_t part_bytes = p.tile_floats() * 4, parts = 1 + p.tiles / p.blocks;
    return std::max(p.share * std::max(products, copies), read) + parts * part_bytes / kStored +
           p.places() * part_bytes / kMemory + 2 * kLaunch;
  }
};

// One of the tiles that take the shape, and a share in steps.
inline HopperWeightsPlan hopper_weights_plan(const ConvShape& s, int tile, int64_t share) {
  const auto pieces = [](int64_t all, int64_t piece) { return (all + piece - 1) / piece; };
  HopperWeightsPlan p;
  p.tile = tile;
  p.across = pieces(s.R * s.S * pieces(s.C, 64) / p.shape().box_runs(), p.shape().boxes());
  p.tiles = pieces(s.K, p.shape().filters()) * p.across;
  p.steps = pieces(s.N * s.P() * s.Q(), p.shape().depth());
  p.share = share;
  p.blocks = pieces(p.tiles * p.steps, share);
  return p;
}

// The cheapest. Where a share is passes / parts of a tile's steps, the blocks stand at `parts` different pixels at a
// time: those of different tiles at the same pixels read them from memory once.
inline HopperWeightsPlan plan_hopper_weights(const ConvShape& s) {
  const int64_t pixels = s.N * s.P() * s.Q();
  const int64_t seen = std::min(s.N * s.H * s.W, pixels * s.R * s.S);  // of x; strides may skip pixels
  const HopperWeightsCost cost{2 * (seen * s.C + pixels * s.K)};
  constexpr int64_t kBlocks = HopperWeightsCost::kMultiprocessors;
  HopperWeightsPlan best;
  int64_t best_cost = 0;
  for (int tile = 0; tile < kHopperWeightsTileCount; ++tile) {
    if (!kHopperWeightsTiles[tile].takes(s)) continue;
    const HopperWeightsPlan all = hopper_weights_plan(s, tile, 1);
    const auto consider = [&](int64_t steps, int64_t parts, int64_t passes) {
      const HopperWeightsPlan p = hopper_weights_plan(s, tile, (steps + parts - 1) / parts);
      const int64_t c = cost(p, passes);
      if (best.blocks > 0 && c >= best_cost) return;
      best = p;
      best_cost = c;
    };
    consider(all.tiles * all.steps, kBlocks, all.tiles);
    for (int64_t passes = 1; passes <= 16; ++passes)
      for (int64_t parts = passes * kBlocks / all.tiles; parts > 0; parts /= 2)
        consider(all.steps * passes, parts, passes);
  }
  return best;
}

// Whether the kernel takes a shape, and is faster there than the portable ones, which have 5/8 of its speed (mma.sync
// reaches 63 % of wgmma's peak, arXiv 2402.13499) but waste nothing on channels that fill up a run. What limits the
// rest is TMA's: whole pieces of 16 bytes, strides and offsets that its descriptors have room for.
inline bool hopper_takes_weights(const ConvShape& s) {
  const int64_t filled = (s.C + 63) / 64 * 64;
  return s.N > 0 && s.K > 0 && s.C % 8 == 0 && s.K % 8 == 0 && 5 * filled <= 8 * s.C && s.stride_h <= 8 &&
         s.stride_w <= 8 && s.R <= 128 && s.S <= 128;
}

inline int64_t hopper_weights_scratch(const ConvShape& s) {
  return hopper_takes_weights(s) ? plan_hopper_weights(s).floats() * 4 : 0;
}

// bf16 and f16; x, dy and dw 16-byte aligned, and scratch for plan.floats().
void hopper_backward_weights(Exec&, const ConvBackwardWeights&, const HopperWeightsPlan& plan);

}  // namespace convoy::cuda
