// Forward and backward data on Hopper's tensor cores: a persistent block for each multiprocessor, one warp that copies
// pixels (im2col) and filters into the ring, two warpgroups that multiply.
//
// A step of the depth is one tap and 64 channels. Its pixels are rows of 128 bytes, what lies outside of the image, or
// after the last channel, filter or image, is zeros; so tiles cross rows and images, and only the stores look at tails.
//
// Of the tile's rows, in pieces of 64, warpgroup g multiplies piece g, and of 256 rows piece g + 2 as well. With a fused
// pool the first half of the rows are pixels of even rows of the image and the second half those below them: a thread
// holds the upper and the lower half of a window in its two products.
#include "kernels/conv_hopper_tile.cuh"

namespace convoy::cuda {
namespace {

using namespace hopper;

template <int kRows_, int kColumns_>
struct HopperTile {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kProducts = kRows / 128;  // of a warpgroup
  static constexpr int kImageBytes = kRows * 128, kStageBytes = kImageBytes + kColumns * 128;
  static constexpr int kStoreBytes = kPieceRows * kColumns * 2;  // a warpgroup stores one piece at a time
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
      load_filters<Tile::kColumns, kBackward>(stage + Tile::kImageBytes, filters, ring.landed(), p, r, s,
                                              block, at.column);
      ring.next();
      if (++block < cut.blocks) continue;
      block = 0;
      if (++s < w.w.taps) continue;
      s = 0;
      ++r;
    }
  }
}

template <class T, class Tile, bool kBackward>
__device__ void multiply_stages(typename Tile::R& ring, const Correlation<T>& p, const Cut& cut) {
  constexpr int kColumns = Tile::kColumns, kProducts = Tile::kProducts;
  const int group = Tile::R::group();
  unsigned char* const memory = ring.after() + group * Tile::kStoreBytes;
  for (int tile = static_cast<int>(blockIdx.x); tile < cut.tiles; tile += static_cast<int>(gridDim.x)) {
    const TilePlace at = TilePlace::of(cut, tile, Tile());
    float d[kProducts][kColumns / 2];
    ring.consume(at.end - at.first, [&](unsigned char* stage, int step) {
      multiply<T, kColumns, kBackward, 2 * kPieceBytes>(d, stage + group * kPieceBytes,
                                                        stage + Tile::kImageBytes, step > 0);
    });
    CONVOY_UNROLL
    for (int i = 0; i < kProducts; ++i) wgmma_hold(d[i]);
    const auto inside = [&](int row) { return row < p.rows ? row : -1; };
    // With a pool, the rows of the product are those of windows, 4 each.
    const bool pooled = p.windows.pooled;
    if (p.parts != nullptr) {
      CONVOY_UNROLL
      for (int i = 0; i < kProducts; ++i)
        store_sums<kColumns>(
            p, at.chunk,
            [&](int row) {
              const int pixel = group * kPieceRows + row;
              return inside(at.row +
                            (pooled ? pixel / 2 * 4 + pixel % 2 + 2 * i : pixel + i * 2 * kPieceRows));
            },
            at.column, d[i]);
      continue;
    }
    if constexpr (kProducts == 2 && !kBackward) {
      if (pooled) {
        const int first = at.row / 4 + group * (kPieceRows / 2);
        store_windows<kColumns>(
            p, [&](int i) { return first + i < p.rows / 4 ? first + i : -1; }, at.column,
            [&](int j, int n, int below, int e) { return d[below][4 * j + 2 * n + e]; },
            [&](int n) { return (sum_row() + 8 * n) / 2; }, memory, group);
        continue;
      }
    }
    CONVOY_UNROLL
    for (int i = 0; i < kProducts; ++i) {
      const int first = at.row + (group + 2 * i) * kPieceRows;
      store_piece<kColumns, kBackward>(
          p, [&](int row) { return inside(first + row); }, at.column, d[i], memory, group);
    }
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
  const HopperAxis h = hopper_axis(w.h, w.pooled, false), v = hopper_axis(w.w, false, w.pooled);
  return im2col_map<T>(p.image, image_dims(p), image_strides(p),
                       {{v.lower, h.lower},
                        {v.upper(), h.upper()},
                        {static_cast<cuuint32_t>(v.step), static_cast<cuuint32_t>(h.step)},
                        64,
                        static_cast<cuuint32_t>(w.pooled ? tile_rows / 2 : tile_rows)},
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
  if (plan.patches) return correlate_patches<T, kBackward>(ex, p, plan);
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

#define CONVOY_INSTANCES(T)                                                         \
  template void hopper_forward<T>(Exec&, const Correlation<T>&, const HopperPlan&); \
  template void hopper_backward_data<T>(Exec&, const Correlation<T>&, const HopperPlan&);
CONVOY_INSTANCES(__nv_bfloat16)
CONVOY_INSTANCES(__half)
#undef CONVOY_INSTANCES

}  // namespace convoy::cuda
