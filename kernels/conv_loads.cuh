// Tiles of a convolution's operands on their way to shared memory as f32, turned so that their lines lie side by side:
// for conv_simt.cu and conv_tf32.cu. Any shape and dtype.
#pragma once
#include "kernels/conv_geometry.cuh"

namespace convoy::cuda::loads {

constexpr int kThreads = 256;
constexpr int kPieces = 4;  // of each operand's tile, a thread

// A tile holds kTile lines (rows of one operand, columns of the other) of kDepth. Threads take kPieces elements of it
// either at one depth, where memory runs along the depth, or of one line, where it runs along the lines.
template <int kTile, int kPad>
struct Place {
  static constexpr int kDepth = kThreads * kPieces / kTile;
  static constexpr int kPitch = kTile + kPad;  // floats between depths
  static_assert(kThreads % kTile == 0 && kThreads % kDepth == 0, "a pass takes whole depths or lines");

  __device__ static int deep_depth() { return threadIdx.x % kDepth; }
  __device__ static int deep_line(int i) { return threadIdx.x / kDepth + i * (kThreads / kDepth); }
  __device__ static int wide_depth(int i) { return threadIdx.x / kTile + i * (kThreads / kTile); }
  __device__ static int wide_line() { return threadIdx.x % kTile; }
};

template <class T, int kTile_, bool kBackward, int kPad>
class CorrelationLoads {
 public:
  static constexpr int kTile = kTile_;
  using Problem = Correlation<T>;
  using At = Place<kTile, kPad>;

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

template <class T, int kTile_, int kPad>
class GradientLoads {
 public:
  static constexpr int kTile = kTile_;
  using Problem = Gradient<T>;
  using At = Place<kTile, kPad>;

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

}  // namespace convoy::cuda::loads
