// Work on matrices of rows x columns, and sums of their columns. A thread owns some columns that lie together, keeps
// in registers what belongs to them, and goes down the rows.
#pragma once
#include <algorithm>
#include <type_traits>

#include "kernels/each.cuh"

namespace convoy::cuda {

constexpr int kRowsThreads = 256;
constexpr int64_t kRowsBlocks = 512;  // wanted: a few for every multiprocessor
constexpr int64_t kRun = 128;         // rows that a thread goes down at most

template <int kWidth, class T>
__device__ __forceinline__ void load_floats(const T* from, float (&to)[kWidth]) {
  const Pack<T, kWidth> pack = load<kWidth>(from);
  for (int i = 0; i < kWidth; ++i) to[i] = static_cast<float>(pack.v[i]);
}

// How rows and columns are dealt to blocks: by the shape alone, whatever the vectors that the addresses allow.
struct RowsGrid {
  int64_t rows = 0, columns = 0;
  int width = 1;                  // columns of a thread, where addresses allow it
  unsigned across = 1, down = 1;  // threads of a block
  int64_t per_block = 1;          // rows
  int64_t chunks = 0;             // blocks that share the rows

  RowsGrid(int64_t rows_, int64_t columns_, int vector) : rows(rows_), columns(columns_) {
    width = columns % vector == 0 ? vector : 1;
    const int64_t owners = std::max<int64_t>(1, columns / width);
    while (across < 32 && across < owners) across *= 2;
    down = kRowsThreads / across;
    const int64_t side_by_side = (owners + across - 1) / across;
    const int64_t wanted = (rows * side_by_side + down * kRowsBlocks - 1) / (down * kRowsBlocks);
    per_block = down * std::min(kRun, std::max<int64_t>(4, wanted));
    chunks = (rows + per_block - 1) / per_block;
  }
  dim3 grid(int columns_each) const {
    const int64_t owners = (columns + columns_each - 1) / columns_each;
    const int64_t side_by_side = (owners + across - 1) / across;
    CONVOY_CHECK(side_by_side <= 65535 && chunks < (int64_t{1} << 31), rows, " x ", columns, " is too large");
    return dim3(static_cast<unsigned>(chunks), static_cast<unsigned>(side_by_side));
  }
  dim3 block() const { return dim3(across, down); }
};

// Whether vectors of `width` elements from `data` on, with rows `stride` elements apart, can be loaded at once.
template <class T>
bool vectors(int width, const T* data, int64_t stride) {
  const int64_t bytes = std::min<int64_t>(kVectorBytes, width * static_cast<int64_t>(sizeof(T)));
  return aligned(bytes, data) && (data == nullptr || stride % width == 0);
}

// body(std::integral_constant<int, w>()) with w = kVector or 1.
template <int kVector, class Body>
void with_width(bool vectorised, const Body& body) {
  if (vectorised) {
    body(std::integral_constant<int, kVector>());
  } else {
    body(std::integral_constant<int, 1>());
  }
}

// f.apply(row, column, factors) for every row and every kWidth-th column, factors = f.prepare(column).
template <class F>
__global__ void __launch_bounds__(kRowsThreads)
    rows_kernel(int64_t rows, int64_t columns, int64_t per_block, F f) {
  const int64_t column = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * F::kWidth;
  if (column >= columns) return;
  const auto factors = f.prepare(column);
  const int64_t first = int64_t{blockIdx.x} * per_block, end = first + per_block,
                last = end < rows ? end : rows;
  for (int64_t row = first + threadIdx.y; row < last; row += blockDim.y) f.apply(row, column, factors);
}
template <class F>
void for_rows(const Exec& ex, const RowsGrid& g, const F& f) {
  if (g.rows == 0 || g.columns == 0) return;
  CONVOY_LAUNCH(rows_kernel<F>, g.grid(F::kWidth), g.block(), 0, stream(ex), g.rows, g.columns, g.per_block,
                f);
  CONVOY_CUDA(cudaGetLastError());
}

// ---- Sums of columns. In f32 down a thread's rows (at most kRun), in double from there on, in two steps:
// partial[chunk][kSums][columns], then their totals.
template <class Terms>
__global__ void __launch_bounds__(kRowsThreads)
    column_sums_kernel(int64_t rows, int64_t columns, int64_t per_block, Terms terms, double* partial) {
  constexpr int kWidth = Terms::kWidth, kSums = Terms::kSums;
  CONVOY_SHARED(float, sums, [kSums][kRowsThreads * kWidth]);
  const int wide = static_cast<int>(blockDim.x) * kWidth, own_column = static_cast<int>(threadIdx.x) * kWidth;
  const int64_t block_column = int64_t{blockIdx.y} * wide, column = block_column + own_column;
  const int64_t first = int64_t{blockIdx.x} * per_block, end = first + per_block,
                last = end < rows ? end : rows;
  float own[kSums][kWidth] = {};
  if (column < columns) {
    const auto factors = terms.prepare(first, column);
    for (int64_t row = first + threadIdx.y; row < last; row += blockDim.y)
      terms.add(row, column, factors, own);
  }
  for (int s = 0; s < kSums; ++s)
    for (int i = 0; i < kWidth; ++i) sums[s][threadIdx.y * wide + own_column + i] = own[s][i];
  __syncthreads();
  for (int c = threadIdx.y * blockDim.x + threadIdx.x; c < wide && block_column + c < columns;
       c += kRowsThreads) {
    double total[kSums] = {};
    for (int s = 0; s < kSums; ++s)
      for (unsigned y = 0; y < blockDim.y; ++y) total[s] += sums[s][y * wide + c];
    terms.finish(first, last - first, block_column + c, total);
    for (int s = 0; s < kSums; ++s)
      partial[(int64_t{blockIdx.x} * kSums + s) * columns + block_column + c] = total[s];
  }
}

constexpr int kTotalsColumns = 8, kTotalsRows = 32;

// totals.add(partial, chunk, column, sums) in every chunk, then totals.store(column, sums).
template <class Totals>
__global__ void __launch_bounds__(kTotalsColumns* kTotalsRows)
    column_totals_kernel(int64_t chunks, int64_t columns, const double* partial, Totals totals) {
  constexpr int kSums = Totals::kSums;
  CONVOY_SHARED(double, sums, [kSums][kTotalsRows][kTotalsColumns]);
  const int64_t column = int64_t{blockIdx.x} * kTotalsColumns + threadIdx.x;
  double own[kSums] = {};
  if (column < columns)
    for (int64_t chunk = threadIdx.y; chunk < chunks; chunk += kTotalsRows)
      totals.add(partial + chunk * kSums * columns, columns, chunk, column, own);
  for (int s = 0; s < kSums; ++s) sums[s][threadIdx.y][threadIdx.x] = own[s];
  __syncthreads();
  if (threadIdx.y != 0 || column >= columns) return;
  for (int s = 0; s < kSums; ++s)
    for (int y = 1; y < kTotalsRows; ++y) own[s] += sums[s][y][threadIdx.x];
  totals.store(column, own);
}

inline int64_t column_sums_bytes(const RowsGrid& g, int sums) {
  return g.chunks * sums * g.columns * static_cast<int64_t>(sizeof(double));
}
template <class Terms, class Totals>
void column_sums(const Exec& ex, const RowsGrid& g, const Terms& terms, const Totals& totals) {
  static_assert(Terms::kSums == Totals::kSums, "two halves of the same sums");
  if (g.columns == 0) return;
  double* partial = scratch<double>(ex, g.chunks * Terms::kSums * g.columns);
  if (g.chunks > 0) {
    CONVOY_LAUNCH(column_sums_kernel<Terms>, g.grid(Terms::kWidth), g.block(), 0, stream(ex), g.rows,
                  g.columns, g.per_block, terms, partial);
    CONVOY_CUDA(cudaGetLastError());
  }
  const dim3 blocks(static_cast<unsigned>((g.columns + kTotalsColumns - 1) / kTotalsColumns));
  CONVOY_LAUNCH(column_totals_kernel<Totals>, blocks, dim3(kTotalsColumns, kTotalsRows), 0, stream(ex),
                g.chunks, g.columns, partial, totals);
  CONVOY_CUDA(cudaGetLastError());
}

// What sums that are just added up need beyond add() and store().
struct PlainSums {
  __device__ void finish(int64_t, int64_t, int64_t, const double*) const {}
};
template <int kCount>
struct PlainTotals {
  static constexpr int kSums = kCount;
  __device__ void add(const double* partial, int64_t columns, int64_t, int64_t column,
                      double (&sums)[kCount]) const {
    for (int s = 0; s < kCount; ++s) sums[s] += partial[s * columns + column];
  }
};

}  // namespace convoy::cuda
