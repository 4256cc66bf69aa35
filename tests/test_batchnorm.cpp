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

// Rows split over workers, some without any (whose mean is a NaN), against one worker with all of them.
void test_merge(const Array& x, const std::vector<int64_t>& rows) {
  const Channels ch(x.shape());
  const int64_t workers = static_cast<int64_t>(rows.size()), C = ch.count;
  std::vector<int64_t> counts;
  Array all(DType::kF32, {workers, 2 * C});
  Exec ex = cpu_exec(cpu_backend("auto"), 1);
  int64_t row = 0;
  for (int64_t worker = 0; worker < workers; ++worker) {
    const int64_t own = rows[static_cast<size_t>(worker)];
    counts.push_back(own * (x.shape().row() / C));
    const View mean = all.view().slice_rows(worker, 1).slice_columns(0, C).reshaped({C}),
               m2 = all.view().slice_rows(worker, 1).slice_columns(C, C).reshaped({C});
    if (own > 0)
      CONVOY_INVOKE(ex, batchnorm_statistics, BatchNormStatistics{x.view().slice_rows(row, own), mean, m2});
    row += own;
  }
  ASSERT_EQ(row, x.shape()[0]);
  const double n = static_cast<double>(ch.pixels);
  Want means, spread;
  for (int64_t c = 0; c < C; ++c) {
    Sum sum, squares;
    for (int64_t i = c; i < x.count(); i += C) sum.add(x[i]);
    const double mean = sum.value / n;
    for (int64_t i = c; i < x.count(); i += C) squares.add(std::pow(x[i] - mean, 2));
    // Every worker's mean and m2 are rounded once, and the results; what moves a mean by e moves the sum of
    // squares behind it by at most count · (2·|difference|·e + e²).
    double mean_error = 0, m2_error = 0, raw = 0;
    for (size_t worker = 0; worker < counts.size(); ++worker)
      if (counts[worker] > 0)
        mean_error += static_cast<double>(counts[worker]) / n * kUnit *
                      std::abs(all[static_cast<int64_t>(worker) * 2 * C + c]);
    for (size_t worker = 0; worker < counts.size(); ++worker)
      if (counts[worker] > 0) {
        const double own = static_cast<double>(counts[worker]),
                     own_mean = all[static_cast<int64_t>(worker) * 2 * C + c],
                     e = kUnit * std::abs(own_mean) + mean_error;
        m2_error += own * (2 * std::abs(own_mean - mean) * e + e * e);
        raw += own * own_mean * own_mean;
      }
    for (int64_t i = c; i < x.count(); i += C) raw += double{x[i]} * x[i];
    means.within(mean,
                 mean_error + kUnit * std::abs(mean) + 4 * n * kUnitDouble * sum.magnitude / n + FLT_MIN);
    spread.within(squares.value,
                  m2_error + 2.01 * kUnit * squares.value + 8 * n * kUnitDouble * raw + FLT_MIN);
  }
  Array mean(DType::kF32, {C}), m2(DType::kF32, {C});
  check_everywhere(
      text("batchnorm_merge ", x.shape(), " workers ", workers),
      {{"mean", &mean, means}, {"m2", &m2, spread}}, [&](Exec& on) {
        CONVOY_INVOKE(on, batchnorm_merge, BatchNormMerge{all.view(), &counts, mean.view(), m2.view()});
      });
}

TEST(BatchNorm, Merge) {
  const Array x = data({13, 3, 5, 17}, 1), matrix = data({64, 300}, 2);
  for (const std::vector<int64_t>& rows : std::vector<std::vector<int64_t>>{
           {13}, {6, 7}, {0, 13}, {5, 0, 8}, {1, 1, 11}, {4, 4, 4, 1, 0, 0, 0, 0}})
    test_merge(x, rows);
  test_merge(matrix, {8, 8, 8, 8, 8, 8, 8, 8});
  Array far = normals({30, 19}, 2);
  far.each([&](int64_t i) { return 1000 + 10 * static_cast<double>(i / (19 * 10)) + far[i]; });
  test_merge(far, {10, 10, 10});
}
// One worker with elements: its bits; none: 0; a NaN stays in its channel.
TEST(BatchNorm, MergeOfOne) {
  const int64_t C = 6;
  const std::vector<int64_t> one = {0, 7, 0}, none = {0, 0, 0}, two = {3, 7, 0};
  Array all(DType::kF32, {3, 2 * C});
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> own = {-0.0f, 1e30f, inf, 0.1f, NAN, -3, 5, 0, 0.3f, 1e-30f, 2, NAN};
  for (int64_t i = 0; i < 2 * C; ++i) all[2 * C + i] = own[static_cast<size_t>(i)];
  Array mean(DType::kF32, {C}), m2(DType::kF32, {C});
  const auto merge = [&](Exec& ex, const std::vector<int64_t>& counts) {
    CONVOY_INVOKE(ex, batchnorm_merge, BatchNormMerge{all.view(), &counts, mean.view(), m2.view()});
  };
  for_every_table([&](Exec& ex) {
    merge(ex, one);
    for (int64_t c = 0; c < C; ++c) {
      const float m = own[static_cast<size_t>(c)], s = own[static_cast<size_t>(C + c)];
      EXPECT_TRUE(std::isnan(m) ? std::isnan(mean[c])
                                : mean[c] == m && std::signbit(mean[c]) == std::signbit(m))
          << ex.backend->name << " " << c;
      EXPECT_TRUE(std::isnan(s) ? std::isnan(m2[c]) : m2[c] == s) << ex.backend->name << " " << c;
    }
    merge(ex, none);
    for (int64_t c = 0; c < C; ++c) EXPECT_TRUE(mean[c] == 0 && m2[c] == 0) << ex.backend->name;
    for (int64_t i = 0; i < 2 * C; ++i) all[i] = 1;
    merge(ex, two);
    for (int64_t c = 0; c < C; ++c) {
      EXPECT_EQ(std::isnan(mean[c]), c == 4) << ex.backend->name << " " << c;
      EXPECT_EQ(std::isnan(m2[c]), c == 4 || c == 5) << ex.backend->name << " " << c;
    }
    for (int64_t i = 0; i < 2 * C; ++i) all[i] = NAN;
  });
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

// No rows, or no channels: the sums are zeros, what is added to stays.
TEST(BatchNorm, NoRows) {
  for (const Shape& shape : {Shape{0, 3, 3, 5}, Shape{0, 5}, Shape{4, 3, 3, 0}, Shape{4, 0}}) {
    const int64_t C = shape[shape.rank - 1];
    const Array x(DType::kF32, shape), c = filled({C}, 1);
    Array mean(DType::kF32, {C}), m2(DType::kF32, {C}), y(DType::kF32, shape), sums(DType::kF32, {2 * C}),
        dgamma(DType::kF32, {C}), dbeta(DType::kF32, {C}), gamma(DType::kF32, {C}), beta(DType::kF32, {C});
    const auto constant = [](int64_t count, double value) {
      Want w;
      w.values.assign(static_cast<size_t>(count), value);
      return w;
    };
    const Want zero = constant(C, 0), two = constant(C, 2);
    check_everywhere(
        text("batchnorm of ", shape),
        {{"mean", &mean, zero},
         {"m2", &m2, zero},
         {"sums", &sums, constant(2 * C, 0)},
         {"dgamma", &dgamma, zero},
         {"dbeta", &dbeta, zero},
         {"dgamma before", &gamma, two, two.values},
         {"dbeta before", &beta, two, two.values},
         {"y", &y, constant(0, 0)}},
        [&](Exec& ex) {
          CONVOY_INVOKE(ex, batchnorm_statistics, BatchNormStatistics{x.view(), mean.view(), m2.view()});
          BatchNormBackwardSums backward{x.view(), x.view(),      c.view(),     c.view(),    1,   1e-5f,
                                         {},       dgamma.view(), dbeta.view(), sums.view(), true};
          CONVOY_INVOKE(ex, batchnorm_backward_sums, backward);
          backward.dgamma = gamma.view();
          backward.dbeta = beta.view();
          backward.overwrite = false;
          CONVOY_INVOKE(ex, batchnorm_backward_sums, backward);
          CONVOY_INVOKE(ex, batchnorm_forward,
                        BatchNormForward{
                            x.view(), c.view(), c.view(), c.view(), c.view(), 1, 1e-5f, {}, false, y.view()});
          CONVOY_INVOKE(
              ex, batchnorm_backward_data,
              BatchNormBackwardData{
                  x.view(), x.view(), c.view(), c.view(), c.view(), sums.view(), 1, 1e-5f, {}, y.view(), {}});
        });
  }
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
  const std::vector<int64_t> counts = {4, 4}, bad = {4, -1};
  const Array all = filled({2, 6}, 1);
  const auto merge = [&](const char* part, const Array& in, const std::vector<int64_t>* of) {
    expect_error(part, [&](Exec& ex) {
      ex.backend->batchnorm_merge(ex, {in.view(), of, c.view(), c.view()});
    });
  };
  merge("no counts", all, nullptr);
  merge("count -1", all, &bad);
  merge("all is 4x3", x, &counts);
  expect_error("running_mean is 4", [&](Exec& ex) {
    ex.backend->batchnorm_running(ex, {c.view(), c.view(), 4, 0.1f, c4.view(), c.view()});
  });
}

}  // namespace
}  // namespace convoy::reference
