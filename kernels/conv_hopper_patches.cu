// Forward and backward data on Hopper's tensor cores by patches of 8x8 pixels, for filters of 2 or 3 rows that move by
// one pixel: otherwise as conv_hopper.cu.
//
// A step is one column of taps and 64 channels. Its pixels are, for each patch, 8 columns and 8 + taps - 1 rows of the
// image, in shared memory 128 bytes a pixel: for the tap of row r a patch begins r · 8 pixels later, where the swizzle
// begins again. So pixels come once for all taps of a column, in a ring of their own, and filters tap by tap.
//
// A patch is one piece of the tile, of which warpgroup g has pieces g and g + 2. A thread holds pixels of two rows one
// above the other, the lane 4 further on the pixels beside them: windows of the fused pool.
#include "kernels/conv_hopper_tile.cuh"

namespace convoy::cuda::hopper {
namespace {

template <int kRows_, int kColumns_>
struct PatchTile {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kProducts = kRows / 128, kPieces = kRows / 64;
  static constexpr int kLineBytes = kPatchSide * 128;  // a row of a patch: where the tap below begins
  static constexpr int kPatchBytes = (kPatchSide + kPatchTaps - 1) * kLineBytes;
  static_assert(kLineBytes == 1024 && kPatchSide * kLineBytes == kPieceBytes, "a piece of swizzled rows");
  static constexpr int kStoreBytes = kPieceRows * kColumns * 2;
  using Pixels = Ring<(kRows == 256 && kColumns == 128 ? 2 : 3), kPieces * kPatchBytes, 2>;
  using Filters = Ring<(kColumns == 128 ? 6 : 8), kColumns * 128, 2>;
  static constexpr int kMoreBytes = Filters::kBytes + 2 * kStoreBytes;
  static_assert(Pixels::kBytes + kMoreBytes + 256 <= 227 << 10, "what a block has");
};

struct PatchCut {
  int across, tiles;  // across: of columns
  int down, beside;   // patches of an image
  int patches;        // of all
  int blocks, steps;
};

// Where a patch lies, in pixels of the result, or in windows of the fused pool, `side` in a row.
struct Patch {
  int image, line, column;
  __device__ Patch(const PatchCut& cut, int number, int side) {
    image = number / (cut.down * cut.beside);
    const int rest = number - image * (cut.down * cut.beside);
    line = rest / cut.beside;
    column = (rest - line * cut.beside) * side;
    line *= side;
  }
};

template <class T, class Tile, bool kBackward>
__device__ void fill_stages(typename Tile::Pixels& pixels, typename Tile::Filters& filters,
                            const Correlation<T>& p, const PatchCut& cut, const CUtensorMap& image_map,
                            const CUtensorMap& filter_map) {
  prefetch_tensor_map(image_map);
  prefetch_tensor_map(filter_map);
  const Windows& w = p.windows;
  const uint32_t bytes =
      static_cast<uint32_t>(Tile::kPieces * (kPatchSide + w.h.taps - 1) * Tile::kLineBytes);
  for (int tile = static_cast<int>(blockIdx.x); tile < cut.tiles; tile += static_cast<int>(gridDim.x)) {
    const int first = tile / cut.across * Tile::kPieces, column = tile % cut.across * Tile::kColumns;
    int from_w[Tile::kPieces], from_h[Tile::kPieces], image[Tile::kPieces];
    CONVOY_UNROLL
    for (int i = 0; i < Tile::kPieces; ++i) {
      const Patch at(cut, first + i, kPatchSide);
      from_w[i] = at.column + w.w.offset;
      from_h[i] = at.line + w.h.offset;
      image[i] = at.image;  // after the last: zeros
    }
    int block = 0, s = 0;
    for (int step = 0; step < cut.steps; ++step) {
      unsigned char* const stage = pixels.fill(bytes);
      CONVOY_UNROLL
      for (int i = 0; i < Tile::kPieces; ++i)
        tma_load(stage + i * Tile::kPatchBytes, image_map, pixels.landed(), block * 64, from_w[i] + s,
                 from_h[i], image[i]);
      pixels.next();
      for (int r = 0; r < w.h.taps; ++r) {
        unsigned char* const to = filters.fill();
        load_filters<Tile::kColumns, kBackward>(to, filter_map, filters.landed(), p, r, s, block, column);
        filters.next();
      }
      if (++block < cut.blocks) continue;
      block = 0;
      ++s;
    }
  }
}

template <class T, class Tile, bool kBackward>
__device__ void multiply_stages(typename Tile::Pixels& pixels, typename Tile::Filters& filters,
                                const Correlation<T>& p, const PatchCut& cut) {
  constexpr int kColumns = Tile::kColumns, kProducts = Tile::kProducts;
  const Windows& w = p.windows;
  const int group = Tile::Pixels::group();
  unsigned char* const memory = filters.after() + group * Tile::kStoreBytes;
  for (int tile = static_cast<int>(blockIdx.x); tile < cut.tiles; tile += static_cast<int>(gridDim.x)) {
    const int first = tile / cut.across * Tile::kPieces + group, column = tile % cut.across * kColumns;
    float d[kProducts][kColumns / 2];
    for (int step = 0; step < cut.steps; ++step) {
      const unsigned char* const stage = pixels.wait() + group * Tile::kPatchBytes;
      for (int r = 0; r < w.h.taps; ++r) {
        const unsigned char* const b = filters.wait();
        wgmma_fence();
        multiply<T, kColumns, kBackward, 2 * Tile::kPatchBytes>(d, stage + r * Tile::kLineBytes, b,
                                                                step > 0 || r > 0);
        wgmma_commit();
        wgmma_wait<1>();
        if (step > 0 || r > 0) filters.release_before();
        if (step > 0 && r == 0) pixels.release_before();
        filters.next();
      }
      pixels.next();
    }
    wgmma_wait<0>();
    filters.release_before();
    pixels.release_before();
    CONVOY_UNROLL
    for (int i = 0; i < kProducts; ++i) wgmma_hold(d[i]);

    // Row i of the result's, `side` a line of the patch.
    const auto row = [&](const Patch& at, int i, int side) {
      const int y = at.line + i / side, x = at.column + i % side;
      return y < w.h.outputs && x < w.w.outputs ? (at.image * w.h.outputs + y) * w.w.outputs + x : -1;
    };
    if constexpr (kProducts == 2 && !kBackward) {
      if (w.pooled) {
        constexpr int kSide = kPatchSide / 2;
        store_windows<kColumns>(
            p,
            [&](int i) {
              const int number = first + i / (kSide * kSide) * 2;
              return number < cut.patches ? row(Patch(cut, number, kSide), i % (kSide * kSide), kSide) : -1;
            },
            column, [&](int j, int n, int below, int e) { return d[n][4 * j + 2 * below + e]; },
            [&](int n) { return n * kSide * kSide + sum_row() / 16 * kSide + sum_row() % 16 / 2; }, memory,
            group);
        continue;
      }
    }
    CONVOY_UNROLL
    for (int i = 0; i < kProducts; ++i) {
      const Patch at(cut, first + 2 * i, kPatchSide);
      store_piece<kColumns, kBackward>(
          p, [&](int line) { return first + 2 * i < cut.patches ? row(at, line, kPatchSide) : -1; }, column,
          d[i], memory, group);
    }
  }
}

template <class T, class Tile, bool kBackward>
__global__ void __launch_bounds__(Tile::Pixels::kThreads, 1)
    patches_kernel(const __grid_constant__ CUtensorMap image, const __grid_constant__ CUtensorMap filter,
                   const __grid_constant__ Correlation<T> p, const __grid_constant__ PatchCut cut) {
  using Pixels = typename Tile::Pixels;
  using Filters = typename Tile::Filters;
  CONVOY_DYNAMIC_SHARED(unsigned char, memory);
  CONVOY_SHARED(uint64_t, full_pixels, [Pixels::kStages]);
  CONVOY_SHARED(uint64_t, empty_pixels, [Pixels::kStages]);
  CONVOY_SHARED(uint64_t, full_filters, [Filters::kStages]);
  CONVOY_SHARED(uint64_t, empty_filters, [Filters::kStages]);
  Pixels pixels(memory, full_pixels, empty_pixels);
  Filters filters(pixels.after(), full_filters, empty_filters);
  pixels.start();
  filters.start();
  if (Pixels::producer()) {
    if (Pixels::elect_producer()) fill_stages<T, Tile, kBackward>(pixels, filters, p, cut, image, filter);
  } else {
    Pixels::become_consumer();
    multiply_stages<T, Tile, kBackward>(pixels, filters, p, cut);
  }
}

template <class T, class Tile, bool kBackward>
void launch(Exec& ex, const Correlation<T>& p) {
  const Windows& w = p.windows;
  const auto tiles = [](int64_t extent, int tile) { return (extent + tile - 1) / tile; };
  const int side = w.pooled ? kPatchSide / 2 : kPatchSide;
  const int64_t down = tiles(w.h.outputs, side), beside = tiles(w.w.outputs, side),
                patches = hopper_images(w, p.rows) * down * beside, across = tiles(p.columns, Tile::kColumns),
                all = tiles(patches, Tile::kPieces) * across;
  CONVOY_CHECK(all < (int64_t{1} << 31), "a result of ", p.rows, "x", p.columns, " is too large");
  const int64_t blocks = hopper_blocks(w.channels);
  const PatchCut cut{static_cast<int>(across),           static_cast<int>(all),     static_cast<int>(down),
                     static_cast<int>(beside),           static_cast<int>(patches), static_cast<int>(blocks),
                     static_cast<int>(blocks * w.w.taps)};
  const CUtensorMap image = tiled_map<T, 4>(
      p.image, image_dims(p), image_strides(p),
      {64, kPatchSide, static_cast<cuuint32_t>(kPatchSide + w.h.taps - 1), 1}, CU_TENSOR_MAP_SWIZZLE_128B);
  launch_ring<typename Tile::Pixels>(patches_kernel<T, Tile, kBackward>,
                                     std::min<int64_t>(all, queue(ex).multiprocessors), Tile::kMoreBytes,
                                     stream(ex), image, filter_map(p, kBackward, Tile::kColumns), p, cut);
}

}  // namespace

template <class T, bool kBackward>
void correlate_patches(Exec& ex, const Correlation<T>& p, const HopperPlan& plan) {
  if (plan.rows == 256) {
    if (plan.columns == 128) return launch<T, PatchTile<256, 128>, kBackward>(ex, p);
    return launch<T, PatchTile<256, 64>, kBackward>(ex, p);
  }
  if (plan.columns == 128) return launch<T, PatchTile<128, 128>, kBackward>(ex, p);
  launch<T, PatchTile<128, 64>, kBackward>(ex, p);
}

template void correlate_patches<__nv_bfloat16, false>(Exec&, const Correlation<__nv_bfloat16>&,
                                                      const HopperPlan&);
template void correlate_patches<__nv_bfloat16, true>(Exec&, const Correlation<__nv_bfloat16>&,
                                                     const HopperPlan&);
template void correlate_patches<__half, false>(Exec&, const Correlation<__half>&, const HopperPlan&);
template void correlate_patches<__half, true>(Exec&, const Correlation<__half>&, const HopperPlan&);

}  // namespace convoy::cuda::hopper
