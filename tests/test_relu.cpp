#include "kernels/relu.h"
#include "reference.h"

namespace convoy::reference {
namespace {

// Around the sizes of vectors, chunks and the point where threads join.
const std::vector<Shape> kShapes = {{0, 4}, {1},    {3, 5},       {1, 17}, {2, 3, 5, 7},
                                    {8191}, {8193}, {5, 1000, 7}, {40000}};

Want map(const Array& x, const std::function<double(double)>& f,
         const std::function<double(double)>& error = nullptr) {
  Want w;
  for (int64_t i = 0; i < x.count(); ++i) {
    if (error) {
      w.within(f(x[i]), error(f(x[i])));
    } else {
      w.exact(f(x[i]));
    }
  }
  return w;
}
Want map2(const Array& y, const Array& dy, const std::function<double(double, double)>& f, double roundings) {
  Want w;
  for (int64_t i = 0; i < y.count(); ++i) {
    const double v = f(y[i], dy[i]);
    roundings > 0 ? w.within(v, bound(roundings, std::abs(v))) : w.exact(v);
  }
  return w;
}

TEST(Relu, ForwardAndBackwardExact) {
  for (const Shape& shape : kShapes) {
    Array x = whole_numbers(shape, 3, 1), dy = normals(shape, 2), y(DType::kF32, shape),
          dx(DType::kF32, shape);
    if (x.count() > 0) x[x.count() - 1] = NAN;
    check_everywhere(text("relu_forward ", shape), {{"y", &y, map(x, relu)}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, relu_forward, ReluForward{x.view(), y.view()});
    });
    check_everywhere(text("relu_backward ", shape),
                     {{"dx", &dx,
                       map2(
                           y, dy, [](double v, double d) { return v <= 0 ? 0 : d; }, 0)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, relu_backward, ReluBackward{y.view(), dy.view(), dx.view()});
                     });
  }
}

TEST(Relu, InPlace) {
  const Array x = whole_numbers({3, 777}, 3, 3), dy = normals({3, 777}, 4);
  Array y(DType::kF32, x.shape());
  Doubles before;
  for (int64_t i = 0; i < x.count(); ++i) before.push_back(x[i]);
  check_everywhere("relu_forward in place", {{"y", &y, map(x, relu), before}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, relu_forward, ReluForward{y.view(), y.view()});
  });
  Doubles gradient;
  for (int64_t i = 0; i < x.count(); ++i) gradient.push_back(dy[i]);
  check_everywhere("relu_backward in place",
                   {{"dx", &y,
                     map2(
                         x, dy, [](double v, double d) { return v <= 0 ? 0 : d; }, 0),
                     gradient}},
                   [&](Exec& ex) {
                     CONVOY_INVOKE(ex, relu_backward, ReluBackward{x.view(), y.view(), y.view()});
                   });
}

TEST(Sigmoid, WithinBounds) {
  for (const Shape& shape : kShapes) {
    Array x = normals(shape, 5, 20), dy = normals(shape, 6), y(DType::kF32, shape), dx(DType::kF32, shape);
    if (x.count() > 0) x[0] = NAN;
    // expf, the sum, the division.
    const auto error = [](double v) { return (kExpf + gamma(2)) * v + 2 * FLT_MIN; };
    check_everywhere(text("sigmoid_forward ", shape),
                     {{"y", &y,
                       map(
                           x, [](double v) { return 1 / (1 + std::exp(-v)); }, error)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, sigmoid_forward, SigmoidForward{x.view(), y.view()});
                     });
    check_everywhere(text("sigmoid_backward ", shape),
                     {{"dx", &dx,
                       map2(
                           y, dy, [](double v, double d) { return d * v * (1 - v); }, 3)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, sigmoid_backward, SigmoidBackward{y.view(), dy.view(), dx.view()});
                     });
  }
}

TEST(Tanh, WithinBounds) {
  for (const Shape& shape : kShapes) {
    Array x = normals(shape, 7, 3), dy = normals(shape, 8), y(DType::kF32, shape), dx(DType::kF32, shape);
    if (x.count() > 0) x[0] = NAN;
    const auto error = [](double v) { return kTanhf * std::abs(v) + FLT_MIN; };
    check_everywhere(text("tanh_forward ", shape),
                     {{"y", &y,
                       map(
                           x, [](double v) { return std::tanh(v); }, error)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, tanh_forward, TanhForward{x.view(), y.view()});
                     });
    check_everywhere(text("tanh_backward ", shape),
                     {{"dx", &dx,
                       map2(
                           y, dy, [](double v, double d) { return d * (1 - v) * (1 + v); }, 4)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, tanh_backward, TanhBackward{y.view(), dy.view(), dx.view()});
                     });
  }
}

TEST(Relu, Errors) {
  Array x = filled({2, 3}, 1), y = filled({3, 2}, 1), wide(DType::kF32, {2, 3}, 5), bytes(DType::kU8, {2, 3});
  expect_error("expected 2x3", [&](Exec& ex) { ex.backend->relu_forward(ex, {x.view(), y.view()}); });
  expect_error("expected 2x3", [&](Exec& ex) {
    ex.backend->relu_backward(ex, {x.view(), y.view(), x.view()});
  });
  expect_error("rows 5 apart", [&](Exec& ex) { ex.backend->relu_forward(ex, {x.view(), wide.view()}); });
  expect_error("holds u8", [&](Exec& ex) { ex.backend->relu_forward(ex, {x.view(), bytes.view()}); });
  expect_error("expected 2x3", [&](Exec& ex) { ex.backend->sigmoid_forward(ex, {x.view(), y.view()}); });
  expect_error("expected 2x3", [&](Exec& ex) {
    ex.backend->sigmoid_backward(ex, {x.view(), y.view(), x.view()});
  });
  expect_error("expected 2x3", [&](Exec& ex) { ex.backend->tanh_forward(ex, {x.view(), y.view()}); });
  expect_error("expected 2x3", [&](Exec& ex) {
    ex.backend->tanh_backward(ex, {x.view(), y.view(), x.view()});
  });
}

}  // namespace
}  // namespace convoy::reference
