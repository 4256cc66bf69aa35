// How the convolution passes become products of matrices, and how those are cut, from the shape alone: the same bits on
// every GPU.
#pragma once
#include <algorithm>

#include "kernels/conv_geometry.cuh"

namespace convoy::cuda {

inline int narrow(int64_t v) {
  return static_cast<int>(v);
}

inline Windows windows(const Axis& h, const Axis& w, int64_t channels) {
  Windows all;
  all.h = h;
  all.w = w;
  all.channels = narrow(channels);
  all.pitch = narrow(w.inputs * channels);
  all.taps_pitch = narrow(w.taps * channels);
  all.by_image = Divide(int64_t{h.outputs} * w.outputs);
  all.by_width = Divide(w.outputs);
  all.by_taps = Divide(all.taps_pitch);
  return all;
}

inline Axis forward_axis(int64_t outputs, int64_t stride, int64_t pad, int64_t taps, int64_t inputs) {
  Axis a;
  a.outputs = narrow(outputs);
  a.input_step = narrow(stride);
  a.offset = narrow(-pad);
  a.taps = narrow(taps);
  a.inputs = narrow(inputs);
  return a;
}
inline Windows forward_windows(const ConvShape& s, bool pooled = false) {
  Windows all = windows(forward_axis(pooled ? s.P() / 2 : s.P(), s.stride_h, s.pad_h, s.R, s.H),
                        forward_axis(pooled ? s.Q() / 2 : s.Q(), s.stride_w, s.pad_w, s.S, s.W), s.C);
  all.pooled = pooled;
  return all;
}

// Backward data at a stride is one correlation for every residue of the pixel's place: pixel h receives from the
// outputs p with p·stride = h + pad - r, which needs r of one residue; along those taps, taken in falling order, p
// rises by one.
inline Axis backward_axis(int64_t pixels, int64_t stride, int64_t pad, int64_t taps, int64_t outputs,
                          int64_t residue) {
  const int64_t lowest = (residue + pad) % stride;
  const int64_t count = lowest < taps ? (taps - lowest + stride - 1) / stride : 0;
  const int64_t last = lowest + (count - 1) * stride;
  Axis a;
  a.outputs = narrow(residue < pixels ? (pixels - residue + stride - 1) / stride : 0);
  a.first = narrow(residue);
  a.step = narrow(stride);
  a.offset = narrow(count > 0 ? (residue + pad - last) / stride : 0);  // an exact division
  a.taps = narrow(count);
  a.inputs = narrow(outputs);
  a.filter_first = narrow(last);
  a.filter_step = narrow(-stride);
  return a;
}

inline Windows backward_windows(const ConvShape& s, int64_t phase) {
  return windows(backward_axis(s.H, s.stride_h, s.pad_h, s.R, s.P(), phase / s.stride_w),
                 backward_axis(s.W, s.stride_w, s.pad_w, s.S, s.Q(), phase % s.stride_w), s.K);
}

constexpr int64_t kStep = 32;              // of the depth, at a time
constexpr int64_t kMultiprocessors = 132;  // of an H200
constexpr int64_t kEnds = 8;               // a block's start and end take as long as this many steps

// Forward and backward data: chunks of the depth that blocks sum apart from each other, where the result alone has too
// few tiles to keep a GPU busy.
struct Chunks {
  int64_t count = 1, depth = 0;  // depth: of one chunk
};

inline Chunks plan_depth(int64_t rows, int64_t columns, int64_t depth) {
  const int64_t tiles = (rows + 63) / 64 * ((columns + 63) / 64), steps = (depth + kStep - 1) / kStep;
  if (tiles == 0 || tiles > kMultiprocessors || steps < 2 * kEnds) return {1, depth};
  const int64_t chunks = std::min(2 * kMultiprocessors / tiles, steps / kEnds),
                chunk_steps = (steps + chunks - 1) / chunks;
  return {(steps + chunk_steps - 1) / chunk_steps, chunk_steps * kStep};
}
inline int64_t depth_scratch(int64_t rows, int64_t columns, int64_t depth) {
  const int64_t chunks = plan_depth(rows, columns, depth).count;
  return chunks == 1 ? 0 : chunks * rows * columns * 4;
}

// How backward weights is cut: tiles of the gradient, and chunks of the pixels that blocks sum apart from each other.
struct WeightsPlan {
  Tiling tiling;
  int64_t sums = 0;  // of dw and db
  int64_t chunk = 32, chunks = 1;
};

inline WeightsPlan plan_weights(const ConvShape& s) {
  const int64_t D = s.R * s.S * s.C;
  WeightsPlan plan;
  plan.sums = s.K * D + s.K;
  if (D > 64) plan.tiling = {s.K > 64 ? 128 : 64, 128};
  const int64_t tiles = ((s.K + plan.tiling.rows - 1) / plan.tiling.rows) *
                        ((D + plan.tiling.columns - 1) / plan.tiling.columns);
  const int64_t steps = (s.N * s.P() * s.Q() + kStep - 1) / kStep;
  if (steps == 0 || tiles == 0) return plan;
  const int64_t blocks = kMultiprocessors * blocks_at_once(plan.tiling.rows * plan.tiling.columns);
  const int64_t most = steps / kEnds > 1 ? steps / kEnds : 1;
  int64_t best = 0;
  for (int64_t rounds = 0; rounds <= 4; ++rounds) {  // of all blocks; 0: no cut
    int64_t chunks = rounds == 0 ? 1 : rounds * blocks / tiles;
    chunks = chunks > most ? most : chunks;
    if (chunks < 1) continue;
    const int64_t chunk_steps = (steps + chunks - 1) / chunks;
    const int64_t cost = (tiles * chunks + blocks - 1) / blocks * (chunk_steps + kEnds);
    if (best > 0 && cost >= best) continue;
    best = cost;
    plan.chunk = chunk_steps * kStep;
    plan.chunks = (steps + chunk_steps - 1) / chunk_steps;
  }
  return plan;
}

}  // namespace convoy::cuda
