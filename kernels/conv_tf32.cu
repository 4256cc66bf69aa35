// Convolution of f32 on tensor cores that round its operands to TF32 (Exec::tf32, sm_80): conv_simt.cu with another
// product. 8 warps share a tile of the result: two down, four across. Sums of dy for the bias are plain f32.
#include "kernels/conv_loads.cuh"
#include "kernels/mma.cuh"

namespace convoy::cuda {
namespace {

using namespace loads;

constexpr int kPad = 8;  // the fragments' 4 depths of 8 lines lie in 32 different banks

// A warp's part of the tile: products of 16 rows and 8 columns.
template <int kTile>
struct Part {
  static constexpr int kDown = kTile / 2 / 16, kAcross = kTile / 4 / 8;
  float v[kDown][kAcross][4] = {};

  __device__ static int row(int m) {
    return threadIdx.x / 32 / 4 * (kTile / 2) + 16 * m + threadIdx.x % 32 / 4;
  }
  __device__ static int column(int n) { return threadIdx.x / 32 % 4 * (kTile / 4) + 8 * n; }
};

template <int kTile, int kDepth, int kPitch>
__device__ void multiply(const uint32_t* a_tile, const uint32_t* b_tile, Part<kTile>& part) {
  using P = Part<kTile>;
  const int t = threadIdx.x % 4, g = threadIdx.x % 32 / 4;
  CONVOY_UNROLL
  for (int k = 0; k < kDepth; k += 8) {
    const uint32_t *a_near = a_tile + (k + t) * kPitch, *b_near = b_tile + (k + t) * kPitch;
    uint32_t a[P::kDown][4], b[P::kAcross][2];
    CONVOY_UNROLL
    for (int m = 0; m < P::kDown; ++m) CONVOY_UNROLL
    for (int i = 0; i < 4; ++i) a[m][i] = a_near[i / 2 * 4 * kPitch + P::row(m) + i % 2 * 8];
    CONVOY_UNROLL
    for (int n = 0; n < P::kAcross; ++n) CONVOY_UNROLL
    for (int i = 0; i < 2; ++i) b[n][i] = b_near[i * 4 * kPitch + P::column(n) + g];
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
    CONVOY_UNROLL
    for (int m = 0; m < P::kDown; ++m) CONVOY_UNROLL
    for (int n = 0; n < P::kAcross; ++n) mma_m16n8k8_tf32(part.v[m][n], a[m], b[n]);
#endif
  }
}

template <int kTile>
__device__ void finish(const Correlation<float>& p, const TileStart<kTile, kTile>& start,
                       const Part<kTile>& part) {
  using P = Part<kTile>;
  const bool pooled = p.pool_index != nullptr && p.parts == nullptr;
  CONVOY_UNROLL
  for (int m = 0; m < P::kDown; ++m) CONVOY_UNROLL
  for (int n = 0; n < P::kAcross; ++n) CONVOY_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int row = start.row + P::row(m) + i / 2 * 8;
    const int column = start.column + P::column(n) + threadIdx.x % 4 * 2 + i % 2;
    const float v = part.v[m][n][i];
    if (pooled) {  // the four rows of a window lie in lanes 4 apart
      const float window[4] = {v, __shfl_xor_sync(0xffffffffu, v, 4), __shfl_xor_sync(0xffffffffu, v, 8),
                               __shfl_xor_sync(0xffffffffu, v, 12)};
      if (row % 4 == 0 && row < p.rows && column < p.columns)
        finish_window(p, row / 4, column, [&](int j) { return window[j]; });
      continue;
    }
    if (row >= p.rows || column >= p.columns) continue;
    if (p.parts != nullptr) {
      p.parts[(int64_t{blockIdx.y} * p.rows + row) * p.columns + column] = v;
      continue;
    }
    const int64_t at = p.result_row(row) + column;
    p.result[at] = p.finish(v, column, at);
  }
}
template <int kTile>
__device__ void finish(const Gradient<float>& p, const TileStart<kTile, kTile>& start,
                       const Part<kTile>& part) {
  using P = Part<kTile>;
  CONVOY_UNROLL
  for (int m = 0; m < P::kDown; ++m) CONVOY_UNROLL
  for (int n = 0; n < P::kAcross; ++n) CONVOY_UNROLL
  for (int i = 0; i < 4; ++i) {
    const int row = start.row + P::row(m) + i / 2 * 8;
    const int column = start.column + P::column(n) + threadIdx.x % 4 * 2 + i % 2;
    if (row >= p.rows || column >= p.columns) continue;
    float* to = p.dw + (int64_t{blockIdx.y} * p.rows + row) * p.columns + column;
    *to = p.add ? *to + part.v[m][n][i] : part.v[m][n][i];
  }
}

// Templates: below sm_80 nothing asks for these.
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
  if (row >= p.rows) return;
  float* to = p.db + int64_t{blockIdx.y} * p.rows + row;
  *to = p.add ? *to + sum : sum;
}

template <class Loads>
__global__ void __launch_bounds__(kThreads, 2) tf32_kernel(const typename Loads::Problem p) {
#if CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
  constexpr int kTile = Loads::kTile, kDepth = Loads::At::kDepth, kPitch = Loads::At::kPitch;
  CONVOY_SHARED(uint32_t, tiles, [2][2][kDepth * kPitch]);
  CONVOY_SHARED(int4, windows, [kTile]);
  const TileStart<kTile, kTile> start(p.columns);
  const Loads loads(p, start.row, start.column, windows);
  __syncthreads();
  const bool rows_too = sums_rows(p) && start.column == 0;
  Part<kTile> part;
  float a[kPieces], b[kPieces], row_sum = 0;  // of a thread's line, where its pieces are of one
  const auto put = [&](int buffer) {
    CONVOY_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      tiles[buffer][0][Loads::a_place(i)] = to_tf32(a[i]);
      tiles[buffer][1][Loads::b_place(i)] = to_tf32(b[i]);
      row_sum += a[i];
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
    multiply<kTile, kDepth, kPitch>(tiles[buffer][0], tiles[buffer][1], part);
    if (more) put(buffer ^ 1);
    buffer ^= 1;
    __syncthreads();
  }
  finish(p, start, part);
  if (!rows_too) return;
  constexpr int kSharers = kThreads / kTile;  // threads of a line
  float* sums = reinterpret_cast<float*>(tiles[0][0]);
  static_assert(kThreads <= kDepth * kPitch, "the sums fit");
  sums[threadIdx.x] = row_sum;
  __syncthreads();
  if (threadIdx.x >= kTile) return;
  float sum = 0;
  for (int i = 0; i < kSharers; ++i) sum += sums[threadIdx.x + i * kTile];
  finish_row(p, start.row + threadIdx.x, sum);
#endif
}

template <class Loads>
void launch(Exec& ex, const typename Loads::Problem& p) {
  const Tiling tiling{Loads::kTile, Loads::kTile};
  CONVOY_LAUNCH((tf32_kernel<Loads>), tiling.grid(p), dim3(kThreads), 0, stream(ex), p);
  CONVOY_CUDA(cudaGetLastError());
}

template <bool kBackward>
void correlate(Exec& ex, const Correlation<float>& p) {
  const int64_t large_tiles = (int64_t{p.rows} + 127) / 128 * ((int64_t{p.columns} + 127) / 128);
  if (p.columns > 64 && large_tiles >= queue(ex).multiprocessors)
    return launch<CorrelationLoads<float, 128, kBackward, kPad>>(ex, p);
  launch<CorrelationLoads<float, 64, kBackward, kPad>>(ex, p);
}

}  // namespace

void tf32_forward(Exec& ex, const Correlation<float>& p) {
  correlate<false>(ex, p);
}
void tf32_backward_data(Exec& ex, const Correlation<float>& p) {
  correlate<true>(ex, p);
}
void tf32_backward_weights(Exec& ex, const Gradient<float>& p, const Tiling& tiling) {
  if (tiling.rows == 128) return launch<GradientLoads<float, 128, kPad>>(ex, p);
  launch<GradientLoads<float, 64, kPad>>(ex, p);
}

}  // namespace convoy::cuda
