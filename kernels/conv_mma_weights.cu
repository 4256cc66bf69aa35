// Backward weights on tensor cores. Memory runs along the lines of both operands: rows of pixels.
#include "kernels/conv_mma.cuh"

namespace convoy::cuda {
namespace {

using namespace mma;

// A: a line is a filter, its dy at the pixels the depth.
template <class T, int kLines>
class GradientRows {
 public:
  using Layout = Wide<kLines>;
  const bool aligned;

  __device__ GradientRows(const Gradient<T>& p, int row)
      : aligned(p.dy_aligned), p_(p), row_(row + Layout::line(0)) {}
  __device__ const uint16_t* memory() const { return reinterpret_cast<const uint16_t*>(p_.dy); }
  __device__ void at(int k0) { k0_ = k0; }
  __device__ const uint16_t* piece(int i) const { return element(i, 0); }
  __device__ const uint16_t* element(int i, int e) const {
    const int pixel = k0_ + Layout::depth(i), row = row_ + e;
    return pixel < p_.depth && row < p_.rows ? memory() + int64_t{pixel} * p_.rows + row : nullptr;
  }

 private:
  const Gradient<T>& p_;
  int row_, k0_ = 0;
};

// B: a line is a tap and a channel.
template <class T, int kLines>
class ImageColumns {
 public:
  using Layout = Wide<kLines>;
  const bool aligned;

  __device__ ImageColumns(const Gradient<T>& p, int column)
      : aligned(p.image_aligned),
        p_(p),
        column_(column + Layout::line(0)),
        tap_(p.windows.by_taps(column_)) {}
  __device__ const uint16_t* memory() const { return reinterpret_cast<const uint16_t*>(p_.image); }
  __device__ void at(int k0) {
    CONVOY_UNROLL
    for (int i = 0; i < Layout::kCount; ++i) windows_[i] = p_.windows.at(k0 + Layout::depth(i), p_.depth);
  }
  __device__ const uint16_t* piece(int i) const { return find(i, column_, tap_); }
  __device__ const uint16_t* element(int i, int e) const {
    return find(i, column_ + e, p_.windows.by_taps(column_ + e));
  }

 private:
  __device__ const uint16_t* find(int i, int column, int tap) const {
    const int j = column - tap * p_.windows.taps_pitch;
    const bool in = column < p_.columns && p_.windows.inside(windows_[i], tap, j);
    return in ? memory() + p_.windows.element(windows_[i], tap, j) : nullptr;
  }
  const Gradient<T>& p_;
  int column_, tap_;
  Window windows_[Layout::kCount];
};

// The pieces on their way and the sums of rows take registers as well.
template <class Tile>
constexpr int kBlocks = !Tile::kAsync && Tile::kBlocks == 3 ? 2 : Tile::kBlocks;

template <class T, class Tile>
__global__ void __launch_bounds__(kThreads, kBlocks<Tile>) gradient_kernel(const Gradient<T> p) {
  if constexpr (kHasProducts<T, Tile::kAsync>) {
    CONVOY_DYNAMIC_SHARED(uint4, ring);
    const TileStart<Tile::kRows, Tile::kColumns> start(p.columns);
    Operand<GradientRows<T, Tile::kRows>, Tile::kAsync, Reuse::kLate> a(p, start.row);
    Operand<ImageColumns<T, Tile::kColumns>, Tile::kAsync, Reuse::kSoon> b(p, start.column);
    Sums<Tile, true> sums;
    const bool row_sums = p.db != nullptr && start.column == 0 && threadIdx.x / 32 / Tile::kWarpsDown == 0;
    const int64_t first = int64_t{blockIdx.y} * p.chunk, end = first + p.chunk;
    run<T, Tile>(a, b, static_cast<int>(first), static_cast<int>(end < p.depth ? end : p.depth), ring, sums,
                 row_sums);
    store_sums(p.dw, start, p.rows, p.columns, p.add, sums);
    if (!row_sums || threadIdx.x % 4 != 0) return;
    CONVOY_UNROLL
    for (int m = 0; m < Sums<Tile, true>::kDown; ++m) CONVOY_UNROLL
    for (int i = 0; i < 4; i += 2) {
      const int row = start.row + Sums<Tile, true>::row(m, i);
      if (row >= p.rows) continue;
      float* to = p.db + int64_t{blockIdx.y} * p.rows + row;
      *to = p.add ? *to + sums.rows[m][i] : sums.rows[m][i];
    }
  }
}

template <class T, class Tile>
void launch(Exec& ex, const Gradient<T>& p) {
  const Tiling tiling{Tile::kRows, Tile::kColumns};
  CONVOY_LAUNCH((gradient_kernel<T, Tile>), tiling.grid(p), dim3(kThreads), Tile::kBytes, stream(ex), p);
  CONVOY_CUDA(cudaGetLastError());
}

}  // namespace

template <class T>
void mma_backward_weights(Exec& ex, const Gradient<T>& p, const Tiling& t, bool async) {
  if (async) {
    if (t.rows == 128) return launch<T, Tile<128, 128, 2, true>>(ex, p);
    if (t.columns == 128) return launch<T, Tile<64, 128, 2, true>>(ex, p);
    return launch<T, Tile<64, 64, 2, true>>(ex, p);
  }
  if (t.columns == 128) return launch<T, Tile<64, 128, 2, false>>(ex, p);
  launch<T, Tile<64, 64, 2, false>>(ex, p);
}

template void mma_backward_weights<__nv_bfloat16>(Exec&, const Gradient<__nv_bfloat16>&, const Tiling&, bool);
template void mma_backward_weights<__half>(Exec&, const Gradient<__half>&, const Tiling&, bool);

}  // namespace convoy::cuda
