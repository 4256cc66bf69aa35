// Convolution in plain f32 arithmetic, for any shape and dtype: what the faster kernels are compared with.
// 256 threads share tiles of both operands and hold a square of the result each in registers; the next tiles are on their
// way while these are multiplied.
#include "kernels/conv_loads.cuh"

namespace convoy::cuda {
namespace {

using namespace loads;

constexpr int kPad = 4;  // 16-byte pieces, and few bank conflicts

// Four neighbours of a row of the result, of which `count` exist.
template <class T>
struct alignas(4 * sizeof(T)) Four {
  T v[4];
};
template <class T>
__device__ void store(T* to, const Four<T>& values, int count) {
  if (count >= 4 && reinterpret_cast<uintptr_t>(to) % sizeof(values) == 0) {
    *reinterpret_cast<Four<T>*>(to) = values;
    return;
  }
  CONVOY_UNROLL
  for (int i = 0; i < 4; ++i)
    if (i < count) to[i] = values.v[i];
}
template <class T>
__device__ void finish(const Correlation<T>& p, int row, int column, const float (&sums)[4]) {
  const int count = p.columns - column;
  if (p.parts != nullptr) {
    const int64_t at = (int64_t{blockIdx.y} * p.rows + row) * p.columns + column;
    return store(p.parts + at, {sums[0], sums[1], sums[2], sums[3]}, count);
  }
  const int64_t at = p.result_row(row) + column;
  Four<T> values;
  CONVOY_UNROLL
  for (int i = 0; i < 4; ++i) values.v[i] = i < count ? p.finish(sums[i], column + i, at + i) : T(0.0f);
  store(p.result + at, values, count);
}
template <class T>
__device__ void finish(const Gradient<T>& p, int row, int column, const float (&sums)[4]) {
  float* to = p.dw + (int64_t{blockIdx.y} * p.rows + row) * p.columns + column;
  CONVOY_UNROLL
  for (int i = 0; i < 4; ++i)
    if (column + i < p.columns) to[i] = p.add ? to[i] + sums[i] : sums[i];
}

template <class T>
__device__ bool pools(const Correlation<T>& p) {
  return p.pool_index != nullptr && p.parts == nullptr;
}
template <class T>
__device__ bool pools(const Gradient<T>&) {
  return false;
}
template <class T, class Sum>
__device__ void finish_window(const Gradient<T>&, int, int, const Sum&) {}

template <class T>
__device__ bool sums_rows(const Correlation<T>&) {
  return false;
}
template <class T>
__device__ bool sums_rows(const Gradient<T>& p) {
  return p.db != nullptr;
}
template <class T>
__device__ void finish_row(const Correlation<T>&, int, float) {}
template <class T>
__device__ void finish_row(const Gradient<T>& p, int row, float sum) {
  float* to = p.db + int64_t{blockIdx.y} * p.rows + row;
  *to = p.add ? *to + sum : sum;
}

template <class Loads>
__global__ void __launch_bounds__(kThreads, 2) simt_kernel(const typename Loads::Problem p) {
  constexpr int kTile = Loads::kTile, kDepth = Loads::At::kDepth, kPitch = Loads::At::kPitch;
  constexpr int kGroups = kTile / 64;  // of four rows and four columns of the result, a thread; 64 apart
  constexpr int kEach = 4 * kGroups;
  CONVOY_SHARED(float4, tiles, [2][2][kDepth * kPitch / 4]);
  const TileStart<kTile, kTile> start(p.columns);
  CONVOY_SHARED(int4, windows, [kTile]);
  const Loads loads(p, start.row, start.column, windows);
  __syncthreads();
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  const bool rows_too = sums_rows(p) && start.column == 0;
  float sums[kEach][kEach] = {}, row_sums[kEach] = {}, a[kPieces], b[kPieces];

  const auto put = [&](int buffer) {
    float* a_tile = reinterpret_cast<float*>(tiles[buffer][0]);
    float* b_tile = reinterpret_cast<float*>(tiles[buffer][1]);
    CONVOY_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      a_tile[Loads::a_place(i)] = a[i];
      b_tile[Loads::b_place(i)] = b[i];
    }
  };
  const int64_t first = int64_t{blockIdx.y} * p.chunk;
  const int end = static_cast<int>(first + p.chunk < p.depth ? first + p.chunk : p.depth);
  int buffer = 0;
  if (first < end) {
    loads.fetch(static_cast<int>(first), a, b);
    put(0);
  }
  __syncthreads();
  for (int k0 = static_cast<int>(first); k0 < end; k0 += kDepth) {
    const bool more = k0 + kDepth < end;
    if (more) loads.fetch(k0 + kDepth, a, b);
    CONVOY_UNROLL
    for (int k = 0; k < kDepth; ++k) {
      float u[kEach], v[kEach];
      CONVOY_UNROLL
      for (int g = 0; g < kGroups; ++g) {
        const float4 left = tiles[buffer][0][(k * kPitch) / 4 + ty + 16 * g];
        const float4 right = tiles[buffer][1][(k * kPitch) / 4 + tx + 16 * g];
        u[4 * g] = left.x, u[4 * g + 1] = left.y, u[4 * g + 2] = left.z, u[4 * g + 3] = left.w;
        v[4 * g] = right.x, v[4 * g + 1] = right.y, v[4 * g + 2] = right.z, v[4 * g + 3] = right.w;
      }
      CONVOY_UNROLL
      for (int i = 0; i < kEach; ++i) CONVOY_UNROLL
      for (int j = 0; j < kEach; ++j) sums[i][j] += u[i] * v[j];
      if (!rows_too) continue;
      CONVOY_UNROLL
      for (int i = 0; i < kEach; ++i) row_sums[i] += u[i];
    }
    if (more) put(buffer ^ 1);
    buffer ^= 1;
    __syncthreads();
  }

  if (pools(p)) {  // a thread's four rows are a window
    CONVOY_UNROLL
    for (int i = 0; i < kEach; i += 4) {
      const int row = start.row + 4 * ty + i / 4 * 64;
      CONVOY_UNROLL
      for (int j = 0; j < kEach; ++j) {
        const int column = start.column + 4 * tx + j % 4 + j / 4 * 64;
        if (row < p.rows && column < p.columns)
          finish_window(p, row / 4, column, [&](int t) { return sums[i + t][j]; });
      }
    }
    return;
  }
  CONVOY_UNROLL
  for (int i = 0; i < kEach; ++i) {
    const int row = start.row + 4 * ty + i % 4 + i / 4 * 64;
    if (row >= p.rows) continue;
    CONVOY_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      const int column = start.column + 4 * tx + 64 * g;
      const float four[4] = {sums[i][4 * g], sums[i][4 * g + 1], sums[i][4 * g + 2], sums[i][4 * g + 3]};
      if (column < p.columns) finish(p, row, column, four);
    }
    if (rows_too && tx == 0) finish_row(p, row, row_sums[i]);
  }
}

template <class Loads>
void launch(Exec& ex, const typename Loads::Problem& p) {
  const Tiling tiling{Loads::kTile, Loads::kTile};
  CONVOY_LAUNCH((simt_kernel<Loads>), tiling.grid(p), dim3(kThreads), 0, stream(ex), p);
  CONVOY_CUDA(cudaGetLastError());
}

// The large tile reads less, the small one makes more blocks: where the large one would leave multiprocessors idle.
bool large_tile(int64_t rows, int64_t columns, int multiprocessors) {
  return columns > 64 && (rows + 127) / 128 * ((columns + 127) / 128) >= multiprocessors;
}

template <class T, bool kBackward>
void correlate(Exec& ex, const Correlation<T>& p) {
  if constexpr (std::is_same_v<T, float>)  // others come here only where tensor cores do not know them
    if (large_tile(p.rows, p.columns, queue(ex).multiprocessors))
      return launch<CorrelationLoads<T, 128, kBackward, kPad>>(ex, p);
  launch<CorrelationLoads<T, 64, kBackward, kPad>>(ex, p);
}

}  // namespace

template <class T>
void simt_forward(Exec& ex, const Correlation<T>& p) {
  correlate<T, false>(ex, p);
}
template <class T>
void simt_backward_data(Exec& ex, const Correlation<T>& p) {
  correlate<T, true>(ex, p);
}
template <class T>
void simt_backward_weights(Exec& ex, const Gradient<T>& p, const Tiling& tiling) {
  if constexpr (std::is_same_v<T, float>)
    if (tiling.rows == 128) return launch<GradientLoads<T, 128, kPad>>(ex, p);
  launch<GradientLoads<T, 64, kPad>>(ex, p);
}

#define CONVOY_SIMT(T)                                               \
  template void simt_forward<T>(Exec&, const Correlation<T>&);       \
  template void simt_backward_data<T>(Exec&, const Correlation<T>&); \
  template void simt_backward_weights<T>(Exec&, const Gradient<T>&, const Tiling&);
CONVOY_SIMT(float)
CONVOY_SIMT(__nv_bfloat16)
CONVOY_SIMT(__half)
#undef CONVOY_SIMT

}  // namespace convoy::cuda
