// The convolution passes: checks, how each becomes a product of matrices, and which kernel takes it.
#include "kernels/conv.h"
#include "kernels/conv_fold.h"
#include "kernels/conv_hopper.cuh"
#include "kernels/conv_hopper_weights.h"
#include "kernels/conv_plan.cuh"
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

template <class T>
bool as_tf32(const Exec& ex) {
  return std::is_same_v<T, float> && ex.tf32 && queue(ex).architecture >= 80;
}

template <class T, bool kBackward>
void multiply(Exec& ex, const Correlation<T>& c) {
  if constexpr (std::is_same_v<T, float>) {
    if (as_tf32<T>(ex)) return (kBackward ? tf32_backward_data : tf32_forward)(ex, c);
  } else {
    const Path path =
        choose_path(DTypeOf<T>::value, queue(ex).architecture, c.image_aligned && c.filters_aligned);
    if (path != Path::kSimt)
      return (kBackward ? mma_backward_data<T> : mma_forward<T>)(ex, c, path == Path::kAsync);
  }
  (kBackward ? simt_backward_data<T> : simt_forward<T>)(ex, c);
}

bool is_half(DType dtype) {
  return dtype == DType::kBF16 || dtype == DType::kF16;
}
// Kernels of sm_90a run on compute capability 9.0, and on no later one.
bool runs_hopper(const Exec& ex, DType dtype) {
  return CONVOY_HAS_HOPPER && is_half(dtype) && queue(ex).architecture == 90;
}
template <class T>
bool takes_hopper(const Exec& ex, const Correlation<T>& c) {
  return runs_hopper(ex, DTypeOf<T>::value) && hopper_takes(c);
}
bool folds_weights(const ConvShape& s) {
  return folds(s) && hopper_takes_weights(folded(s));
}

template <class T, bool kBackward>
void correlate(Exec& ex, Correlation<T> c) {
  if (c.rows == 0 || c.columns == 0) return;
  c.image_aligned = aligned_pieces(c.image, c.windows.channels);
  c.filters_aligned = aligned_pieces(c.filters, kBackward ? c.columns : c.windows.channels);
  c.result_aligned =
      aligned_pieces(c.result, c.columns) && aligned_pieces(c.mask, 0) && aligned_pieces(c.pool_index, 0);
  const bool hopper = takes_hopper(ex, c);
  const HopperPlan plan =
      hopper ? plan_hopper(hopper_shape(c.windows, c.rows, c.columns), queue(ex).multiprocessors)
             : HopperPlan();
  const Chunks chunks =
      hopper ? Chunks{plan.chunks, plan.chunk_steps} : plan_depth(c.rows, c.columns, c.depth);
  const auto multiply_all = [&] {
    if constexpr (CONVOY_HAS_HOPPER && !std::is_same_v<T, float>) {
      if (hopper) return (kBackward ? hopper_backward_data<T> : hopper_forward<T>)(ex, c, plan);
    }
    multiply<T, kBackward>(ex, c);
  };
  if (chunks.count == 1) return multiply_all();

  const int64_t products = int64_t{c.rows} * c.columns;
  c.chunk = narrow(chunks.depth);
  c.parts = scratch<float>(ex, chunks.count * products);
  multiply_all();
  const bool pooled = c.pool_index != nullptr;
  const Divide by_columns(c.columns);
  each(ex, pooled ? products / 4 : products, [=] __device__(int64_t i) {
    const int row = by_columns(static_cast<int>(i)), column = static_cast<int>(i) - row * c.columns;
    const auto sum = [&](int64_t place) {  // in the chunks' order
      float total = 0;
      for (int64_t chunk = 0; chunk < chunks.count; ++chunk) total += c.parts[chunk * products + place];
      return total;
    };
    if (pooled) {
      finish_window(c, row, column, [&](int t) { return sum((int64_t{4} * row + t) * c.columns + column); });
    } else {
      const int64_t at = c.result_row(row) + column;
      c.result[at] = c.finish(sum(i), column, at);
    }
  });
}

template <class T>
void weigh(Exec& ex, Gradient<T> g, const Tiling& tiling) {
  if constexpr (std::is_same_v<T, float>) {
    if (as_tf32<T>(ex)) return tf32_backward_weights(ex, g, tiling);
  } else {
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
    Correlation<T> c = correlation<T>(s, backward_windows(s, phase), s.C);
    c.image = dy;
    c.filters = w;
    c.mask = mask;
    c.result = dx;
    c.height = narrow(s.H);
    c.width = narrow(s.W);
    correlate<T, true>(ex, c);
  }
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

Support query(const ConvForward& a) {
  const ConvShape& s = a.shape;
  const bool pooled = !a.pool_index.empty();
  const int64_t pixels = pooled ? s.N * (s.P() / 2) * (s.Q() / 2) * 4 : s.N * s.P() * s.Q();
  return {true,
          std::max({depth_scratch(pixels, s.K, s.R * s.S * s.C),
                    pixels == 0 ? 0 : hopper_scratch(hopper_shape(forward_windows(s, pooled), pixels, s.K)),
                    is_half(a.x.dtype) && folds(s) ? query_folded(a).scratch_bytes : 0})};
}
Support query(const ConvBackwardData& a) {
  const ConvShape& s = a.shape;
  int64_t bytes = 0;
  for (int64_t phase = 0; phase < s.stride_h * s.stride_w; ++phase) {
    const Windows w = backward_windows(s, phase);
    const int64_t pixels = s.N * w.h.outputs * w.w.outputs;
    bytes = std::max({bytes, depth_scratch(pixels, s.C, int64_t{w.h.taps} * w.taps_pitch),
                      pixels == 0 ? 0 : hopper_scratch(hopper_shape(w, pixels, s.C))});
  }
  return {true, bytes};
}
Support query(const ConvBackwardWeights& a) {
  const WeightsPlan plan = plan_weights(a.shape);
  const bool half = is_half(a.x.dtype);
  return {true, std::max({plan.chunks == 1 ? 0 : plan.chunks * plan.sums * 4,
                          half ? hopper_weights_scratch(a.shape) : 0,
                          half && folds_weights(a.shape) ? query_folded(a).scratch_bytes : 0})};
}

void conv_forward(Exec& ex, const ConvForward& a) {
  check_shape(a.shape);
  if (runs_hopper(ex, a.x.dtype) && folds(a.shape)) return folded_forward(ex, a);
  with_float(a.x.dtype, [&](auto zero) { forward<decltype(zero)>(ex, a); });
}

void conv_backward_data(Exec& ex, const ConvBackwardData& a) {
  if (a.dx.empty()) return;
  check_shape(a.shape);
  with_float(a.dy.dtype, [&](auto zero) { backward_data<decltype(zero)>(ex, a); });
}

void conv_backward_weights(Exec& ex, const ConvBackwardWeights& a) {
  check_shape(a.shape);
  if (runs_hopper(ex, a.x.dtype)) {
    if (folds_weights(a.shape)) return folded_backward_weights(ex, a);
    if constexpr (CONVOY_HAS_HOPPER) {
      if (hopper_takes_weights(a.shape) && aligned(16, a.x.data, a.dy.data, a.dw.data))
        return hopper_backward_weights(ex, a, plan_hopper_weights(a.shape));
    }
  }
  with_float(a.x.dtype, [&](auto zero) { backward_weights<decltype(zero)>(ex, a); });
}

}  // namespace convoy::cuda
