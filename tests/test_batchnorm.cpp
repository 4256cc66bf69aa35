#include "kernels/batchnorm.h"
#include "reference.h"

namespace convoy::reference {
namespace {

const std::vector<Shape> kShapes = {{1, 1, 1, 1},    {2, 3, 5, 7},    {4, 8, 8, 32}, {3, 5, 7, 17},
                                    {16, 64},        {9, 3},          {2, 9, 9, 65}, {1, 4, 4, 300},
                                    {5, 16, 16, 48}, {3, 20, 20, 80}, {7, 1000}};

struct Channels {
  int64_t count, pixels;
  explicit Channels(const Shape& s) : count(s[s.rank - 1]), pixels(s.count() / count) {}
  Shape shape() const { return {count}; }
};
int64_t channel(const Array& x, int64_t i) {
  return i % x.shape()[x.shape().rank - 1];
}

// Normal data whose channels have means of their own.
Array data(const Shape& shape, uint32_t seed) {
  Array x = normals(shape, seed);
  x.each([&](int64_t i) { return x[i] * 2 + static_cast<double>(channel(x, i) % 5) * 3 - 4; });
  return x;
}
// Positive: sums of squares behind `count` elements.
Array spreads(int64_t channels, int64_t count, uint32_t seed) {
  Array m2 = normals({channels}, seed);
  m2.each([&](int64_t c) { return (0.1 + std::abs(m2[c])) * static_cast<double>(count); });
  return m2;
}

// The sums are in double (kUnitDouble a term), then one rounding to float.
void test_statistics(const Array& x) {
  const Channels ch(x.shape());
  Array mean(DType::kF32, ch.shape()), m2(DType::kF32, ch.shape());
  const double n = static_cast<double>(ch.pixels);
  std::vector<Sum> sums(static_cast<size_t>(ch.count)), squares = sums, raw = sums;
  for (int64_t i = 0; i < x.count(); ++i) sums[static_cast<size_t>(channel(x, i))].add(x[i]);
  for (int64_t i = 0; i < x.count(); ++i) {
    const size_t c = static_cast<size_t>(channel(x, i));
    squares[c].add(std::pow(x[i] - sums[c].value / n, 2));
    raw[c].add(double{x[i]} * x[i]);
  }
  Want means, spread;
  for (size_t c = 0; c < sums.size(); ++c) {
    means.within(sums[c].value / n,
                 kUnit * std::abs(sums[c].value / n) + 2 * kUnitDouble * sums[c].magnitude + FLT_MIN);
    spread.within(squares[c].value, kUnit * squares[c].value + 4 * n * kUnitDouble * raw[c].value + FLT_MIN);
  }
  check_everywhere(
      text("batchnorm_statistics ", x.shape()), {{"mean", &mean, means}, {"m2", &m2, spread}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, batchnorm_statistics, BatchNormStatistics{x.view(), mean.view(), m2.view()});
      });
}

struct Parameters {
  int64_t count;
  float eps = 1e-5f;
  Array mean, m2, gamma, beta;
  Parameters(const Channels& ch, int64_t n)
      : count(n),
        mean(normals(ch.shape(), 11)),
        m2(spreads(ch.count, n, 12)),
        gamma(normals(ch.shape(), 13)),
        beta(normals(ch.shape(), 14)) {}
  double inv_std(int64_t c) const {
    return 1 / std::sqrt(double{m2[c]} / static_cast<double>(count) + double{eps});
  }
};

void test_forward(const Array& x, int64_t count) {
  const Parameters p(Channels(x.shape()), count);
  const Array residual = normals(x.shape(), 15);
  Array y(DType::kF32, x.shape());
  for (const bool with_residual : {false, true})
    for (const bool with_relu : {false, true})
      for (const bool in_place : {false, true}) {
        Want want;
        for (int64_t i = 0; i < x.count(); ++i) {
          const int64_t c = channel(x, i);
          Sum s;
          s.add((double{x[i]} - p.mean[c]) * p.inv_std(c) * p.gamma[c]);
          s.add(p.beta[c]);
          if (with_residual) s.add(residual[i]);
          // The difference, inv_std (quotient, sum, root, quotient), gamma, the product, two sums.
          want.within(with_relu ? relu(s.value) : s.value, bound(9, s.magnitude));
        }
        check_everywhere(text("batchnorm_forward ", x.shape(), with_residual ? " residual" : "",
                              with_relu ? " relu" : "", in_place ? " in place" : ""),
                         {{"y", &y, want, in_place ? x.values() : Doubles()}}, [&](Exec& ex) {
                           BatchNormForward a{in_place ? In(y.view()) : In(x.view()),
                                              p.mean.view(),
                                              p.m2.view(),
                                              p.gamma.view(),
                                              p.beta.view(),
                                              p.count,
                                              p.eps,
                                              {},
                                              with_relu,
                                              y.view()};
                           if (with_residual) a.residual = residual.view();
                           CONVOY_INVOKE(ex, batchnorm_forward, a);
                         });
      }
}

void test_backward(const Array& x, const Array& dy, const Array& mask, bool masked) {
  const Channels ch(x.shape());
  const Parameters p(ch, ch.pixels);
  const double n = static_cast<double>(ch.pixels);
  Array dgamma(DType::kF32, ch.shape()), dbeta(DType::kF32, ch.shape()), sums(DType::kF32, {2 * ch.count});
  const Array before = normals(ch.shape(), 21);
  const auto passed = [&](int64_t i) { return masked && mask[i] <= 0 ? 0.0 : double{dy[i]}; };
  const auto xhat = [&](int64_t i) {
    return (double{x[i]} - p.mean[channel(x, i)]) * p.inv_std(channel(x, i));
  };
  std::vector<Sum> both(static_cast<size_t>(2 * ch.count));
  for (int64_t i = 0; i < x.count(); ++i) {
    both[static_cast<size_t>(channel(x, i))].add(passed(i));
    both[static_cast<size_t>(ch.count + channel(x, i))].add(passed(i) * xhat(i));
  }
  const std::string title = text(x.shape(), masked ? " mask" : "");
  for (const bool overwrite : {true, false}) {
    Want all, gammas, betas;
    for (int64_t i = 0; i < 2 * ch.count; ++i) {
      Sum s = both[static_cast<size_t>(i)];
      // The difference, inv_std (4), the product with it, the rounding to float; the sum itself is in double.
      all.within(s.value, bound(7, s.magnitude));
      if (!overwrite) s.add(before[i % ch.count]);
      (i < ch.count ? betas : gammas).within(s.value, bound(8, s.magnitude));
    }
    const Doubles old = overwrite ? Doubles() : before.values();
    check_everywhere("batchnorm_backward_sums " + title + (overwrite ? " overwrite" : ""),
                     {{"sums", &sums, all}, {"dgamma", &dgamma, gammas, old}, {"dbeta", &dbeta, betas, old}},
                     [&](Exec& ex) {
                       BatchNormBackwardSums a{x.view(), dy.view(), p.mean.view(), p.m2.view(),  p.count,
                                               p.eps,    {},        dgamma.view(), dbeta.view(), sums.view(),
                                               overwrite};
                       if (masked) a.mask = mask.view();
                       CONVOY_INVOKE(ex, batchnorm_backward_sums, a);
                     });
  }

  Array dx(DType::kF32, x.shape()), dresidual(DType::kF32, x.shape());
  const Array given = normals({2 * ch.count}, 22, n);
  Want want, passes;
  for (int64_t i = 0; i < x.count(); ++i) {
    const int64_t c = channel(x, i);
    const double scale = p.gamma[c] * p.inv_std(c);
    Sum s;
    s.add(scale * passed(i));
    s.add(-scale * given[c] / n);
    s.add(-scale * xhat(i) * given[ch.count + c] / n);
    want.within(s.value,
                bound(15, s.magnitude));  // inv_std (4) twice, gamma, 3 products, 1 quotient, 3 differences
    passes.exact(passed(i));
  }
  for (const bool in_place : {false, true})
    for (const bool with_residual : {false, true}) {
      std::vector<Output> outputs = {{"dx", &dx, want, in_place ? dy.values() : Doubles()}};
      if (with_residual) outputs.push_back({"dresidual", &dresidual, passes});
      check_everywhere("batchnorm_backward_data " + title + (in_place ? " in place" : ""), outputs,
                       [&](Exec& ex) {
                         BatchNormBackwardData a{x.view(),
                                                 in_place ? In(dx.view()) : In(dy.view()),
                                                 p.mean.view(),
                                                 p.m2.view(),
                                                 p.gamma.view(),
                                                 given.view(),
                                                 p.count,
                                                 p.eps,
                                                 {},
                                                 dx.view(),
                                                 {}};
                         if (masked) a.mask = mask.view();
                         if (with_residual) a.dresidual = dresidual.view();
                         CONVOY_INVOKE(ex, batchnorm_backward_data, a);
                       });
    }
}

TEST(BatchNorm, Statistics) {
  for (const Shape& s : kShapes) test_statistics(data(s, 1));
}
// The spread survives a mean a thousand times as large: a sum of squares in float would lose all of it.
TEST(BatchNorm, StatisticsWithLargeMean) {
  Array x = normals({4, 10, 10, 19}, 2);
  x.each([&](int64_t i) { return 1000 + x[i]; });
  test_statistics(x);
}
TEST(BatchNorm, Forward) {
  for (const Shape& s : kShapes) {
    test_forward(data(s, 1), Channels(s).pixels);
    test_forward(data(s, 2), 1);
  }
}
TEST(BatchNorm, Backward) {
  for (const Shape& s : kShapes) {
    const Array x = data(s, 1), dy = normals(s, 3), mask = whole_numbers(s, 2, 4);
    test_backward(x, dy, mask, false);
    test_backward(x, dy, mask, true);
  }
}
TEST(BatchNorm, NanPropagates) {
  const Shape s{3, 5, 5, 37};
  const Array x = data(s, 1), dy = normals(s, 3), mask = whole_numbers(s, 2, 4);
  x[700] = NAN;
  test_statistics(x);
  test_forward(x, 75);
  test_backward(x, dy, mask, false);
  dy[40] = mask[41] = NAN;
  test_backward(x, dy, mask, true);
}

TEST(BatchNorm, Running) {
  const int64_t C = 37, count = 50;
  const float momentum = 0.1f;
  const Array mean = normals({C}, 1), m2 = spreads(C, count, 2), mean0 = normals({C}, 3),
              var0 = spreads(C, 1, 4);
  Array running_mean(DType::kF32, {C}), running_var(DType::kF32, {C});
  Want means, vars;
  for (int64_t c = 0; c < C; ++c) {
    Sum a, b;
    a.add((1 - double{momentum}) * mean0[c]);
    a.add(double{momentum} * mean[c]);
    b.add((1 - double{momentum}) * var0[c]);
    b.add(double{momentum} * m2[c] / static_cast<double>(count - 1));
    means.add(a, 3, false);
    vars.add(b, 4, false);
  }
  check_everywhere(
      "batchnorm_running",
      {{"mean", &running_mean, means, mean0.values()}, {"var", &running_var, vars, var0.values()}},
      [&](Exec& ex) {
        CONVOY_INVOKE(ex, batchnorm_running,
                      BatchNormRunning{mean.view(), m2.view(), count, momentum, running_mean.view(),
                                       running_var.view()});
      });
}

TEST(BatchNorm, NoRows) {
  const Array x(DType::kF32, {0, 3, 3, 5}), c = filled({5}, 1);
  Array mean(DType::kF32, {5}), m2(DType::kF32, {5}), y(DType::kF32, x.shape()), sums(DType::kF32, {10});
  Want zero, zeros;
  zero.values.assign(5, 0);
  zeros.values.assign(10, 0);
  check_everywhere(
      "batchnorm without rows", {{"mean", &mean, zero}, {"m2", &m2, zero}, {"sums", &sums, zeros}},
      [&](Exec& ex) {
        CONVOY_INVOKE(ex, batchnorm_statistics, BatchNormStatistics{x.view(), mean.view(), m2.view()});
        const Array g(DType::kF32, {5}), b(DType::kF32, {5});
        CONVOY_INVOKE(
            ex, batchnorm_backward_sums,
            BatchNormBackwardSums{
                x.view(), x.view(), c.view(), c.view(), 1, 1e-5f, {}, g.view(), b.view(), sums.view(), true});
        CONVOY_INVOKE(ex, batchnorm_forward,
                      BatchNormForward{
                          x.view(), c.view(), c.view(), c.view(), c.view(), 1, 1e-5f, {}, false, y.view()});
        CONVOY_INVOKE(
            ex, batchnorm_backward_data,
            BatchNormBackwardData{
                x.view(), x.view(), c.view(), c.view(), c.view(), sums.view(), 1, 1e-5f, {}, y.view(), {}});
      });
}

TEST(BatchNorm, Errors) {
  const Array x = filled({4, 3}, 1), c = filled({3}, 1), c4 = filled({4}, 1), s = filled({6}, 1),
              x3 = filled({2, 2, 3}, 1);
  const auto statistics = [&](const char* part, const Array& in, const Array& mean, const Array& m2) {
    expect_error(part, [&](Exec& ex) {
      CONVOY_INVOKE(ex, batchnorm_statistics, BatchNormStatistics{in.view(), mean.view(), m2.view()});
    });
  };
  statistics("N x C", x3, c, c);
  statistics("mean is 4", x, c4, c);
  statistics("m2 is 4", x, c, c4);
  expect_error("scratch has 0 bytes", [&](Exec& ex) {
    ex.backend->batchnorm_statistics(ex, {x.view(), c.view(), c.view()});
  });
  const auto forward = [&](const char* part, const Array& gamma, int64_t count, const Array& y) {
    expect_error(part, [&](Exec& ex) {
      ex.backend->batchnorm_forward(
          ex, {x.view(), c.view(), c.view(), gamma.view(), c.view(), count, 1e-5f, {}, false, y.view()});
    });
  };
  forward("gamma is 4", c4, 4, x);
  forward("count 0", c, 0, x);
  forward("y is 6", c, 4, s);
  expect_error("sums is 3", [&](Exec& ex) {
    CONVOY_INVOKE(
        ex, batchnorm_backward_sums,
        BatchNormBackwardSums{
            x.view(), x.view(), c.view(), c.view(), 4, 1e-5f, {}, c.view(), c.view(), c.view(), true});
  });
  expect_error("sums is 3", [&](Exec& ex) {
    ex.backend->batchnorm_backward_data(
        ex, {x.view(), x.view(), c.view(), c.view(), c.view(), c.view(), 4, 1e-5f, {}, x.view(), {}});
  });
  expect_error("running_mean is 4", [&](Exec& ex) {
    ex.backend->batchnorm_running(ex, {c.view(), c.view(), 4, 0.1f, c4.view(), c.view()});
  });
}

}  // namespace
}  // namespace convoy::reference
