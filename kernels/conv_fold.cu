#include "kernels/conv_fold.h"
#include "kernels/conv_geometry.cuh"
#include "kernels/each.cuh"

namespace convoy::cuda {
namespace {

constexpr int kPiece = 8;  // channels that a thread writes

// A folded pixel holds stride_h pieces of a row of x, each of `run` elements side by side.
struct Fold {
  int stride_h, stride_w, run, C, R, S;
  int folded_C, folded_R, folded_S;
  Divide by_run, by_folded_C, by_folded_S, by_C, by_S, by_R, by_stride_h, by_stride_w;

  explicit Fold(const ConvShape& s) {
    const ConvShape f = folded(s);
    stride_h = static_cast<int>(s.stride_h);
    stride_w = static_cast<int>(s.stride_w);
    C = static_cast<int>(s.C);
    run = stride_w * C;
    R = static_cast<int>(s.R);
    S = static_cast<int>(s.S);
    folded_C = static_cast<int>(f.C);
    folded_R = static_cast<int>(f.R);
    folded_S = static_cast<int>(f.S);
    by_run = Divide(run);
    by_folded_C = Divide(f.C);
    by_folded_S = Divide(f.S);
    by_C = Divide(C);
    by_S = Divide(S);
    by_R = Divide(R);
    by_stride_h = Divide(stride_h);
    by_stride_w = Divide(stride_w);
  }
};

template <class T>
void fold_image(Exec& ex, const ConvShape& s, const T* x, T* to) {
  const Fold fold(s);
  const ConvShape f = folded(s);
  const int pieces = fold.folded_C / kPiece, W = static_cast<int>(f.W), H = static_cast<int>(f.H);
  const Divide by_pieces(pieces), by_W(W), by_H(H);
  const int row_elements = static_cast<int>(s.W * s.C), rows = static_cast<int>(s.H);
  const int pad_h = static_cast<int>(s.pad_h), pad_elements = static_cast<int>(s.pad_w * s.C);
  each(ex, f.x().count() / kPiece, [=] __device__(int64_t i) {
    const int pixel = by_pieces(static_cast<int>(i)), first = (static_cast<int>(i) - pixel * pieces) * kPiece;
    const int line = by_W(pixel), n = by_H(line);
    const int row = (line - n * H) * fold.stride_h - pad_h,
              element = (pixel - line * W) * fold.run - pad_elements;
    Pack<T, kPiece> out;
    CONVOY_UNROLL
    for (int e = 0; e < kPiece; ++e) {
      const int down = fold.by_run(first + e), across = element + first + e - down * fold.run;
      const bool inside = down < fold.stride_h && row + down >= 0 && row + down < rows && across >= 0 &&
                          across < row_elements;
      out.v[e] = inside ? x[(int64_t{n} * rows + row + down) * row_elements + across] : T(0.0f);
    }
    store(to + i * kPiece, out);
  });
}

template <class T>
void fold_filters(Exec& ex, const ConvShape& s, const T* w, T* to) {
  const Fold fold(s);
  each(ex, folded(s).w().count(), [=] __device__(int64_t i) {
    const int tap = fold.by_folded_C(static_cast<int>(i)),
              channel = static_cast<int>(i) - tap * fold.folded_C;
    const int line = fold.by_folded_S(tap), k = line / fold.folded_R;
    const int down = fold.by_run(channel), across = channel - down * fold.run, column = fold.by_C(across);
    const int r = (line - k * fold.folded_R) * fold.stride_h + down,
              t = (tap - line * fold.folded_S) * fold.stride_w + column;
    const bool inside = down < fold.stride_h && r < fold.R && t < fold.S;
    to[i] =
        inside ? w[((int64_t{k} * fold.R + r) * fold.S + t) * fold.C + across - column * fold.C] : T(0.0f);
  });
}

void unfold_gradient(Exec& ex, const ConvShape& s, const float* from, float* dw, bool add) {
  const Fold fold(s);
  each(ex, s.w().count(), [=] __device__(int64_t i) {
    const int tap = fold.by_C(static_cast<int>(i)), c = static_cast<int>(i) - tap * fold.C;
    const int line = fold.by_S(tap), t = tap - line * fold.S, k = fold.by_R(line), r = line - k * fold.R;
    const int row = fold.by_stride_h(r), column = fold.by_stride_w(t);
    const int channel = (r - row * fold.stride_h) * fold.run + (t - column * fold.stride_w) * fold.C + c;
    const float v =
        from[((int64_t{k} * fold.folded_R + row) * fold.folded_S + column) * fold.folded_C + channel];
    dw[i] = add ? dw[i] + v : v;
  });
}

// The Exec's scratch memory piece by piece.
class Scratch {
 public:
  explicit Scratch(const Exec& ex) : rest_(scratch<char>(ex, 0)), bytes_(ex.scratch.bytes()) {}
  static int64_t rounded(int64_t bytes) { return (bytes + 255) / 256 * 256; }
  View take(DType dtype, const Shape& shape) {
    const View view(reinterpret_cast<std::byte*>(rest_), dtype, shape);
    const int64_t bytes = rounded(view.bytes());
    CONVOY_CHECK(bytes <= bytes_, "scratch has ", bytes_, " bytes left, needs ", bytes);
    rest_ += bytes;
    bytes_ -= bytes;
    return view;
  }
  View rest() const { return View(reinterpret_cast<std::byte*>(rest_), DType::kU8, {bytes_}); }

 private:
  char* rest_;
  int64_t bytes_;
};

int64_t halves(const Shape& shape) {
  return Scratch::rounded(shape.count() * 2);
}

}  // namespace

Support query_folded(const ConvForward& a) {
  const ConvShape f = folded(a.shape);
  ConvForward b = a;
  b.shape = f;
  return {true, halves(f.x()) + halves(f.w()) + query(b).scratch_bytes};
}
Support query_folded(const ConvBackwardWeights& a) {
  const ConvShape f = folded(a.shape);
  ConvBackwardWeights b = a;
  b.shape = f;
  return {true, halves(f.x()) + Scratch::rounded(f.w().count() * 4) + query(b).scratch_bytes};
}

void folded_forward(Exec& ex, const ConvForward& a) {
  const ConvShape &s = a.shape, f = folded(s);
  Scratch memory(ex);
  ConvForward b = a;
  b.shape = f;
  const View x = memory.take(a.x.dtype, f.x()), w = memory.take(a.x.dtype, f.w());
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    fold_image(ex, s, operand<T>(a.x, s.x(), "x"), x.as<T>());
    fold_filters(ex, s, operand<T>(a.w, s.w(), "w"), w.as<T>());
  });
  b.x = x;
  b.w = w;
  Exec inner = ex;
  inner.scratch = memory.rest();
  conv_forward(inner, b);
}

void folded_backward_weights(Exec& ex, const ConvBackwardWeights& a) {
  const ConvShape &s = a.shape, f = folded(s);
  float* const dw = operand<float>(a.dw, s.w(), "dw");
  Scratch memory(ex);
  ConvBackwardWeights b = a;
  b.shape = f;
  const View x = memory.take(a.x.dtype, f.x()), gradient = memory.take(DType::kF32, f.w());
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    fold_image(ex, s, operand<T>(a.x, s.x(), "x"), x.as<T>());
  });
  b.x = x;
  b.dw = gradient;
  // Where it adds, it does to zeros, and to the bias's gradient, which is the same.
  if (!a.overwrite) {
    float* const sums = gradient.f32();
    each(ex, gradient.count(), [=] __device__(int64_t i) { sums[i] = 0; });
  }
  Exec inner = ex;
  inner.scratch = memory.rest();
  conv_backward_weights(inner, b);
  unfold_gradient(ex, s, gradient.f32(), dw, !a.overwrite);
}

}  // namespace convoy::cuda
