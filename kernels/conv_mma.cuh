// Products of 16-bit matrices on tensor cores, for conv_mma.cu and conv_mma_weights.cu.
//
// 128 threads hold a tile of the result in registers. The operands' tiles go through a ring in shared memory, by
// asynchronous copies of 16 bytes (kAsync, sm_80), or through registers: on sm_75, and where 8 neighbours do not lie
// in one aligned piece of memory and have to be gathered. Elements are moved as uint16_t, whatever they are.
#pragma once
#include "kernels/conv_geometry.cuh"
#include "kernels/mma.cuh"

// The arrays of registers are indexed by constants alone, once the loops are unrolled.
namespace convoy::cuda::mma {

constexpr int kThreads = 128;
constexpr int kDepth = 32;  // of the tiles in shared memory
constexpr int kPiece = 8;   // elements of 16 bytes

// A block's tile, how it is shared by the warps, and the ring's stages: 48 KiB or less, so that no launch has to ask
// for more.
template <int kRows_, int kColumns_, int kWarpsDown_, bool kAsync_>
struct Tile {
  static constexpr int kRows = kRows_, kColumns = kColumns_, kWarpsDown = kWarpsDown_;
  static constexpr int kWarpsAcross = kThreads / 32 / kWarpsDown;
  static constexpr int kWarpRows = kRows / kWarpsDown, kWarpColumns = kColumns / kWarpsAcross;
  static constexpr bool kAsync = kAsync_;
  static constexpr int kStagePieces = (kRows + kColumns) * kDepth / kPiece;  // of A, then of B
  static constexpr int kStages = !kAsync ? 2 : kStagePieces <= 768 ? 4 : 3;
  static constexpr int kBytes = kStages * kStagePieces * 16;
  static constexpr int kBlocks = blocks_at_once(kRows * kColumns);  // on a multiprocessor
  static_assert(kBytes <= 48 * 1024 && kWarpRows % 16 == 0 && kWarpColumns % 16 == 0, "");
};

// Where pieces of a tile lie in shared memory, so that neither copies nor ldmatrix meet bank conflicts: 8 lines at one
// depth (deep: memory runs along the depth) or 8 depths at one piece of lines (wide) fall into 8 different 16-byte
// columns of the 128 bytes that the banks hold.
template <int kLines>
struct Deep {
  static constexpr int kAcross = kDepth / kPiece;  // pieces of a line
  static constexpr int kCount = kLines * kAcross / kThreads;
  __device__ static int place(int line, int piece) { return line * kAcross + (piece ^ (line >> 1 & 3)); }
  // The i-th piece of this thread.
  __device__ static int line(int i) { return threadIdx.x / kAcross + i * (kThreads / kAcross); }
  __device__ static int depth(int) { return threadIdx.x % kAcross * kPiece; }
  __device__ static int mine(int i) { return place(line(i), threadIdx.x % kAcross); }
};
template <int kLines>
struct Wide {
  static constexpr int kAcross = kLines / kPiece;
  static constexpr int kCount = kDepth * kAcross / kThreads;
  __device__ static int place(int depth, int piece) { return depth * kAcross + (piece ^ (depth & 7)); }
  __device__ static int line(int) { return threadIdx.x % kAcross * kPiece; }
  __device__ static int depth(int i) { return threadIdx.x / kAcross + i * (kThreads / kAcross); }
  __device__ static int mine(int i) { return place(depth(i), threadIdx.x % kAcross); }
};

// Fragments: of A 16 rows and 16 deep, of B 16 columns (two products' worth) and 16 deep, which start at `line` and
// 16 · step. ldmatrix takes the address of row r of matrix i from lane 8i + r.
template <int kLines>
__device__ void load_a(uint32_t (&r)[4], const uint4* tile, Deep<kLines>, int line, int step) {
  const int lane = threadIdx.x % 32;
  ldmatrix(r, tile + Deep<kLines>::place(line + lane % 16, 2 * step + lane / 16));
}
template <int kLines>
__device__ void load_a(uint32_t (&r)[4], const uint4* tile, Wide<kLines>, int line, int step) {
  const int lane = threadIdx.x % 32;
  ldmatrix_transposed(
      r, tile + Wide<kLines>::place(16 * step + lane % 8 + lane / 16 * 8, line / kPiece + lane / 8 % 2));
}
template <int kLines>
__device__ void load_b(uint32_t (&r)[4], const uint4* tile, Deep<kLines>, int line, int step) {
  const int lane = threadIdx.x % 32;
  ldmatrix(r, tile + Deep<kLines>::place(line + lane % 8 + lane / 16 * 8, 2 * step + lane / 8 % 2));
}
template <int kLines>
__device__ void load_b(uint32_t (&r)[4], const uint4* tile, Wide<kLines>, int line, int step) {
  const int lane = threadIdx.x % 32;
  ldmatrix_transposed(r, tile + Wide<kLines>::place(16 * step + lane % 16, line / kPiece + lane / 16));
}

// 8 elements, each where element(e) points; null is a zero.
template <class Element>
__device__ uint4 gather(const Element& element) {
  uint32_t words[4] = {};
  CONVOY_UNROLL
  for (int e = 0; e < kPiece; ++e) {
    const uint16_t* from = element(e);
    if (from != nullptr) words[e / 2] |= static_cast<uint32_t>(*from) << (16 * (e % 2));
  }
  return {words[0], words[1], words[2], words[3]};
}

// Whether a block reads memory of the operand again soon (neighbouring taps see the same pixels): then through L1.
enum class Reuse { kSoon, kLate };

// One operand's tiles on their way to shared memory. Its Source has
//   Layout         Deep or Wide
//   aligned        its pieces are 16 aligned bytes of memory, inside of the operand or outside as a whole
//   at(k0)         look at the tile at depth k0
//   piece(i)       this thread's i-th piece of it, null: zeros
//   element(i, e)  one of its 8 elements, where they are not aligned; null: zero
template <class Source, bool kAsync, Reuse kReuse>
class Operand {
 public:
  using Layout = typename Source::Layout;
  template <class Problem>
  __device__ Operand(const Problem& p, int start) : source_(p, start) {}

  __device__ void start_copies(int k0, uint4* tile) {
    source_.at(k0);
    CONVOY_UNROLL
    for (int i = 0; i < Layout::kCount; ++i) {
      const uint16_t* from = source_.piece(i);
      cp_async<16, kReuse == Reuse::kSoon>(tile + Layout::mine(i), from != nullptr ? from : source_.memory(),
                                           from != nullptr ? 16 : 0);
    }
  }
  __device__ void fetch(int k0) {
    source_.at(k0);
    CONVOY_UNROLL
    for (int i = 0; i < Layout::kCount; ++i) {
      if (source_.aligned) {
        const uint16_t* from = source_.piece(i);
        held_[i] = from != nullptr ? *reinterpret_cast<const uint4*>(from) : uint4{0, 0, 0, 0};
      } else {
        held_[i] = gather([&](int e) { return source_.element(i, e); });
      }
    }
  }
  __device__ void put(uint4* tile) const {
    CONVOY_UNROLL
    for (int i = 0; i < Layout::kCount; ++i) tile[Layout::mine(i)] = held_[i];
  }

 private:
  Source source_;
  uint4 held_[kAsync ? 1 : Layout::kCount];
};

// The result's tile in a warp's registers: rows of 16, columns of 8, as the product leaves them. With row sums: those
// of A as well, which come from a product with ones.
template <class Tile, bool kRowSums>
struct Sums {
  static constexpr int kDown = Tile::kWarpRows / 16, kAcross = Tile::kWarpColumns / 8;
  float v[kDown][kAcross][4] = {};
  float rows[kRowSums ? kDown : 1][4] = {};

  // Of the tile, for this lane: element i of v[m][n].
  __device__ static int row(int m, int i) {
    return threadIdx.x / 32 % Tile::kWarpsDown * Tile::kWarpRows + m * 16 + threadIdx.x % 32 / 4 + i / 2 * 8;
  }
  __device__ static int column(int n, int i) {
    return threadIdx.x / 32 / Tile::kWarpsDown * Tile::kWarpColumns + n * 8 + threadIdx.x % 4 * 2 + i % 2;
  }
};

template <class T>
constexpr uint32_t kOnes = std::is_same_v<T, __half> ? 0x3c003c00u : 0x3f803f80u;

template <class T, class Tile, class LayoutA, class LayoutB, bool kRowSums>
__device__ void multiply(const uint4* stage, Sums<Tile, kRowSums>& sums, bool row_sums) {
  using S = Sums<Tile, kRowSums>;
  const uint4* b_tile = stage + Tile::kRows * kDepth / kPiece;
  const int warp = threadIdx.x / 32;
  const int row = warp % Tile::kWarpsDown * Tile::kWarpRows,
            column = warp / Tile::kWarpsDown * Tile::kWarpColumns;
  CONVOY_UNROLL
  for (int step = 0; step < kDepth / 16; ++step) {
    uint32_t a[S::kDown][4], b[S::kAcross][2];
    CONVOY_UNROLL
    for (int m = 0; m < S::kDown; ++m) load_a(a[m], stage, LayoutA(), row + 16 * m, step);
    CONVOY_UNROLL
    for (int n = 0; n < S::kAcross; n += 2) {
      uint32_t two[4];
      load_b(two, b_tile, LayoutB(), column + 8 * n, step);
      b[n][0] = two[0], b[n][1] = two[1], b[n + 1][0] = two[2], b[n + 1][1] = two[3];
    }
    CONVOY_UNROLL
    for (int m = 0; m < S::kDown; ++m) CONVOY_UNROLL
    for (int n = 0; n < S::kAcross; ++n) mma_16x8x16<T>(sums.v[m][n], a[m], b[n]);
    if constexpr (kRowSums) {
      if (!row_sums) continue;
      const uint32_t ones[2] = {kOnes<T>, kOnes<T>};
      CONVOY_UNROLL
      for (int m = 0; m < S::kDown; ++m) mma_16x8x16<T>(sums.rows[m], a[m], ones);
    }
  }
}

// sums += A · B over the depths [first, end); `row_sums` is the same for all lanes of a warp. Ends with the ring free
// for other use.
template <class T, class Tile, class A, class B, bool kRowSums>
__device__ void run(A& a, B& b, int first, int end, uint4* ring, Sums<Tile, kRowSums>& sums, bool row_sums) {
  using LayoutA = typename A::Layout;
  using LayoutB = typename B::Layout;
  constexpr int kOffset = Tile::kRows * kDepth / kPiece;
  const int steps = (end - first + kDepth - 1) / kDepth;
  if constexpr (Tile::kAsync) {
    const auto start = [&](int step) {
      if (step < steps) {
        uint4* stage = ring + step % Tile::kStages * Tile::kStagePieces;
        a.start_copies(first + step * kDepth, stage);
        b.start_copies(first + step * kDepth, stage + kOffset);
      }
      cp_async_commit();  // an empty group keeps the count of those in flight
    };
    CONVOY_UNROLL
    for (int step = 0; step < Tile::kStages - 1; ++step) start(step);
    for (int step = 0; step < steps; ++step) {
      cp_async_wait<Tile::kStages - 2>();
      __syncthreads();  // the step's copies are there for all, and the stage before is free
      start(step + Tile::kStages - 1);
      multiply<T, Tile, LayoutA, LayoutB>(ring + step % Tile::kStages * Tile::kStagePieces, sums, row_sums);
    }
    cp_async_wait<0>();
  } else {
    if (steps > 0) {
      a.fetch(first);
      b.fetch(first);
    }
    for (int step = 0; step < steps; ++step) {
      uint4* stage = ring + step % 2 * Tile::kStagePieces;
      a.put(stage);
      b.put(stage + kOffset);
      __syncthreads();
      if (step + 1 < steps) {
        a.fetch(first + (step + 1) * kDepth);
        b.fetch(first + (step + 1) * kDepth);
      }
      multiply<T, Tile, LayoutA, LayoutB>(stage, sums, row_sums);
    }
  }
  __syncthreads();
}

// The block's sums to to[blockIdx.y, rows, columns].
template <class Tile, bool kRowSums>
__device__ void store_sums(float* to, const TileStart<Tile::kRows, Tile::kColumns>& start, int rows,
                           int columns, bool add, const Sums<Tile, kRowSums>& sums) {
  using S = Sums<Tile, kRowSums>;
  CONVOY_UNROLL
  for (int m = 0; m < S::kDown; ++m) CONVOY_UNROLL
  for (int i = 0; i < 4; i += 2) {
    const int row = start.row + S::row(m, i);
    if (row >= rows) continue;
    float* line = to + (int64_t{blockIdx.y} * rows + row) * columns;
    CONVOY_UNROLL
    for (int n = 0; n < S::kAcross; ++n) {
      const int column = start.column + S::column(n, 0);
      const float left = sums.v[m][n][i], right = sums.v[m][n][i + 1];
      if (column + 1 < columns && !add && reinterpret_cast<uintptr_t>(line + column) % 8 == 0) {
        *reinterpret_cast<float2*>(line + column) = make_float2(left, right);
        continue;
      }
      if (column < columns) line[column] = add ? line[column] + left : left;
      if (column + 1 < columns) line[column + 1] = add ? line[column + 1] + right : right;
    }
  }
}

}  // namespace convoy::cuda::mma
