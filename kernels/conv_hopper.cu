// Forward and backward data on Hopper's tensor cores: a persistent block for each multiprocessor, one warp that copies
// pixels (im2col) and filters into the ring, two warpgroups that multiply.
//
// A step of the depth is one tap and 64 channels. Its pixels are rows of 128 bytes, what lies outside of the image, or
// after the last channel, filter or image, is zeros; so tiles cross rows and images, and only the stores look at tails.
// Forward's filters are rows too (K-major); those of backward data lie as they are in memory, columns along a row
// (MN-major), 64 columns a box.
//
// Of the tile's rows, in pieces of 64, warpgroup g multiplies piece g, and of 256 rows piece g + 2 as well. With a fused
// pool the first half of the rows are pixels of even rows of the image and the second half those below them: a
// thread holds the upper and the lower half of a window in its two accumulators, and the lane 4 further on the rest.
#include "kernels/conv_hopper.cuh"
#include "kernels/conv_store.cuh"
#include "kernels/hopper_ring.cuh"
#include "kernels/tensor_map.cuh"

namespace convoy::cuda {
namespace {

constexpr int kPieceRows = 64, kPieceBytes = kPieceRows * 128;  // of pixels or filters, 64 channels each

template <int kRows_, int kColumns_>
struct HopperTile {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kProducts = kRows / 128;  // of a warpgroup
  static constexpr int kImageBytes = kRows * 128, kStageBytes = kImageBytes + kColumns * 128;
  // What a warpgroup stores at a time: a product.
  static constexpr int kStoreBytes = kPieceRows * kColumns * 2;
  static constexpr int kStages = ((227 << 10) - 2048 - 2 * kStoreBytes) / kStageBytes;
  using R = Ring<(kStages > 6 ? 6 : kStages), kStageBytes, 2>;
};

// How the result is cut: every block takes each gridDim.x-th of the tiles, of neighbouring columns one after another.
struct Cut {
  int across, down, tiles;  // tiles: of all chunks
  int blocks, steps, chunk_steps;
};
struct TilePlace {
  int row, column, chunk, first, end;  // first, end: steps
  template <class Tile>
  __device__ static TilePlace of(const Cut& cut, int tile, Tile) {
    const int line = tile / cut.across, chunk = line / cut.down, first = chunk * cut.chunk_steps;
    return {(line - chunk * cut.down) * Tile::kRows, (tile - line * cut.across) * Tile::kColumns, chunk,
            first, first + cut.chunk_steps < cut.steps ? first + cut.chunk_steps : cut.steps};
  }
};

template <class T, class Tile, bool kBackward>
__device__ void fill_stages(typename Tile::R& ring, const Correlation<T>& p, const Cut& cut,
                            const CUtensorMap& image, const CUtensorMap& filters) {
  prefetch_tensor_map(image);
  prefetch_tensor_map(filters);
  const Windows& w = p.windows;
  for (int tile = static_cast<int>(blockIdx.x); tile < cut.tiles; tile += static_cast<int>(gridDim.x)) {
    const TilePlace at = TilePlace::of(cut, tile, Tile());
    const int window = w.pooled ? at.row / 4 : at.row;
    const int n = w.by_image(window), rest = window - n * (w.h.outputs * w.w.outputs);
    const int y = w.by_width(rest), x = rest - y * w.w.outputs;
    const int from_h = w.h.offset + y * w.h.input_step * (w.pooled ? 2 : 1),
              from_w = w.w.offset + x * w.w.input_step * (w.pooled ? 2 : 1);
    const int tap = at.first / cut.blocks;
    int block = at.first - tap * cut.blocks, r = tap / w.w.taps, s = tap - r * w.w.taps;
    for (int step = at.first; step < at.end; ++step) {
      unsigned char* const stage = ring.fill();
      tma_load_im2col(stage, image, ring.landed(), block * 64, from_w, from_h, n, s, r);
      if (w.pooled)
        tma_load_im2col(stage + Tile::kImageBytes / 2, image, ring.landed(), block * 64, from_w, from_h, n, s,
                        r + w.h.input_step);
      const int filter_tap =
          (w.h.filter_first + r * w.h.filter_step) * p.filter_taps_w + w.w.filter_first + s * w.w.filter_step;
      unsigned char* const to = stage + Tile::kImageBytes;
      if constexpr (kBackward) {
        CONVOY_UNROLL
        for (int i = 0; i < Tile::kColumns / 64; ++i)
          tma_load(to + i * kPieceBytes, filters, ring.landed(), at.column + 64 * i, filter_tap, block * 64);
      } else {
        tma_load(to, filters, ring.landed(), block * 64, filter_tap, at.column);
      }
      ring.next();
      if (++block < cut.blocks) continue;
      block = 0;
      if (++s < w.w.taps) continue;
      s = 0;
      ++r;
    }
  }
}

template <class T>
__device__ uint32_t two(float left, float right) {
  struct alignas(4) Two {
    T v[2];
  } const pair{{T(left), T(right)}};
  uint32_t bits;
  memcpy(&bits, &pair, 4);
  return bits;
}
template <class T>
__device__ float half_of(uint32_t two, int i) {
  struct alignas(4) Two {
    T v[2];
  } pair;
  memcpy(&pair, &two, 4);
  return static_cast<float>(pair.v[i]);
}

// Bias and ReLU of columns `column` and the next.
template <class T>
struct Activation {
  float bias[2] = {};
  bool relu;
  __device__ Activation(const Correlation<T>& p, int column) : relu(p.relu) {
    if (p.bias == nullptr) return;
    if (column < p.columns) bias[0] = p.bias[column];
    if (column + 1 < p.columns) bias[1] = p.bias[column + 1];
  }
  __device__ uint32_t operator()(float left, float right) const {
    left += bias[0];
    right += bias[1];
    if (relu && left < 0) left = 0;
    if (relu && right < 0) right = 0;
    return two<T>(left, right);
  }
};

// Of a product's accumulators: thread t of the warpgroup holds in d[4j + 2h + e] row 16(t / 32) + t % 32 / 4 + 8h,
// column 8j + 2(t % 4) + e.
__device__ int accumulator_row() {
  return static_cast<int>(threadIdx.x) / 32 % 4 * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
}
__device__ int accumulator_column() {
  return static_cast<int>(threadIdx.x) % 4 * 2;
}

// 64 rows of the result from `row` on. Through `memory`, with 16-byte pieces exchanged by their row, for no bank
// conflicts; then a thread stores 8 neighbours.
template <class T, int kColumns>
__device__ void store_piece(const Correlation<T>& p, int row, int column, const float (&d)[kColumns / 2],
                            unsigned char* memory, int group) {
  constexpr int kAcross = kColumns / 8, kRowBytes = kColumns * 2;
  const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
  const int line = thread / 32 * 16 + lane % 16;
  barrier_sync(1 + group, 128);  // what was there before is stored
  CONVOY_UNROLL
  for (int j = 0; j < kAcross; j += 2) {
    uint32_t r[4];
    CONVOY_UNROLL
    for (int i = 0; i < 2; ++i) {
      const Activation<T> activation(p, column + 8 * (j + i) + accumulator_column());
      r[2 * i] = activation(d[4 * (j + i)], d[4 * (j + i) + 1]);
      r[2 * i + 1] = activation(d[4 * (j + i) + 2], d[4 * (j + i) + 3]);
    }
    stmatrix(memory + line * kRowBytes + ((j + lane / 16) ^ (line % 8)) * 16, r);
  }
  barrier_sync(1 + group, 128);
  for (int i = thread; i < kPieceRows * kAcross; i += 128) {
    const int from = i / kAcross, piece = i % kAcross;
    if (row + from >= p.rows || column + piece * 8 >= p.columns) continue;
    const auto values =
        *reinterpret_cast<const Eight<T>*>(memory + from * kRowBytes + (piece ^ (from % 8)) * 16);
    store_eight(p, row + from, column + piece * 8, values, Places());
  }
}

// 32 windows from `window` on, of 2x2 pixels: above[...] and below[...] are 64 pixels of two rows of the image.
template <class T, int kColumns>
__device__ void store_windows(const Correlation<T>& p, int window, int column,
                              const float (&above)[kColumns / 2], const float (&below)[kColumns / 2],
                              unsigned char* memory, int group) {
  constexpr int kWindows = kPieceRows / 2, kAcross = kColumns / 8;
  constexpr int kValuePitch = kColumns * 2 + 16, kPlacePitch = kColumns + 16;  // bytes; few bank conflicts
  static_assert(kWindows * (kValuePitch + kPlacePitch) <= kPieceRows * kColumns * 2, "fits in the product's");
  unsigned char* const places = memory + kWindows * kValuePitch;
  const int thread = static_cast<int>(threadIdx.x) % 128, lane = thread % 32;
  // Lanes whose pixel is the left one of a window finish those of h = 0, the others those of h = 1.
  const int right = lane / 4 % 2;
  const int line = (accumulator_row() - right + 8 * right) / 2;
  barrier_sync(1 + group, 128);
  CONVOY_UNROLL
  for (int j = 0; j < kAcross; ++j) {
    const int mine = 8 * j + accumulator_column();
    const Activation<T> activation(p, column + mine);
    uint32_t pixels[2][2];  // [h][below]
    CONVOY_UNROLL
    for (int h = 0; h < 2; ++h) {
      pixels[h][0] = activation(above[4 * j + 2 * h], above[4 * j + 2 * h + 1]);
      pixels[h][1] = activation(below[4 * j + 2 * h], below[4 * j + 2 * h + 1]);
    }
    uint32_t window_pixels[4];
    CONVOY_UNROLL
    for (int i = 0; i < 2; ++i) {
      const uint32_t own = right ? pixels[1][i] : pixels[0][i],
                     other = __shfl_xor_sync(~0u, right ? pixels[0][i] : pixels[1][i], 4);
      window_pixels[2 * i] = right ? other : own;
      window_pixels[2 * i + 1] = right ? own : other;
    }
    float best[2] = {half_of<T>(window_pixels[0], 0), half_of<T>(window_pixels[0], 1)};
    int place[2] = {};
    CONVOY_UNROLL
    for (int t = 1; t < 4; ++t) CONVOY_UNROLL
    for (int e = 0; e < 2; ++e) {
      const float v = half_of<T>(window_pixels[t], e);
      if (!displaces(v, best[e])) continue;
      best[e] = v;
      place[e] = t;
    }
    *reinterpret_cast<uint32_t*>(memory + line * kValuePitch + mine * 2) = two<T>(best[0], best[1]);
    *reinterpret_cast<uint16_t*>(places + line * kPlacePitch + mine) =
        static_cast<uint16_t>(place[0] | place[1] << 8);
  }
  barrier_sync(1 + group, 128);
  for (int i = thread; i < kWindows * kAcross; i += 128) {
    const int from = i / kAcross, piece = i % kAcross * 8;
    if (window + from >= p.rows / 4 || column + piece >= p.columns) continue;
    store_eight(p, window + from, column + piece,
                *reinterpret_cast<const Eight<T>*>(memory + from * kValuePitch + piece * 2),
                *reinterpret_cast<const Places*>(places + from * kPlacePitch + piece));
  }
}

// A product's sums without an epilogue; row_of(i) is the row of the product that the piece's row i is.
template <class T, int kColumns, class Row>
__device__ void store_sums(const Correlation<T>& p, int chunk, int column, const float (&d)[kColumns / 2],
                           const Row& row_of) {
  CONVOY_UNROLL
  for (int h = 0; h < 2; ++h) {
    const int row = row_of(accumulator_row() + 8 * h);
    if (row >= p.rows) continue;
    float* const line = p.parts + (int64_t{chunk} * p.rows + row) * p.columns;
    CONVOY_UNROLL
    for (int j = 0; j < kColumns / 8; ++j) {
      const int at = column + 8 * j + accumulator_column();
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

template <class T, class Tile, bool kBackward>
__device__ void multiply_stages(typename Tile::R& ring, const Correlation<T>& p, const Cut& cut) {
  constexpr int kColumns = Tile::kColumns, kProducts = Tile::kProducts;
  constexpr Major kMajor = kBackward ? Major::kMN : Major::kK;
  const int group = Tile::R::group();
  unsigned char* const memory = ring.after() + group * Tile::kStoreBytes;
  for (int tile = static_cast<int>(blockIdx.x); tile < cut.tiles; tile += static_cast<int>(gridDim.x)) {
    const TilePlace at = TilePlace::of(cut, tile, Tile());
    float d[kProducts][kColumns / 2];
    ring.consume(at.end - at.first, [&](unsigned char* stage, int step) {
      const unsigned char *const a = stage + group * kPieceBytes, *const b = stage + Tile::kImageBytes;
      CONVOY_UNROLL
      for (int k = 0; k < 4; ++k) {
        const uint64_t filters = kBackward ? wgmma_matrix(b + k * 16 * 128, kPieceBytes, 1024, Swizzle::k128)
                                           : wgmma_matrix(b + k * 32, 0, 1024, Swizzle::k128);
        CONVOY_UNROLL
        for (int i = 0; i < kProducts; ++i)
          wgmma<kColumns, T, Major::kK, kMajor>(
              d[i], wgmma_matrix(a + i * 2 * kPieceBytes + k * 32, 0, 1024, Swizzle::k128), filters,
              step > 0 || k > 0);
      }
    });
    CONVOY_UNROLL
    for (int i = 0; i < kProducts; ++i) wgmma_hold(d[i]);
    // With a pool, the rows of the product are those of windows, 4 each.
    const bool pooled = p.windows.pooled;
    if (p.parts != nullptr) {
      CONVOY_UNROLL
      for (int i = 0; i < kProducts; ++i)
        store_sums<T, kColumns>(p, at.chunk, at.column, d[i], [&](int row) {
          const int pixel = group * kPieceRows + row;
          return at.row + (pooled ? pixel / 2 * 4 + pixel % 2 + 2 * i : pixel + i * 2 * kPieceRows);
        });
      continue;
    }
    if constexpr (kProducts == 2 && !kBackward) {
      if (pooled) {
        store_windows<T, kColumns>(p, at.row / 4 + group * (kPieceRows / 2), at.column, d[0], d[1], memory,
                                   group);
        continue;
      }
    }
    CONVOY_UNROLL
    for (int i = 0; i < kProducts; ++i)
      store_piece<T, kColumns>(p, at.row + (group + 2 * i) * kPieceRows, at.column, d[i], memory, group);
  }
}

template <class T, class Tile, bool kBackward>
__global__ void __launch_bounds__(Tile::R::kThreads, 1)
    correlation_kernel(const __grid_constant__ CUtensorMap image, const __grid_constant__ CUtensorMap filters,
                       const __grid_constant__ Correlation<T> p, const __grid_constant__ Cut cut) {
  using R = typename Tile::R;
  CONVOY_DYNAMIC_SHARED(unsigned char, memory);
  CONVOY_SHARED(uint64_t, full, [R::kStages]);
  CONVOY_SHARED(uint64_t, empty, [R::kStages]);
  R ring(memory, full, empty);
  ring.start();
  if (R::producer()) {
    if (R::elect_producer()) fill_stages<T, Tile, kBackward>(ring, p, cut, image, filters);
  } else {
    R::become_consumer();
    multiply_stages<T, Tile, kBackward>(ring, p, cut);
  }
}

template <class T>
CUtensorMap image_map(const Correlation<T>& p, int tile_rows) {
  const Windows& w = p.windows;
  const auto u = [](int64_t v) { return static_cast<cuuint64_t>(v); };
  const int64_t images = p.rows / (w.pooled ? 4 : 1) / (int64_t{w.h.outputs} * w.w.outputs),
                row_bytes = int64_t{w.pitch} * 2;
  const HopperAxis h = hopper_axis(w.h, w.pooled, false), v = hopper_axis(w.w, false, w.pooled);
  return im2col_map<T>(p.image, {u(w.channels), u(w.w.inputs), u(w.h.inputs), u(images)},
                       {u(int64_t{w.channels} * 2), u(row_bytes), u(row_bytes * w.h.inputs)},
                       {{v.lower, h.lower},
                        {v.upper(), h.upper()},
                        {static_cast<cuuint32_t>(v.step), static_cast<cuuint32_t>(h.step)},
                        64,
                        static_cast<cuuint32_t>(w.pooled ? tile_rows / 2 : tile_rows)},
                       CU_TENSOR_MAP_SWIZZLE_128B);
}

template <class T>
CUtensorMap filter_map(const Correlation<T>& p, bool backward, int tile_columns) {
  const auto u = [](int64_t v) { return static_cast<cuuint64_t>(v); };
  const int64_t taps = int64_t{p.filter_taps_h} * p.filter_taps_w;
  const int inner = backward ? p.columns : p.windows.channels,
            outer = backward ? p.windows.channels : p.columns;
  return tiled_map<T, 3>(p.filters, {u(inner), u(taps), u(outer)}, {u(inner * 2), u(taps * inner * 2)},
                         {64, 1, static_cast<cuuint32_t>(backward ? 64 : tile_columns)},
                         CU_TENSOR_MAP_SWIZZLE_128B);
}

template <class T, class Tile, bool kBackward>
void launch(Exec& ex, const Correlation<T>& p, const HopperPlan& plan) {
  const auto tiles = [](int64_t extent, int tile) { return (extent + tile - 1) / tile; };
  const int64_t across = tiles(p.columns, Tile::kColumns), down = tiles(p.rows, Tile::kRows),
                all = across * down * plan.chunks;
  CONVOY_CHECK(all < (int64_t{1} << 31), "a result of ", p.rows, "x", p.columns, " is too large");
  const Cut cut{static_cast<int>(across),
                static_cast<int>(down),
                static_cast<int>(all),
                static_cast<int>(hopper_blocks(p.windows.channels)),
                static_cast<int>(hopper_steps(p.windows)),
                static_cast<int>(plan.chunk_steps)};
  launch_ring<typename Tile::R>(correlation_kernel<T, Tile, kBackward>,
                                std::min<int64_t>(all, queue(ex).multiprocessors), 2 * Tile::kStoreBytes,
                                stream(ex), image_map(p, Tile::kRows),
                                filter_map(p, kBackward, Tile::kColumns), p, cut);
}

template <class T, bool kBackward>
void correlate(Exec& ex, const Correlation<T>& p, const HopperPlan& plan) {
  if (plan.rows == 256) {
    if (plan.columns == 128) return launch<T, HopperTile<256, 128>, kBackward>(ex, p, plan);
    return launch<T, HopperTile<256, 64>, kBackward>(ex, p, plan);
  }
  if (plan.columns == 128) return launch<T, HopperTile<128, 128>, kBackward>(ex, p, plan);
  launch<T, HopperTile<128, 64>, kBackward>(ex, p, plan);
}

}  // namespace

template <class T>
void hopper_forward(Exec& ex, const Correlation<T>& p, const HopperPlan& plan) {
  correlate<T, false>(ex, p, plan);
}
template <class T>
void hopper_backward_data(Exec& ex, const Correlation<T>& p, const HopperPlan& plan) {
  correlate<T, true>(ex, p, plan);
}

#define CONVOY_HOPPER(T)                                                            \
  template void hopper_forward<T>(Exec&, const Correlation<T>&, const HopperPlan&); \
  template void hopper_backward_data<T>(Exec&, const Correlation<T>&, const HopperPlan&);
CONVOY_HOPPER(__nv_bfloat16)
CONVOY_HOPPER(__half)
#undef CONVOY_HOPPER

}  // namespace convoy::cuda
