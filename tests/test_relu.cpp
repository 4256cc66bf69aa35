#include "kernels/relu.h"
#include "reference.h"

namespace convoy::reference {
namespace {

// Around the sizes of vectors, chunks and the point where threads join.
const std::vector<Shape> kShapes = {{0, 4}, {1},    {3, 5},       {1, 17}, {2, 3, 5, 7},
                                    {8191}, {8193}, {5, 1000, 7}, {40000}};

using Function = std::function<double(double)>;
using Gradient = std::function<double(double, double)>;

// f of every element; `error` bounds the f32 result's, none means exact.
Want map(const Array& x, const Function& f, const Function& error = nullptr) {
  Want w;
  for (const double v : x.values()) error ? w.within(f(v), error(f(v))) : w.exact(f(v));
  return stored(x.dtype(), w);
}
Want map2(const Array& y, const Array& dy, const Gradient& f, double roundings) {
  Want w;
  for (int64_t i = 0; i < y.count(); ++i) {
    const double v = f(y.value(i), dy.value(i));
    roundings > 0 ? w.within(v, bound(roundings, std::abs(v))) : w.exact(v);
  }
  return stored(y.dtype(), w);
}
double relu_gradient(double y, double dy) {
  return y <= 0 ? 0 : dy;
}

TEST(Relu, ForwardAndBackwardExact) {
  for_every_dtype([](DType dtype) {
    for (const Shape& shape : kShapes) {
      const Array x = as(dtype, whole_numbers(shape, 3, 1)), dy = as(dtype, normals(shape, 2));
      Array y(dtype, shape), dx(dtype, shape);
      if (x.count() > 0) x.set(x.count() - 1, NAN);
      const std::string title = text(dtype_name(dtype), " ", shape);
      check_everywhere("relu_forward " + title, {{"y", &y, map(x, relu)}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, relu_forward, ReluForward{x.view(), y.view()});
      });
      check_everywhere("relu_backward " + title, {{"dx", &dx, map2(y, dy, relu_gradient, 0)}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, relu_backward, ReluBackward{y.view(), dy.view(), dx.view()});
      });
    }
  });
}

TEST(Relu, InPlace) {
  for_every_dtype([](DType dtype) {
    const Array x = as(dtype, whole_numbers({3, 777}, 3, 3)), dy = as(dtype, normals({3, 777}, 4));
    Array y(dtype, x.shape());
    check_everywhere("relu_forward in place", {{"y", &y, map(x, relu), x.values()}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, relu_forward, ReluForward{y.view(), y.view()});
    });
    check_everywhere("relu_backward in place", {{"dx", &y, map2(x, dy, relu_gradient, 0), dy.values()}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, relu_backward, ReluBackward{x.view(), y.view(), y.view()});
                     });
  });
}

// Operands that lie anywhere: vectors are for those at multiples of 16 bytes.
TEST(Relu, AnyAlignment) {
  for_every_dtype([](DType dtype) {
    constexpr int64_t kCount = 61;
    for (const int64_t from : {0, 1, 3})
      for (const int64_t to : {0, 1, 8}) {
        const Array x = as(dtype, whole_numbers({from + kCount}, 3, 1));
        Array y(dtype, {to + kCount});
        Want want;
        for (int64_t i = 0; i < to; ++i) want.exact(7);
        for (int64_t i = 0; i < kCount; ++i) want.exact(relu(x.value(from + i)));
        check_everywhere(
            text("relu_forward ", dtype_name(dtype), " from ", from, " to ", to),
            {{"y", &y, want, Doubles(static_cast<size_t>(to), 7)}}, [&](Exec& ex) {
              CONVOY_INVOKE(ex, relu_forward,
                            ReluForward{x.view().slice_rows(from, kCount), y.view().slice_rows(to, kCount)});
            });
      }
  });
}

TEST(Sigmoid, WithinBounds) {
  // expf, the sum, the division.
  const auto error = [](double v) { return (kExpf + gamma(2)) * v + 2 * FLT_MIN; };
  const auto sigmoid = [](double v) { return 1 / (1 + std::exp(-v)); };
  for_every_dtype([&](DType dtype) {
    for (const Shape& shape : kShapes) {
      const Array x = as(dtype, normals(shape, 5, 20)), dy = as(dtype, normals(shape, 6));
      Array y(dtype, shape), dx(dtype, shape);
      if (x.count() > 0) x.set(0, NAN);
      const std::string title = text(dtype_name(dtype), " ", shape);
      check_everywhere("sigmoid_forward " + title, {{"y", &y, map(x, sigmoid, error)}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, sigmoid_forward, SigmoidForward{x.view(), y.view()});
      });
      const Want want = map2(
          y, dy, [](double v, double d) { return d * v * (1 - v); }, 3);
      check_everywhere("sigmoid_backward " + title, {{"dx", &dx, want}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, sigmoid_backward, SigmoidBackward{y.view(), dy.view(), dx.view()});
      });
    }
  });
}

TEST(Tanh, WithinBounds) {
  const auto error = [](double v) { return kTanhf * std::abs(v) + FLT_MIN; };
  for_every_dtype([&](DType dtype) {
    for (const Shape& shape : kShapes) {
      const Array x = as(dtype, normals(shape, 7, 3)), dy = as(dtype, normals(shape, 8));
      Array y(dtype, shape), dx(dtype, shape);
      if (x.count() > 0) x.set(0, NAN);
      const std::string title = text(dtype_name(dtype), " ", shape);
      check_everywhere("tanh_forward " + title,
                       {{"y", &y,
                         map(
                             x, [](double v) { return std::tanh(v); }, error)}},
                       [&](Exec& ex) {
                         CONVOY_INVOKE(ex, tanh_forward, TanhForward{x.view(), y.view()});
                       });
      const Want want = map2(
          y, dy, [](double v, double d) { return d * (1 - v) * (1 + v); }, 4);
      check_everywhere("tanh_backward " + title, {{"dx", &dx, want}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, tanh_backward, TanhBackward{y.view(), dy.view(), dx.view()});
      });
    }
  });
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
