// The convolution passes: checks, how each becomes a product of matrices, and which kernel takes it.
#include "kernels/conv.h"
#include "kernels/conv_geometry.cuh"
#include "kernels/each.cuh"

namespace convoy::cuda {
namespace {

void check_shape(const ConvShape& s) {
  CONVOY_CHECK(s.N >= 0 && s.H >= 1 && s.W >= 1 && s.C >= 1 && s.K >= 0 && s.R >= 1 && s.S >= 1 &&
                   s.stride_h >= 1 && s.stride_w >= 1 && s.pad_h >= 0 && s.pad_w >= 0 && s.pad_h < s.R &&
                   s.pad_w < s.S && s.H + 2 * s.pad_h >= s.R && s.W + 2 * s.pad_w >= s.S,
               "x ", s.x(), ", w ", s.w(), ", stride ", s.stride_h, "x", s.stride_w, ", pad ", s.pad_h, "x",
               s.pad_w);
  // Pixels, depths, places within an image's row and in the filters are 32-bit numbers in the kernels; elements of
  // images are 64-bit ones.
  constexpr int64_t kLimit = int64_t{1} << 30;
  CONVOY_CHECK(s.N * s.H * s.W < kLimit && s.N * s.P() * s.Q() < kLimit && s.w().count() < kLimit &&
                   s.R * s.S * s.C < kLimit && s.R * s.S * s.K < kLimit && s.W * s.C < kLimit &&
                   s.Q() * s.K < kLimit,
               "x ", s.x(), ", w ", s.w(), ": too large");
}

int narrow(int64_t v) {
  return static_cast<int>(v);
}

Windows windows(const Axis& h, const Axis& w, int64_t channels) {
  Windows all;
  all.h = h;
  all.w = w;
  all.channels = narrow(channels);
  all.pitch = narrow(w.inputs * channels);
  all.taps_pitch = narrow(w.taps * channels);
  all.by_image = Divide(int64_t{h.outputs} * w.outputs);
  all.by_width = Divide(w.outputs);
  all.by_taps = Divide(all.taps_pitch);
  return all;
}

Axis forward_axis(int64_t outputs, int64_t stride, int64_t pad, int64_t taps, int64_t inputs) {
  Axis a;
  a.outputs = narrow(outputs);
  a.input_step = narrow(stride);
  a.offset = narrow(-pad);
  a.taps = narrow(taps);
  a.inputs = narrow(inputs);
  return a;
}
Windows forward_windows(const ConvShape& s, bool pooled = false) {
  Windows all = windows(forward_axis(pooled ? s.P() / 2 : s.P(), s.stride_h, s.pad_h, s.R, s.H),
                        forward_axis(pooled ? s.Q() / 2 : s.Q(), s.stride_w, s.pad_w, s.S, s.W), s.C);
  all.pooled = pooled;
  return all;
}

// Backward data at a stride is one correlation for every residue of the pixel's place: pixel h receives from the
// outputs p with p·stride = h + pad - r, which needs r of one residue; along those taps, taken in falling order, p
// rises by one.
Axis backward_axis(int64_t pixels, int64_t stride, int64_t pad, int64_t taps, int64_t outputs,
                   int64_t residue) {
  const int64_t lowest = (residue + pad) % stride;
  const int64_t count = lowest < taps ? (taps - lowest + stride - 1) / stride : 0;
  const int64_t last = lowest + (count - 1) * stride;
  Axis a;
  a.outputs = narrow(residue < pixels ? (pixels - residue + stride - 1) / stride : 0);
  a.first = narrow(residue);
  a.step = narrow(stride);
  a.offset = narrow(count > 0 ? (residue + pad - last) / stride : 0);  // an exact division
  a.taps = narrow(count);
  a.inputs = narrow(outputs);
  a.filter_first = narrow(last);
  a.filter_step = narrow(-stride);
  return a;
}

template <class T>
Correlation<T> correlation(const ConvShape& s, const Windows& w, int64_t columns) {
  Correlation<T> c;
  c.windows = w;
  c.rows = narrow(s.N * w.h.outputs * w.w.outputs) * (w.pooled ? 4 : 1);
  c.columns = narrow(columns);
  c.depth = w.h.taps * w.taps_pitch;
  c.chunk = c.depth;
  c.filter_taps_h = narrow(s.R);
  c.filter_taps_w = narrow(s.S);
  c.linear = w.h.step == 1 && w.w.step == 1;
  c.by_channels = Divide(w.channels);
  c.by_taps_w = Divide(w.w.taps);
  return c;
}

// Which kernels take a problem. `aligned`: 8 neighbouring channels of both operands are 16 aligned bytes.
enum class Path { kSimt, kRegisters, kAsync };

Path choose_path(DType dtype, int architecture, bool aligned) {
  if (dtype == DType::kF32 || architecture < (dtype == DType::kF16 ? 75 : 80)) return Path::kSimt;
  return architecture >= 80 && aligned ? Path::kAsync : Path::kRegisters;
}

bool aligned_pieces(const void* memory, int64_t channels) {
  return reinterpret_cast<uintptr_t>(memory) % 16 == 0 && channels % 8 == 0;
}

template <class T, bool kBackward>
void correlate(Exec& ex, Correlation<T> c) {
  if (c.rows == 0 || c.columns == 0) return;
  if constexpr (!std::is_same_v<T, float>) {
    c.image_aligned = aligned_pieces(c.image, c.windows.channels);
    c.filters_aligned = aligned_pieces(c.filters, kBackward ? c.columns : c.windows.channels);
    c.result_aligned =
        aligned_pieces(c.result, c.columns) && aligned_pieces(c.mask, 0) && aligned_pieces(c.pool_index, 0);
    const Path path =
        choose_path(DTypeOf<T>::value, queue(ex).architecture, c.image_aligned && c.filters_aligned);
    if (path != Path::kSimt)
      return (kBackward ? mma_backward_data<T> : mma_forward<T>)(ex, c, path == Path::kAsync);
  }
  (kBackward ? simt_backward_data<T> : simt_forward<T>)(ex, c);
}

template <class T>
void weigh(Exec& ex, Gradient<T> g, const Tiling& tiling) {
  if constexpr (!std::is_same_v<T, float>) {
    g.dy_aligned = aligned_pieces(g.dy, g.rows);
    g.image_aligned = aligned_pieces(g.image, g.windows.channels);
    const Path path = choose_path(DTypeOf<T>::value, queue(ex).architecture, g.dy_aligned && g.image_aligned);
    if (path != Path::kSimt) return mma_backward_weights(ex, g, tiling, path == Path::kAsync);
  }
  simt_backward_weights(ex, g, tiling);
}

template <class T>
void forward(Exec& ex, const ConvForward& a) {
  const ConvShape& s = a.shape;
  const bool pooled = !a.pool_index.empty();
  const Shape y = pooled ? Shape{s.N, s.P() / 2, s.Q() / 2, s.K} : s.y();
  Correlation<T> c = correlation<T>(s, forward_windows(s, pooled), s.K);
  c.image = operand<T>(a.x, s.x(), "x");
  c.filters = operand<T>(a.w, s.w(), "w");
  c.result = operand<T>(a.y, y, "y");
  if (pooled) c.pool_index = operand<uint8_t>(a.pool_index, y, "pool_index");
  if (!a.epilogue.bias.empty()) c.bias = operand<float>(a.epilogue.bias, Shape{s.K}, "bias");
  c.relu = a.epilogue.relu;
  correlate<T, false>(ex, c);
}

template <class T>
void backward_data(Exec& ex, const ConvBackwardData& a) {
  const ConvShape& s = a.shape;
  const T* dy = operand<T>(a.dy, s.y(), "dy");
  const T* w = operand<T>(a.w, s.w(), "w");
  T* dx = operand<T>(a.dx, s.x(), "dx");
  const T* mask = a.mask.empty() ? nullptr : operand<T>(a.mask, s.x(), "mask");
  for (int64_t phase = 0; phase < s.stride_h * s.stride_w; ++phase) {
    const Windows all = windows(backward_axis(s.H, s.stride_h, s.pad_h, s.R, s.P(), phase / s.stride_w),
                                backward_axis(s.W, s.stride_w, s.pad_w, s.S, s.Q(), phase % s.stride_w), s.K);
    Correlation<T> c = correlation<T>(s, all, s.C);
    c.image = dy;
    c.filters = w;
    c.mask = mask;
    c.result = dx;
    c.height = narrow(s.H);
    c.width = narrow(s.W);
    correlate<T, true>(ex, c);
  }
}

// How backward weights is cut: tiles of the gradient, and chunks of the pixels that blocks sum apart from each other.
// From the shape alone: the same bits on every GPU.
struct WeightsPlan {
  Tiling tiling;
  int64_t sums = 0;  // of dw and db
  int64_t chunk = 32, chunks = 1;
};

WeightsPlan plan_weights(const ConvShape& s) {
  constexpr int64_t kStep = 32;     // pixels at a time
  constexpr int64_t kBlocks = 264;  // that run at once: 132 multiprocessors of an H200, two blocks each
  constexpr int64_t kEnds = 8;      // a block's start and end take as long as this many steps
  const int64_t D = s.R * s.S * s.C;
  WeightsPlan plan;
  plan.sums = s.K * D + s.K;
  if (D > 64) plan.tiling = {s.K > 64 ? 128 : 64, 128};
  const int64_t tiles = ((s.K + plan.tiling.rows - 1) / plan.tiling.rows) *
                        ((D + plan.tiling.columns - 1) / plan.tiling.columns);
  const int64_t steps = (s.N * s.P() * s.Q() + kStep - 1) / kStep;
  if (steps == 0 || tiles == 0) return plan;
  const int64_t most = steps / kEnds > 1 ? steps / kEnds : 1;
  int64_t best = 0;
  for (int64_t rounds = 0; rounds <= 4; ++rounds) {  // of all blocks; 0: no cut
    int64_t chunks = rounds == 0 ? 1 : rounds * kBlocks / tiles;
    chunks = chunks > most ? most : chunks;
    if (chunks < 1) continue;
    const int64_t chunk_steps = (steps + chunks - 1) / chunks;
    const int64_t cost = (tiles * chunks + kBlocks - 1) / kBlocks * (chunk_steps + kEnds);
    if (best > 0 && cost >= best) continue;
    best = cost;
    plan.chunk = chunk_steps * kStep;
    plan.chunks = (steps + chunk_steps - 1) / chunk_steps;
  }
  return plan;
}

template <class T>
void backward_weights(Exec& ex, const ConvBackwardWeights& a) {
  const ConvShape& s = a.shape;
  const WeightsPlan plan = plan_weights(s);
  Gradient<T> g;
  g.windows = forward_windows(s);
  g.rows = narrow(s.K);
  g.columns = narrow(s.R * s.S * s.C);
  g.depth = narrow(s.N * s.P() * s.Q());
  g.chunk = narrow(plan.chunk);
  g.add = !a.overwrite;
  g.image = operand<T>(a.x, s.x(), "x");
  g.dy = operand<T>(a.dy, s.y(), "dy");
  g.dw = operand<float>(a.dw, s.w(), "dw");
  if (!a.db.empty()) g.db = operand<float>(a.db, Shape{s.K}, "db");
  if (s.K == 0) return;
  if (plan.chunks == 1) return weigh(ex, g, plan.tiling);

  const int64_t weights = s.w().count(), chunks = plan.chunks;
  float* parts = scratch<float>(ex, plan.chunks * plan.sums);
  float *dw = g.dw, *db = g.db, *bias_parts = parts + chunks * weights;
  g.dw = parts;
  if (db != nullptr) g.db = bias_parts;
  g.add = false;
  weigh(ex, g, plan.tiling);
  // In the chunks' order.
  const bool add = !a.overwrite;
  const int64_t filters = s.K;
  each(ex, db != nullptr ? plan.sums : weights, [=] __device__(int64_t i) {
    const bool bias = i >= weights;
    const float* from = bias ? bias_parts + (i - weights) : parts + i;
    const int64_t step = bias ? filters : weights;
    float sum = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += from[chunk * step];
    float* to = bias ? db + (i - weights) : dw + i;
    *to = add ? *to + sum : sum;
  });
}

}  // namespace

Support query(const ConvForward&) {
  return {};
}
Support query(const ConvBackwardData&) {
  return {};
}
Support query(const ConvBackwardWeights& a) {
  const WeightsPlan plan = plan_weights(a.shape);
  return {true, plan.chunks == 1 ? 0 : plan.chunks * plan.sums * 4};
}

void conv_forward(Exec& ex, const ConvForward& a) {
  check_shape(a.shape);
  with_float(a.x.dtype, [&](auto zero) { forward<decltype(zero)>(ex, a); });
}

void conv_backward_data(Exec& ex, const ConvBackwardData& a) {
  if (a.dx.empty()) return;
  check_shape(a.shape);
  with_float(a.dy.dtype, [&](auto zero) { backward_data<decltype(zero)>(ex, a); });
}

void conv_backward_weights(Exec& ex, const ConvBackwardWeights& a) {
  check_shape(a.shape);
  with_float(a.x.dtype, [&](auto zero) { backward_weights<decltype(zero)>(ex, a); });
}

}  // namespace convoy::cuda
