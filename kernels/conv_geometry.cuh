// The convolution passes as products of matrices, which the kernels of conv_*.cu never store as such:
//
//   Correlation  result[pixel, column] = sum over depth of image(pixel, depth) · filters(depth, column)
//                depth is (tap row, tap column, channel of the image): forward and backward data
//   Gradient     dw[row, column] = sum over depth of dy[depth, row] · image(depth, column)
//                row is a filter, column (tap row, tap column, channel), depth a pixel of dy
//
// image(pixel, (t, j)), with j = (tap column · channels + channel), is the element t rows and j elements after
// the start of the pixel's window: taps of one row lie side by side in memory.
#pragma once
#include "kernels/conv.h"
#include "kernels/cuda.h"
#include "kernels/launch.cuh"

namespace convoy::cuda {

// n / divisor for n < 2^31, by a multiplication (Granlund and Montgomery, "Division by invariant integers
// using multiplication", 1994).
struct Divide {
  uint32_t multiplier = 0;  // 0: the divisor is 1
  uint32_t shift = 0;

  Divide() = default;
  explicit Divide(int64_t divisor) {
    if (divisor <= 1) return;
    while ((int64_t{2} << shift) < divisor) ++shift;  // 2^shift < divisor <= 2^(shift + 1)
    multiplier = static_cast<uint32_t>(((uint64_t{1} << (32 + shift)) + divisor - 1) / divisor);
  }
  __device__ int operator()(int n) const {
    return multiplier == 0 ? n : static_cast<int>(__umulhi(static_cast<unsigned>(n), multiplier) >> shift);
  }
};

// One axis of a correlation: output o, which lies at first + o·step of the result, sees at tap t the input
// o·input_step + offset + t, times the filter's tap filter_first + t·filter_step.
struct Axis {
  int outputs = 0, first = 0, step = 1, input_step = 1, offset = 0, taps = 0, inputs = 0;
  int filter_first = 0, filter_step = 1;
};

// Where a pixel's window of the image starts: its row, its column times the channels, both negative in the
// padding, and its row counted through all images.
struct Window {
  int row, place, line;
};

struct Windows {
  Axis h, w;
  int channels = 0;
  int pitch = 0, taps_pitch = 0;  // elements of a row of the image, and of a row of taps
  bool pooled = false;            // h and w count windows of 2x2 outputs, whose pixels follow each other
  Divide by_image, by_width, by_taps;

  __device__ Window at(int pixel, int pixels) const {
    if (pixel >= pixels) return {-(1 << 30), 0, 0};  // every tap lies outside
    const int place = pooled ? pixel / 4 : pixel;
    const int image = by_image(place), rest = place - image * (h.outputs * w.outputs);
    int y = by_width(rest), x = rest - y * w.outputs;
    if (pooled) {
      y = 2 * y + pixel % 4 / 2;
      x = 2 * x + pixel % 2;
    }
    const int row = y * h.input_step + h.offset, column = x * w.input_step + w.offset;
    return {row, column * channels, image * h.inputs + row};
  }
  __device__ bool inside(const Window& at, int tap, int j) const {
    return static_cast<unsigned>(at.row + tap) < static_cast<unsigned>(h.inputs) &&
           static_cast<unsigned>(at.place + j) < static_cast<unsigned>(pitch);
  }
  __device__ int64_t element(const Window& at, int tap, int j) const {
    return int64_t{at.line + tap} * pitch + (at.place + j);
  }
};

template <class T>
struct Correlation {
  Windows windows;
  int rows = 0, columns = 0, depth = 0;  // of the product
  int chunk = 0;                         // of the depth, for one block; all of it or a multiple of 32
  int filter_taps_h = 0, filter_taps_w = 0;
  int height = 0, width = 0;  // of the result
  bool linear = false;        // a row of the product, or of pooled ones, is a row of the result
  bool relu = false;
  Divide by_channels, by_taps_w;
  const T* image = nullptr;
  const T* filters = nullptr;
  const float* bias = nullptr;  // or null
  const T* mask = nullptr;      // or null
  T* result = nullptr;
  uint8_t* pool_index = nullptr;  // or null: no pool
  float* parts = nullptr;  // [chunks, rows, columns], the products without an epilogue; null: one chunk
  // Whether 8 neighbouring channels from a multiple of 8 on are 16 aligned bytes.
  bool image_aligned = false, filters_aligned = false, result_aligned = false;

  // Element of the filters for a depth and column 0, backward: filters are [channel, tap, tap, column].
  __device__ int filter(int k) const {
    const int tap = by_channels(k), channel = k - tap * windows.channels;
    const int t = by_taps_w(tap), u = tap - t * windows.w.taps;
    const int row = windows.h.filter_first + t * windows.h.filter_step,
              column = windows.w.filter_first + u * windows.w.filter_step;
    return ((channel * filter_taps_h + row) * filter_taps_w + column) * columns;
  }
  // The epilogue of one element.
  __device__ T finish(float v, int column, int64_t at) const {
    if (bias != nullptr) v += bias[column];
    if (relu && v < 0) v = 0;
    if (mask != nullptr && static_cast<float>(mask[at]) <= 0) v = 0;
    return T(v);
  }
  // Of a pixel, or a pooled window.
  __device__ int64_t result_row(int pixel) const {
    if (linear) return int64_t{pixel} * columns;
    const Axis &h = windows.h, &w = windows.w;
    const int n = windows.by_image(pixel), rest = pixel - n * (h.outputs * w.outputs);
    const int y = windows.by_width(rest), x = rest - y * w.outputs;
    return ((int64_t{n} * height + h.first + y * h.step) * width + w.first + x * w.step) * columns;
  }
};

template <class T>
struct Gradient {
  Windows windows;
  int rows = 0, columns = 0, depth = 0;
  int chunk = 0;  // of the depth, for one block; a multiple of 32
  bool add = false;
  const T* dy = nullptr;
  const T* image = nullptr;
  float* dw = nullptr;                             // [chunks, rows, columns]
  float* db = nullptr;                             // [chunks, rows], or null
  bool dy_aligned = false, image_aligned = false;  // as above
};

// Whether v displaces the maximum so far: the first of equals stays, NaN wins over numbers.
__device__ inline bool displaces(float v, float best) {
  return v > best || (v != v && best == best);
}

// The 2x2 max pool of a window of one column, and its epilogue; sum(i) is the product of its i-th pixel.
template <class T, class Sum>
__device__ void finish_window(const Correlation<T>& p, int window, int column, const Sum& sum) {
  const int64_t at = p.result_row(window) + column;
  T best = p.finish(sum(0), column, at);
  int place = 0;
  CONVOY_UNROLL
  for (int i = 1; i < 4; ++i) {
    const T v = p.finish(sum(i), column, at);
    if (!displaces(static_cast<float>(v), static_cast<float>(best))) continue;
    best = v;
    place = i;
  }
  p.result[at] = best;
  p.pool_index[at] = static_cast<uint8_t>(place);
}

// How many blocks a multiprocessor holds, whose tiles have so many elements: what their registers allow.
constexpr int blocks_at_once(int elements) {
  return elements > 8192 ? 2 : elements > 4096 ? 3 : 4;
}

// How a product is cut into blocks' tiles.
struct Tiling {
  int rows = 64, columns = 64;

  template <class Problem>
  dim3 grid(const Problem& p) const {
    const int64_t down = (int64_t{p.rows} + rows - 1) / rows,
                  across = (int64_t{p.columns} + columns - 1) / columns;
    const int64_t chunks = p.depth > 0 ? (int64_t{p.depth} + p.chunk - 1) / p.chunk : 1;
    CONVOY_CHECK(down * across < (int64_t{1} << 31), "a result of ", p.rows, "x", p.columns, " is too large");
    return dim3(static_cast<unsigned>(down * across), static_cast<unsigned>(chunks));
  }
};

// Row and column where the block's tile starts; neighbours share rows, which are the larger operand.
template <int kRows, int kColumns>
struct TileStart {
  int row, column;
  __device__ explicit TileStart(int columns) {
    const int across = (columns + kColumns - 1) / kColumns, tile = static_cast<int>(blockIdx.x);
    row = tile / across * kRows;
    column = tile % across * kColumns;
  }
};

// The kernels, for T f32, bf16 and f16: plain f32 arithmetic (conv_simt.cu), for any shape.
template <class T>
void simt_forward(Exec&, const Correlation<T>&);
template <class T>
void simt_backward_data(Exec&, const Correlation<T>&);
template <class T>
void simt_backward_weights(Exec&, const Gradient<T>&, const Tiling&);

// On tensor cores that round the operands to TF32 (sm_80), for any shape: conv_tf32.cu.
void tf32_forward(Exec&, const Correlation<float>&);
void tf32_backward_data(Exec&, const Correlation<float>&);
void tf32_backward_weights(Exec&, const Gradient<float>&, const Tiling&);

// On tensor cores, for T bf16 (sm_80) and f16 (sm_75): conv_mma.cu and conv_mma_weights.cu. With `async` copies (sm_80)
// both operands have to be aligned; without, they need not.
template <class T>
void mma_forward(Exec&, const Correlation<T>&, bool async);
template <class T>
void mma_backward_data(Exec&, const Correlation<T>&, bool async);
template <class T>
void mma_backward_weights(Exec&, const Gradient<T>&, const Tiling&, bool async);

}  // namespace convoy::cuda
