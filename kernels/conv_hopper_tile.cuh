// What Hopper's kernels of forward and backward data share: filters into the ring, products of a stage, and what becomes
// of a tile's sums. Included by conv_hopper*.cu alone.
#pragma once
#include "kernels/conv_hopper.cuh"
#include "kernels/conv_store.cuh"
#include "kernels/hopper_ring.cuh"
#include "kernels/tensor_map.cuh"

namespace convoy::cuda::hopper {

constexpr int kPieceRows = 64,
              kPieceBytes = kPieceRows * 128;  // of a tile: what one wgmma takes, 64 channels each

// Forward and backward data by patches of the image, which the plan chose: conv_hopper_patches.cu.
template <class T, bool kBackward>
void correlate_patches(Exec&, const Correlation<T>&, const HopperPlan&);

// ---- Tensors in memory.
template <class T>
std::array<cuuint64_t, 4> image_dims(const Correlation<T>& p) {
  const auto u = [](int64_t v) { return static_cast<cuuint64_t>(v); };
  return {u(p.windows.channels), u(p.windows.w.inputs), u(p.windows.h.inputs),
          u(hopper_images(p.windows, p.rows))};
}
template <class T>
std::array<cuuint64_t, 3> image_strides(const Correlation<T>& p) {
  const auto pitch = static_cast<cuuint64_t>(p.windows.pitch) * 2;
  return {static_cast<cuuint64_t>(p.windows.channels) * 2, pitch,
          pitch * static_cast<cuuint64_t>(p.windows.h.inputs)};
}
template <class T>
CUtensorMap filter_map(const Correlation<T>& p, bool backward, int tile_columns) {
  const auto u = [](int64_t v) { return static_cast<cuuint64_t>(v); };
  const int64_t taps = int64_t{p.filter_taps_h} * p.filter_taps_w;
  const int inner = backward ? p.columns : p.windows.channels,
            outer = backward ? p.windows.channels : p.columns;
  return tiled_map<T, 3>(
      p.filters, {u(inner), u(taps), u(outer)}, {u(int64_t{inner} * 2), u(taps * inner * 2)},
      {64, 1, static_cast<cuuint32_t>(backward ? 64 : tile_columns)}, CU_TENSOR_MAP_SWIZZLE_128B);
}

// Those of one tap and 64 channels of the image, kColumns · 128 bytes. Forward's are rows (K-major), backward data's lie
// as they do in memory, columns along a row (MN-major), 64 columns a box.
template <int kColumns, bool kBackward, class T>
__device__ void load_filters(unsigned char* to, const CUtensorMap& map, uint64_t* landed,
                             const Correlation<T>& p, int r, int s, int block, int column) {
  const Axis &h = p.windows.h, &w = p.windows.w;
  const int tap = (h.filter_first + r * h.filter_step) * p.filter_taps_w + w.filter_first + s * w.filter_step;
  if constexpr (kBackward) {
    CONVOY_UNROLL
    for (int i = 0; i < kColumns / 64; ++i)
      tma_load(to + i * kPieceBytes, map, landed, column + 64 * i, tap, block * 64);
  } else {
    tma_load(to, map, landed, block * 64, tap, column);
  }
}

// d[i] += the piece i · kPitch bytes after `pixels`, times the filters: 64 of the depth.
template <class T, int kColumns, bool kBackward, int kPitch, int kProducts>
__device__ void multiply(float (&d)[kProducts][kColumns / 2], const unsigned char* pixels,
                         const unsigned char* filters, bool keep) {
  constexpr Major kMajor = kBackward ? Major::kMN : Major::kK;
  CONVOY_UNROLL
  for (int k = 0; k < 4; ++k) {
    const uint64_t b = kBackward ? wgmma_matrix(filters + k * 16 * 128, kPieceBytes, 1024, Swizzle::k128)
                                 : wgmma_matrix(filters + k * 32, 0, 1024, Swizzle::k128);
    CONVOY_UNROLL
    for (int i = 0; i < kProducts; ++i)
      wgmma<kColumns, T, Major::kK, kMajor>(
          d[i], wgmma_matrix(pixels + i * kPitch + k * 32, 0, 1024, Swizzle::k128), b, keep || k > 0);
  }
}

// ---- Sums. Of a product's, thread t of the warpgroup holds in d[4j + 2h + e] row 16(t / 32) + t % 32 / 4 + 8h, column
// 8j + 2(t % 4) + e.
__device__ inline int sum_row() {
  return static_cast<int>(threadIdx.x) / 32 % 4 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
}
__device__ inline int sum_column() {
  return static_cast<int>(threadIdx.x) % 4 * 2;
}

template <class T>
struct alignas(4) Two {
  T v[2];
};
template <class T>
__device__ uint32_t two(float left, float right) {
  const Two<T> pair{{T(left), T(right)}};
  uint32_t bits;
  memcpy(&bits, &pair, 4);
  return bits;
}
template <class T>
__device__ float half_of(uint32_t bits, int i) {
  Two<T> pair;
  memcpy(&pair, &bits, 4);
  return static_cast<float>(pair.v[i]);
}

// Bias and ReLU of columns 8j + 2(t % 4) and the next after `column`, of 64. Loaded together: none waits for another.
template <class T>
struct Activation {
  float bias[16] = {};
  bool relu;
  __device__ Activation(const Correlation<T>& p, int column) : relu(p.relu) {
    if (p.bias == nullptr) return;
    CONVOY_UNROLL
    for (int i = 0; i < 16; ++i) {
      const int at = column + i / 2 * 8 + sum_column() + i % 2;
      if (at < p.columns) bias[i] = p.bias[at];
    }
  }
  __device__ uint32_t operator()(int j, float left, float right) const {
    left += bias[2 * j];
    right += bias[2 * j + 1];
    if (relu && left < 0) left = 0;
    if (relu && right < 0) right = 0;
    return two<T>(left, right);
  }
};
template <class T>
struct Rounding {
  template <class Problem>
  __device__ Rounding(const Problem&, int) {}
  __device__ uint32_t operator()(int, float left, float right) const { return two<T>(left, right); }
};

// A piece's 64 rows, to rows row_of(i) of the product's; negative: outside of it. Through `memory`, where 16-byte pieces
// are exchanged by their row, for no bank conflicts; then a thread stores 8 neighbours. Forward has a bias and a ReLU,
// backward data a mask.
template <int kColumns, bool kBackward, class T, class Row>
__device__ void store_piece(const Correlation<T>& p, const Row& row_of, int column,
                            const float (&d)[kColumns / 2], unsigned char* memory, int group) {
  constexpr int kAcross = kColumns / 8, kRowBytes = kColumns * 2, kMine = kPieceRows * kAcross / 128;
  constexpr int kTogether = 4;  // loads of the mask that wait for no store
  const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
  const int line = thread / 32 * 16 + lane % 16;
  const int piece = thread % kAcross, mine = column + piece * 8;
  barrier_sync(1 + group, 128);  // what was there before is stored
  CONVOY_UNROLL
  for (int start = 0; start < kAcross; start += 8) {
    const std::conditional_t<kBackward, Rounding<T>, Activation<T>> activation(p, column + start * 8);
    CONVOY_UNROLL
    for (int j = 0; j < 8; j += 2) {
      const float* const sums = d + 4 * (start + j);
      uint32_t r[4];
      CONVOY_UNROLL
      for (int i = 0; i < 4; ++i) r[i] = activation(j + i / 2, sums[2 * i], sums[2 * i + 1]);
      stmatrix(memory + line * kRowBytes + ((start + j + lane / 16) ^ (line % 8)) * 16, r);
    }
  }
  barrier_sync(1 + group, 128);
  const bool masked = kBackward && p.mask != nullptr && p.result_aligned;
  for (int some = 0; some < kMine; some += kTogether) {
    int64_t to[kTogether];
    Eight<T> masks[kTogether];
    CONVOY_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      const int row = mine < p.columns ? row_of(thread / kAcross + (some + i) * (128 / kAcross)) : -1;
      to[i] = row < 0 ? -1 : p.result_row(row) + mine;
      if (kBackward && masked && row >= 0) masks[i] = *reinterpret_cast<const Eight<T>*>(p.mask + to[i]);
    }
    CONVOY_UNROLL
    for (int i = 0; i < kTogether; ++i) {
      if (to[i] < 0) continue;
      const int from = thread / kAcross + (some + i) * (128 / kAcross);
      auto values = *reinterpret_cast<const Eight<T>*>(memory + from * kRowBytes + (piece ^ (from % 8)) * 16);
      if (kBackward && masked) apply_mask(values, masks[i]);
      store_eight(p, to[i], mine, values, Places(), masked);
    }
  }
}

// A warpgroup's 32 windows of 2x2 pixels, to rows window_of(i) of the pooled result. A pair of neighbouring pixels is in
// two lanes, 4 apart; each pair of lanes has two windows, n = 0 and 1, and finishes one in the left lane and one in the
// right. pixels(j, n, below, e) is this lane's half of it, of column 8j + 2(t % 4) + e, and line(n) its i.
template <int kColumns, class T, class Window, class Pixels, class Line>
__device__ void store_windows(const Correlation<T>& p, const Window& window_of, int column,
                              const Pixels& pixels, const Line& line, unsigned char* memory, int group) {
  constexpr int kWindows = kPieceRows / 2, kAcross = kColumns / 8;
  constexpr int kValuePitch = kColumns * 2 + 16, kPlacePitch = kColumns + 16;  // bytes; few bank conflicts
  static_assert(kWindows * (kValuePitch + kPlacePitch) <= kPieceRows * kColumns * 2,
                "fits where a piece does");
  unsigned char* const places = memory + kWindows * kValuePitch;
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const bool right = thread / 4 % 2 != 0;
  const int mine = right ? line(1) : line(0);
  barrier_sync(1 + group, 128);
  CONVOY_UNROLL
  for (int start = 0; start < kAcross; start += 8) {
    const Activation<T> activation(p, column + start * 8);
    CONVOY_UNROLL
    for (int i = 0; i < 8; ++i) {
      const int j = start + i, at = 8 * j + sum_column();
      uint32_t window[4];
      CONVOY_UNROLL
      for (int below = 0; below < 2; ++below) {
        const uint32_t first = activation(i, pixels(j, 0, below, 0), pixels(j, 0, below, 1)),
                       second = activation(i, pixels(j, 1, below, 0), pixels(j, 1, below, 1));
        const uint32_t own = right ? second : first, other = __shfl_xor_sync(~0u, right ? first : second, 4);
        window[2 * below] = right ? other : own;
        window[2 * below + 1] = right ? own : other;
      }
      float best[2] = {half_of<T>(window[0], 0), half_of<T>(window[0], 1)};
      int place[2] = {};
      CONVOY_UNROLL
      for (int t = 1; t < 4; ++t) CONVOY_UNROLL
      for (int e = 0; e < 2; ++e) {
        const float v = half_of<T>(window[t], e);
        if (!displaces(v, best[e])) continue;
        best[e] = v;
        place[e] = t;
      }
      *reinterpret_cast<uint32_t*>(memory + mine * kValuePitch + at * 2) = two<T>(best[0], best[1]);
      *reinterpret_cast<uint16_t*>(places + mine * kPlacePitch + at) =
          static_cast<uint16_t>(place[0] | place[1] << 8);
    }
  }
  barrier_sync(1 + group, 128);
  for (int i = thread; i < kWindows * kAcross; i += 128) {
    const int from = i / kAcross, piece = i % kAcross * 8, row = window_of(from);
    if (row < 0 || column + piece >= p.columns) continue;
    store_eight(p, p.result_row(row) + column + piece, column + piece,
                *reinterpret_cast<const Eight<T>*>(memory + from * kValuePitch + piece * 2),
                *reinterpret_cast<const Places*>(places + from * kPlacePitch + piece));
  }
}

// A piece's sums, without an epilogue, to `chunk` of the parts.
template <int kColumns, class T, class Row>
__device__ void store_sums(const Correlation<T>& p, int chunk, const Row& row_of, int column,
                           const float (&d)[kColumns / 2]) {
  CONVOY_UNROLL
  for (int h = 0; h < 2; ++h) {
    const int row = row_of(sum_row() + 8 * h);
    if (row < 0) continue;
    float* const line = p.parts + (int64_t{chunk} * p.rows + row) * p.columns;
    CONVOY_UNROLL
    for (int j = 0; j < kColumns / 8; ++j) {
      const int at = column + 8 * j + sum_column();
      const float left = d[4 * j + 2 * h], right = d[4 * j + 2 * h + 1];
      if (at + 1 < p.columns && reinterpret_cast<uintptr_t>(line + at) % 8 == 0) {
        *reinterpret_cast<float2*>(line + at) = make_float2(left, right);
        continue;
      }
      if (at < p.columns) line[at] = left;
      if (at + 1 < p.columns) line[at + 1] = right;
    }
  }
}

}  // namespace convoy::cuda::hopper
