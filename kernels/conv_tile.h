// The micro-kernel of forward convolution, backward data and fully connected layers: a tile of pixels times
// one or two vectors of output channels, held in registers; one input value is broadcast to a whole row of
// the tile.
#pragma once
#include "kernels/simd.h"

namespace convoy::CONVOY_CPU {

// Pixels of a tile: with two vectors each, their sums, two vectors of weights and the broadcast value fit the
// registers, and their addresses fit the general registers.
constexpr int kTilePixels = kRegisters == 32 ? 11 : 6;
constexpr int kPanelVectors = 2;
constexpr int64_t kPanelLanes = kPanelVectors * kLanes;
static_assert(kTilePixels * kPanelVectors + kPanelVectors + 1 < kRegisters, "a tile must fit the registers");

// What a tile computes: y[pixel][k] = panel[0][k] + sum over segment, i of x[pixel][segment·x_step + i] ·
// panel[..][k], where the weights of segment j start at weights + j·weight_step, one row of the panel for
// each i.
struct Tile {
  const float* x[kTilePixels];
  int64_t y[kTilePixels];  // offsets, for to and mask
  float* to;
  const float* mask;  // or null
  const float* bias;
  const float* weights;
  int64_t segments, length, x_step, weight_step;
  int64_t channels;  // of the panel's, how many are real
  bool relu;
};

// How a tile ends: kPartial looks at channels, relu and mask when it runs, the others know them.
enum Finish { kStore, kRelu, kMask, kPartial };

using TileFunction = void (*)(const Tile&);

// The kernel for 1 to kTilePixels pixels and a panel of one or two vectors.
TileFunction tile_function(int64_t pixels, int64_t vectors, Finish finish);

// One for pixels that lie `step` elements apart in x and evenly in y, which reads only x[0], y[0] and y[1],
// or null: there are kernels for 3x3 filters on three channels, where a tile has so few steps that its set-up
// counts.
TileFunction short_tile_function(int64_t pixels, int64_t vectors, Finish finish, int64_t length,
                                 int64_t step);

}  // namespace convoy::CONVOY_CPU
