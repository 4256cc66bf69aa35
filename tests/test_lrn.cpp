#include "kernels/lrn.h"
#include "reference.h"

namespace convoy::reference {
namespace {

struct Case {
  Shape shape;
  LrnWindow lrn;
};
const std::vector<Case> kCases = {
    {{1, 1, 1, 1}, {5, 1e-4f, 0.75f, 1}},    {{2, 5, 5, 64}, {5, 1e-4f, 0.75f, 1}},
    {{2, 3, 4, 17}, {5, 2, 0.75f, 2}},       {{3, 2, 2, 3}, {5, 1, 0.75f, 1}},
    {{2, 3, 3, 40}, {4, 1, 0.5f, 1}},        {{1, 4, 4, 96}, {1, 0.5f, 1.3f, 2}},
    {{2, 2, 2, 300}, {7, 1, 0.75f, 1}},      {{1, 1, 2, 600}, {255, 3, 0.75f, 1}},
    {{4, 27, 27, 96}, {5, 1e-4f, 0.75f, 1}}, {{1, 2, 3, 30}, {64, 1, 0.6f, 1}},
    {{0, 3, 3, 8}, {5, 1, 0.75f, 1}},        {{2, 1, 1, 2100}, {120, 3, 0.75f, 1}},
};

struct Reference {
  const LrnWindow& lrn;
  int64_t C;
  double alpha() const { return double{lrn.alpha} / static_cast<double>(lrn.window); }
  // f(c') over the window of channel c.
  template <class F>
  void window(int64_t c, const F& f) const {
    for (int64_t i = c - lrn.window / 2; i <= c + (lrn.window - 1) / 2; ++i)
      if (i >= 0 && i < C) f(i);
  }
  double base(const double* x, int64_t c) const {
    double sum = 0;
    window(c, [&](int64_t i) { sum += x[i] * x[i]; });
    return lrn.k + alpha() * sum;
  }
};

void test(const Case& t, const Array& x_array, const Array& dy_array) {
  const DType dtype = x_array.dtype();
  const int64_t C = t.shape[3];
  const Doubles x = x_array.values(), dy = dy_array.values();
  const Reference ref{t.lrn, C};
  const double beta = t.lrn.beta, w = static_cast<double>(t.lrn.window);
  // The base: `window` squares and sums of them, alpha / size, a product, a sum; all terms are positive. Its
  // power: beta times that error, and powf, or two roots, a product and a quotient.
  const double power_error = beta * gamma(w + 4) + kPowf + gamma(4);
  Doubles bases;
  for (int64_t i = 0; i < x_array.count(); ++i) bases.push_back(ref.base(x.data() + i / C * C, i % C));
  Want forward, backward;
  for (size_t i = 0; i < x.size(); ++i) {
    const double v = x[i] * std::pow(bases[i], -beta);
    forward.within(v, (power_error + gamma(1)) * std::abs(v) + 4 * FLT_MIN);
  }
  for (int64_t i = 0; i < x_array.count(); ++i) {
    const size_t pixel = static_cast<size_t>(i / C * C), at = static_cast<size_t>(i);
    const int64_t j = i % C;
    Sum s;
    s.add(dy[at] * std::pow(bases[at], -beta));
    for (int64_t c = std::max<int64_t>(0, j - t.lrn.window); c <= std::min(C - 1, j + t.lrn.window); ++c)
      ref.window(c, [&](int64_t in) {
        const size_t from = pixel + static_cast<size_t>(c);
        if (in == j)
          s.add(-2 * ref.alpha() * beta * x[at] * dy[from] * x[from] * std::pow(bases[from], -beta - 1));
      });
    // One base more than the power, `window` sums, and nine products and differences.
    backward.within(s.value, (power_error + gamma(w + 4) + gamma(w + 9)) * s.magnitude + 4 * FLT_MIN);
  }
  Array y(dtype, t.shape), dx(dtype, t.shape);
  const std::string title = text(dtype_name(dtype), " ", t.shape, " window ", t.lrn.window, " alpha ",
                                 t.lrn.alpha, " beta ", t.lrn.beta);
  check_everywhere("lrn_forward " + title, {{"y", &y, stored(dtype, forward)}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, lrn_forward, LrnForward{t.lrn, x_array.view(), y.view()});
  });
  check_everywhere("lrn_backward " + title, {{"dx", &dx, stored(dtype, backward)}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, lrn_backward, LrnBackward{t.lrn, x_array.view(), dy_array.view(), dx.view()});
  });
}

TEST(Lrn, WithinBounds) {
  for_every_dtype([](DType dtype) {
    for (const Case& t : kCases)
      if (t.shape.count() < 100000)
        test(t, as(dtype, normals(t.shape, 1, 2)), as(dtype, normals(t.shape, 2)));
  });
}
TEST(Lrn, NanPropagates) {
  for_every_dtype([](DType dtype) {
    const Case t = kCases[2];
    const Array x = as(dtype, normals(t.shape, 1)), dy = as(dtype, normals(t.shape, 2));
    x.set(100, NAN);
    dy.set(20, NAN);
    test(t, x, dy);
  });
}
// The reference's gradient is the derivative of its own forward formula.
TEST(Lrn, BackwardIsTheDerivative) {
  const LrnWindow lrn{4, 2, 0.75f, 1};
  const int64_t C = 9;
  const Array x = normals({1, 1, 1, C}, 1), dy = normals({1, 1, 1, C}, 2), dx(DType::kF32, {1, 1, 1, C});
  const Reference ref{lrn, C};
  const auto loss = [&] {
    double sum = 0;
    for (int64_t c = 0; c < C; ++c)
      sum += double{dy[c]} * x[c] * std::pow(ref.base(x.values().data(), c), -double{lrn.beta});
    return sum;
  };
  for_every_table([&](Exec& ex) {
    CONVOY_INVOKE(ex, lrn_backward, LrnBackward{lrn, x.view(), dy.view(), dx.view()});
    for (int64_t c = 0; c < C; ++c) {
      const float at = x[c], h = 0x1p-8f;
      x[c] = at + h;
      const float up = x[c];
      const double high = loss();
      x[c] = at - h;
      const double low = loss(), step = double{up} - x[c];
      x[c] = at;
      // Central differences err by h² / 6 times the third derivative, of order 10 here.
      EXPECT_NEAR((high - low) / step, dx[c], 10 * h * h) << ex.backend->name << " channel " << c;
    }
  });
}
TEST(Lrn, Errors) {
  const Array x = filled({1, 2, 2, 4}, 1), wrong = filled({1, 2, 2, 5}, 1), flat = filled({4, 4}, 1);
  const LrnWindow lrn;
  expect_error("expected 1x2x2x4", [&](Exec& ex) {
    ex.backend->lrn_forward(ex, {lrn, x.view(), wrong.view()});
  });
  expect_error("N x H x W x C", [&](Exec& ex) {
    ex.backend->lrn_forward(ex, {lrn, flat.view(), flat.view()});
  });
  expect_error("window 0", [&](Exec& ex) {
    ex.backend->lrn_forward(ex, {{0, 1, 1, 1}, x.view(), x.view()});
  });
  expect_error("window 257", [&](Exec& ex) {
    ex.backend->lrn_backward(ex, {{257, 1, 1, 1}, x.view(), x.view(), x.view()});
  });
  expect_error("dy is 1x2x2x5", [&](Exec& ex) {
    ex.backend->lrn_backward(ex, {lrn, x.view(), wrong.view(), x.view()});
  });
}

}  // namespace
}  // namespace convoy::reference
