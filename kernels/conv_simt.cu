// Convolution in plain f32 arithmetic, for any shape and dtype: what the faster kernels are compared with.
// 256 threads share tiles of both operands, turned so that their lines lie side by side, and hold a square of the
// result each in registers; the next tiles are on their way while these are multiplied.
#include "kernels/conv_geometry.cuh"

namespace convoy::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPieces = 4;  // of each operand's tile, a thread

// A tile holds kTile lines (rows of one operand, columns of the other) of kDepth. Threads take kPieces elements of it
// either at one depth, where memory runs along the depth, or of one line, where it runs along the lines.
template <int kTile>
struct Place {
  static constexpr int kDepth = kThreads * kPieces / kTile;
  static constexpr int kPitch = kTile + 4;  // floats between depths: 16-byte aligned, and few bank conflicts
  static_assert(kThreads % kTile == 0 && kThreads % kDepth == 0, "a pass takes whole depths or lines");

  __device__ static int deep_depth() { return threadIdx.x % kDepth; }
  __device__ static int deep_line(int i) { return threadIdx.x / kDepth + i * (kThreads / kDepth); }
  __device__ static int wide_depth(int i) { return threadIdx.x / kTile + i * (kThreads / kTile); }
  __device__ static int wide_line() { return threadIdx.x % kTile; }
};

template <class T, int kTile_, bool kBackward>
class CorrelationLoads {
 public:
  static constexpr int kTile = kTile_;
  using Problem = Correlation<T>;
  using At = Place<kTile>;

  // `windows` is memory of the block for its rows: registers are short. To be used after a barrier.
  __device__ CorrelationLoads(const Problem& p, int row, int column, int4* windows)
      : p_(p), column_(column), windows_(windows) {
    if (threadIdx.x >= kTile) return;
    const Window at = p.windows.at(row + threadIdx.x, p.rows);
    windows[threadIdx.x] = make_int4(at.row, at.place, at.line, 0);
  }
  __device__ void fetch(int k0, float (&a)[kPieces], float (&b)[kPieces]) const {
    const int k = k0 + At::deep_depth();
    CONVOY_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      const int column = column_ + (kBackward ? At::wide_line() : At::deep_line(i));
      const int depth = kBackward ? k0 + At::wide_depth(i) : k;
      b[i] = 0;
      if (column >= p_.columns || depth >= p_.depth) continue;
      b[i] =
          static_cast<float>(p_.filters[kBackward ? p_.filter(depth) + column : column * p_.depth + depth]);
    }
    const int tap = p_.windows.by_taps(k), j = k - tap * p_.windows.taps_pitch;
    CONVOY_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      const int4 four = windows_[At::deep_line(i)];
      const Window at{four.x, four.y, four.z};
      const bool in = k < p_.depth && p_.windows.inside(at, tap, j);
      a[i] = in ? static_cast<float>(p_.image[p_.windows.element(at, tap, j)]) : 0.0f;
    }
  }
  __device__ static int a_place(int i) { return At::deep_depth() * At::kPitch + At::deep_line(i); }
  __device__ static int b_place(int i) {
    return kBackward ? At::wide_depth(i) * At::kPitch + At::wide_line() : a_place(i);
  }

 private:
  const Problem& p_;
  int column_;
  const int4* windows_;
};

template <class T, int kTile_>
class GradientLoads {
 public:
  static constexpr int kTile = kTile_;
  using Problem = Gradient<T>;
  using At = Place<kTile>;

  __device__ GradientLoads(const Problem& p, int row, int column, int4*)
      : p_(p), row_(row + At::wide_line()), column_(column + At::wide_line()) {
    tap_ = p.windows.by_taps(column_);
    j_ = column_ - tap_ * p.windows.taps_pitch;
  }
  __device__ void fetch(int k0, float (&a)[kPieces], float (&b)[kPieces]) const {
    CONVOY_UNROLL
    for (int i = 0; i < kPieces; ++i) {
      const int pixel = k0 + At::wide_depth(i);
      const Window window = p_.windows.at(pixel, p_.depth);
      const bool row = pixel < p_.depth && row_ < p_.rows;
      a[i] = row ? static_cast<float>(p_.dy[int64_t{pixel} * p_.rows + row_]) : 0.0f;
      const bool column = column_ < p_.columns && p_.windows.inside(window, tap_, j_);
      b[i] = column ? static_cast<float>(p_.image[p_.windows.element(window, tap_, j_)]) : 0.0f;
    }
  }
  __device__ static int a_place(int i) { return At::wide_depth(i) * At::kPitch + At::wide_line(); }
  __device__ static int b_place(int i) { return a_place(i); }

 private:
  const Problem& p_;
  int row_, column_, tap_, j_;
};

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
  constexpr int kTile = Loads::kTile, kDepth = Place<kTile>::kDepth, kPitch = Place<kTile>::kPitch;
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
      return launch<CorrelationLoads<T, 128, kBackward>>(ex, p);
  launch<CorrelationLoads<T, 64, kBackward>>(ex, p);
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
    if (tiling.rows == 128) return launch<GradientLoads<T, 128>>(ex, p);
  launch<GradientLoads<T, 64>>(ex, p);
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
