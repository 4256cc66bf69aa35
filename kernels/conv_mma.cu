// Forward and backward data on tensor cores.
#include "kernels/conv_mma.cuh"
#include "kernels/conv_store.cuh"

namespace convoy::cuda {
namespace {

using namespace mma;

// A: a line is a pixel of the result, its window of the image the depth.
template <class T, int kLines>
class ImageLines {
 public:
  using Layout = Deep<kLines>;
  const bool aligned;

  __device__ ImageLines(const Correlation<T>& p, int row) : aligned(p.image_aligned), p_(p) {
    CONVOY_UNROLL
    for (int i = 0; i < Layout::kCount; ++i) windows_[i] = p.windows.at(row + Layout::line(i), p.rows);
  }
  __device__ const uint16_t* memory() const { return reinterpret_cast<const uint16_t*>(p_.image); }
  __device__ void at(int k0) {
    k_ = k0 + Layout::depth(0);
    tap_ = p_.windows.by_taps(k_);
    j_ = k_ - tap_ * p_.windows.taps_pitch;
  }
  __device__ const uint16_t* piece(int i) const { return find(i, k_, tap_, j_); }
  __device__ const uint16_t* element(int i, int e) const {
    const int tap = p_.windows.by_taps(k_ + e);
    return find(i, k_ + e, tap, k_ + e - tap * p_.windows.taps_pitch);
  }

 private:
  __device__ const uint16_t* find(int i, int k, int tap, int j) const {
    const bool in = k < p_.depth && p_.windows.inside(windows_[i], tap, j);
    return in ? memory() + p_.windows.element(windows_[i], tap, j) : nullptr;
  }
  const Correlation<T>& p_;
  Window windows_[Layout::kCount];
  int k_ = 0, tap_ = 0, j_ = 0;
};

// B of forward: a line is a filter, whose weights lie along the depth.
template <class T, int kLines>
class FilterLines {
 public:
  using Layout = Deep<kLines>;
  const bool aligned;

  __device__ FilterLines(const Correlation<T>& p, int column)
      : aligned(p.filters_aligned), p_(p), column_(column) {}
  __device__ const uint16_t* memory() const { return reinterpret_cast<const uint16_t*>(p_.filters); }
  __device__ void at(int k0) { k_ = k0 + Layout::depth(0); }
  __device__ const uint16_t* piece(int i) const { return element(i, 0); }
  __device__ const uint16_t* element(int i, int e) const {
    const int column = column_ + Layout::line(i);
    return column < p_.columns && k_ + e < p_.depth ? memory() + column * p_.depth + k_ + e : nullptr;
  }

 private:
  const Correlation<T>& p_;
  int column_, k_ = 0;
};

// B of backward data: memory runs along the columns.
template <class T, int kLines>
class FilterColumns {
 public:
  using Layout = Wide<kLines>;
  const bool aligned;

  __device__ FilterColumns(const Correlation<T>& p, int column)
      : aligned(p.filters_aligned), p_(p), column_(column + Layout::line(0)) {}
  __device__ const uint16_t* memory() const { return reinterpret_cast<const uint16_t*>(p_.filters); }
  __device__ void at(int k0) { k0_ = k0; }
  __device__ const uint16_t* piece(int i) const { return element(i, 0); }
  __device__ const uint16_t* element(int i, int e) const {
    const int k = k0_ + Layout::depth(i), column = column_ + e;
    return k < p_.depth && column < p_.columns ? memory() + p_.filter(k) + column : nullptr;
  }

 private:
  const Correlation<T>& p_;
  int column_, k0_ = 0;
};

// The epilogue, and the tile to memory: through shared memory, so that a thread stores 8 neighbours, and sees all of a
// window of the 2x2 max pool: four rows.
template <class T, class Tile>
__device__ void store(const Correlation<T>& p, const TileStart<Tile::kRows, Tile::kColumns>& start,
                      const Sums<Tile, false>& sums, uint4* ring) {
  using S = Sums<Tile, false>;
  struct alignas(4) Two {
    T v[2];
  };
  constexpr int kPitch = Tile::kColumns + kPiece;  // rows 16 bytes further on: few bank conflicts
  static_assert(Tile::kRows * kPitch * 2 <= Tile::kBytes, "the ring holds the tile");
  T* tile = reinterpret_cast<T*>(ring);
  CONVOY_UNROLL
  for (int n = 0; n < S::kAcross; ++n) {
    float bias[2] = {};
    CONVOY_UNROLL
    for (int i = 0; i < 2; ++i) {
      const int column = start.column + S::column(n, i);
      if (p.bias != nullptr && column < p.columns) bias[i] = p.bias[column];
    }
    CONVOY_UNROLL
    for (int m = 0; m < S::kDown; ++m) CONVOY_UNROLL
    for (int i = 0; i < 4; i += 2) {
      float left = sums.v[m][n][i] + bias[0], right = sums.v[m][n][i + 1] + bias[1];
      if (p.relu && left < 0) left = 0;
      if (p.relu && right < 0) right = 0;
      *reinterpret_cast<Two*>(tile + S::row(m, i) * kPitch + S::column(n, i)) = {T(left), T(right)};
    }
  }
  __syncthreads();
  constexpr int kAcross = Tile::kColumns / kPiece;
  const int pooled = p.pool_index != nullptr ? 4 : 1;  // rows
  for (int i = threadIdx.x; i < Tile::kRows / pooled * kAcross; i += kThreads) {
    const int line = i / kAcross, row = start.row / pooled + line,
              column = start.column + i % kAcross * kPiece;
    if (row >= p.rows / pooled || column >= p.columns) continue;
    const T* from = tile + line * pooled * kPitch + i % kAcross * kPiece;
    Eight<T> values = *reinterpret_cast<const Eight<T>*>(from);
    Places places;
    for (int t = 1; t < pooled; ++t) {
      const Eight<T> others = *reinterpret_cast<const Eight<T>*>(from + t * kPitch);
      CONVOY_UNROLL
      for (int e = 0; e < kPiece; ++e) {
        if (!displaces(static_cast<float>(others.v[e]), static_cast<float>(values.v[e]))) continue;
        values.v[e] = others.v[e];
        places.v[e] = static_cast<uint8_t>(t);
      }
    }
    store_eight(p, p.result_row(row) + column, column, values, places);
  }
}

template <class T, class Tile, bool kBackward>
__global__ void __launch_bounds__(kThreads, Tile::kBlocks) correlation_kernel(const Correlation<T> p) {
  if constexpr (kHasProducts<T, Tile::kAsync>) {
    CONVOY_DYNAMIC_SHARED(uint4, ring);
    using Filters =
        std::conditional_t<kBackward, FilterColumns<T, Tile::kColumns>, FilterLines<T, Tile::kColumns>>;
    const TileStart<Tile::kRows, Tile::kColumns> start(p.columns);
    Operand<ImageLines<T, Tile::kRows>, Tile::kAsync, Reuse::kSoon> a(p, start.row);
    Operand<Filters, Tile::kAsync, Reuse::kLate> b(p, start.column);
    Sums<Tile, false> sums;
    const int64_t first = int64_t{blockIdx.y} * p.chunk, end = first + p.chunk;
    run<T, Tile>(a, b, static_cast<int>(first), static_cast<int>(end < p.depth ? end : p.depth), ring, sums,
                 false);
    if (p.parts != nullptr) {
      store_sums(p.parts, start, p.rows, p.columns, false, sums);
    } else {
      store<T, Tile>(p, start, sums, ring);
    }
  }
}

template <class T, class Tile, bool kBackward>
void launch(Exec& ex, const Correlation<T>& p) {
  const Tiling tiling{Tile::kRows, Tile::kColumns};
  CONVOY_LAUNCH((correlation_kernel<T, Tile, kBackward>), tiling.grid(p), dim3(kThreads), Tile::kBytes,
                stream(ex), p);
  CONVOY_CUDA(cudaGetLastError());
}

// The tile that takes the least time on the busiest multiprocessor. Smaller tiles read their operands more often:
// 64 rows and 64 columns take 1/32 of a read a product, 128 and 128 half of that.
Tiling choose_tiling(int64_t rows, int64_t columns, int64_t chunks, int multiprocessors, bool async) {
  Tiling best;
  double best_cost = 0;
  for (const Tiling t : {Tiling{64, 64}, Tiling{128, 64}, Tiling{128, 128}}) {
    if (t.columns == 128 && !async) continue;  // its tiles do not fit in registers as well
    const int64_t tiles = (rows + t.rows - 1) / t.rows * ((columns + t.columns - 1) / t.columns) * chunks;
    const double reads = 1.0 / t.rows + 1.0 / t.columns;
    const double cost = static_cast<double>((tiles + multiprocessors - 1) / multiprocessors) * t.rows *
                        t.columns * (1 + 32 * (reads - 1.0 / 64));
    if (best_cost > 0 && cost >= best_cost) continue;
    best_cost = cost;
    best = t;
  }
  return best;
}

template <class T, bool kBackward>
void correlate(Exec& ex, const Correlation<T>& p, bool async) {
  const Tiling t =
      choose_tiling(p.rows, p.columns, p.parts != nullptr ? (p.depth + p.chunk - 1) / p.chunk : 1,
                    queue(ex).multiprocessors, async);
  if (async) {
    if (t.columns == 128) return launch<T, Tile<128, 128, 2, true>, kBackward>(ex, p);
    if (t.rows == 128) return launch<T, Tile<128, 64, 2, true>, kBackward>(ex, p);
    return launch<T, Tile<64, 64, 2, true>, kBackward>(ex, p);
  }
  if (t.rows == 128) return launch<T, Tile<128, 64, 2, false>, kBackward>(ex, p);
  launch<T, Tile<64, 64, 2, false>, kBackward>(ex, p);
}

}  // namespace

template <class T>
void mma_forward(Exec& ex, const Correlation<T>& p, bool async) {
  correlate<T, false>(ex, p, async);
}
template <class T>
void mma_backward_data(Exec& ex, const Correlation<T>& p, bool async) {
  correlate<T, true>(ex, p, async);
}

#define CONVOY_MMA(T)                                               \
  template void mma_forward<T>(Exec&, const Correlation<T>&, bool); \
  template void mma_backward_data<T>(Exec&, const Correlation<T>&, bool);
CONVOY_MMA(__nv_bfloat16)
CONVOY_MMA(__half)
#undef CONVOY_MMA

}  // namespace convoy::cuda
