#include <algorithm>
#include <cmath>

#include "bench/ops_bench.h"

namespace convoy::bench {
namespace {

struct Sum {
  double value = 0, magnitude = 0;
  int64_t terms = 0;
  void add(double a, double b) {
    value += a * b;
    magnitude += std::fabs(a * b);
    ++terms;
  }
  // Any order of n additions of rounded products errs by at most gamma(n + 1) · sum of |terms| (Higham,
  // section 3.1).
  bool matches(float got, const Operands& o, double half_unit) const {
    const double nu = static_cast<double>(terms + 1) * std::ldexp(1.0, -24);
    const double sums = o.exact ? 0 : nu / (1 - nu) * magnitude;
    // Rounded before the bias is added, and after it.
    const double stored = half_unit * (2 + half_unit) * (std::fabs(value) + std::fabs(bias));
    return std::fabs(got - value) <= sums + stored;
  }
  double bias = 0;
};

Sum forward(const ConvShape& s, const Operands& o, int64_t at) {
  const int64_t k = at % s.K, q = at / s.K % s.Q(), p = at / s.K / s.Q() % s.P(),
                n = at / s.K / s.Q() / s.P();
  Sum sum;
  if (o.bias.data != nullptr) sum.add(sum.bias = o.bias[k], 1);
  for (int64_t r = 0; r < s.R; ++r)
    for (int64_t t = 0; t < s.S; ++t) {
      const int64_t h = p * s.stride_h - s.pad_h + r, w = q * s.stride_w - s.pad_w + t;
      if (h < 0 || w < 0 || h >= s.H || w >= s.W) continue;
      for (int64_t c = 0; c < s.C; ++c)
        sum.add(o.x[((n * s.H + h) * s.W + w) * s.C + c], o.w[((k * s.R + r) * s.S + t) * s.C + c]);
    }
  return sum;
}

Sum backward_data(const ConvShape& s, const Operands& o, int64_t at) {
  const int64_t c = at % s.C, w = at / s.C % s.W, h = at / s.C / s.W % s.H, n = at / s.C / s.W / s.H;
  Sum sum;
  for (int64_t r = 0; r < s.R; ++r)
    for (int64_t t = 0; t < s.S; ++t) {
      const int64_t p = h + s.pad_h - r, q = w + s.pad_w - t;
      if (p < 0 || q < 0 || p % s.stride_h != 0 || q % s.stride_w != 0) continue;
      if (p / s.stride_h >= s.P() || q / s.stride_w >= s.Q()) continue;
      for (int64_t k = 0; k < s.K; ++k)
        sum.add(o.dy[((n * s.P() + p / s.stride_h) * s.Q() + q / s.stride_w) * s.K + k],
                o.w[((k * s.R + r) * s.S + t) * s.C + c]);
    }
  return sum;
}

Sum backward_weights(const ConvShape& s, const Operands& o, int64_t at) {
  const int64_t c = at % s.C, t = at / s.C % s.S, r = at / s.C / s.S % s.R, k = at / s.C / s.S / s.R;
  Sum sum;
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t p = 0; p < s.P(); ++p)
      for (int64_t q = 0; q < s.Q(); ++q) {
        const int64_t h = p * s.stride_h - s.pad_h + r, w = q * s.stride_w - s.pad_w + t;
        if (h < 0 || w < 0 || h >= s.H || w >= s.W) continue;
        sum.add(o.dy[((n * s.P() + p) * s.Q() + q) * s.K + k], o.x[((n * s.H + h) * s.W + w) * s.C + c]);
      }
  return sum;
}

}  // namespace

int64_t count_wrong(const Problem& problem, Pass pass, const Operands& o) {
  const ConvShape& s = problem.shape;
  const int64_t count = (pass == kForward ? s.y() : pass == kBackwardData ? s.x() : s.w()).count();
  const auto& result = pass == kForward ? o.y : pass == kBackwardData ? o.dx : o.dw;
  const double half_unit = pass == kBackwardWeights ? 0 : o.half_unit;  // dw and db are f32
  // A few hundred elements, and the last: a step that shares no factor with the extents.
  const int64_t pixels = s.N * s.P() * s.Q(), terms = pass == kBackwardWeights ? pixels
                                                      : pass == kForward       ? s.R * s.S * s.C
                                                                               : s.R * s.S * s.K;
  const int64_t samples =
      std::clamp<int64_t>(o.most_terms / std::max<int64_t>(terms, 1), 2, pass == kBackwardWeights ? 60 : 400);
  const int64_t step = count / samples | 1;
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; i += step) {
    const int64_t at = i + step < count ? i : count - 1;
    const Sum sum = pass == kForward        ? forward(s, o, at)
                    : pass == kBackwardData ? backward_data(s, o, at)
                                            : backward_weights(s, o, at);
    if (!sum.matches(result(at), o, half_unit)) ++wrong;
  }
  if (pass == kBackwardWeights && o.db) {
    const int64_t filters = std::clamp<int64_t>(o.most_terms / std::max<int64_t>(pixels, 1), 1, 8);
    for (int64_t k = 0; k < s.K; k += 1 + s.K / filters) {
      Sum sum;
      for (int64_t i = k; i < s.y().count(); i += s.K) sum.add(o.dy[i], 1);
      if (!sum.matches(o.db(k), o, half_unit)) ++wrong;
    }
  }
  return wrong;
}

}  // namespace convoy::bench
