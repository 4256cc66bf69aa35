#include <cstdlib>

#include "batchnorm_data.h"
#include "kernels/batchnorm.h"

namespace convoy::reference {
namespace {

const std::vector<Shape> kShapes = {{1, 1, 1, 1},    {2, 3, 5, 7},    {4, 8, 8, 32}, {3, 5, 7, 17},
                                    {16, 64},        {9, 3},          {2, 9, 9, 65}, {1, 4, 4, 300},
                                    {5, 16, 16, 48}, {3, 20, 20, 80}, {7, 1000}};

// body(cuda) on the CPU's tables, then on CUDA: their sums are not rounded alike.
template <class Body>
void for_each_kind(const Body& body) {
  const char* set = std::getenv("CONVOY_TEST_BACKENDS");
  const std::string before = set != nullptr ? set : "";
  for (const bool cuda : {false, true}) {
    const auto backends = test_backends();
    if (std::none_of(backends.begin(), backends.end(), [&](const Backend* b) { return is_cuda(*b) == cuda; }))
      continue;
    setenv("CONVOY_TEST_BACKENDS", cuda ? "cuda" : "cpu", 1);
    body(cuda);
    set != nullptr ? setenv("CONVOY_TEST_BACKENDS", before.c_str(), 1) : unsetenv("CONVOY_TEST_BACKENDS");
  }
}
// Elements that CUDA adds up in f32.
double run_of(const Channels& ch) {
  return static_cast<double>(std::min<int64_t>(ch.pixels, 128));
}
// Positive: sums of squares behind `count` elements.
Array spreads(int64_t channels, int64_t count, uint32_t seed) {
  Array m2 = normals({channels}, seed);
  m2.each([&](int64_t c) { return (0.1 + std::abs(m2[c])) * static_cast<double>(count); });
  return m2;
}

// On the CPU the sums are in double (kUnitDouble a term), then there is one rounding to float; on CUDA too when the
// numbers are whole. Otherwise CUDA rounds, in a run of r elements about one of the channel: the difference, r - 1 sums,
// and the square. Differences are at most the channel's range: gamma(r) of that for the mean; for the sum of squares
// gamma(r + 3) of n · range², and twice each through the mean of the run and of all.
void test_statistics(const Array& x, bool whole) {
  const Channels ch(x.shape());
  const Array in = given(x);
  Array mean(DType::kF32, ch.shape()), m2(DType::kF32, ch.shape());
  const double n = static_cast<double>(ch.pixels), r = run_of(ch);
  std::vector<Sum> sums(static_cast<size_t>(ch.count)), squares = sums, raw = sums;
  Doubles least(sums.size(), HUGE_VAL), most(sums.size(), -HUGE_VAL);
  for (int64_t i = 0; i < x.count(); ++i) {
    const size_t c = static_cast<size_t>(channel(x, i));
    sums[c].add(x[i]);
    least[c] = std::min<double>(least[c], x[i]);
    most[c] = std::max<double>(most[c], x[i]);
  }
  for (int64_t i = 0; i < x.count(); ++i) {
    const size_t c = static_cast<size_t>(channel(x, i));
    squares[c].add(std::pow(x[i] - sums[c].value / n, 2));
    raw[c].add(double{x[i]} * x[i]);
  }
  for_each_kind([&](bool cuda) {
    Want means, spread;
    for (size_t c = 0; c < sums.size(); ++c) {
      const double range = cuda && !whole ? most[c] - least[c] : 0;
      means.within(sums[c].value / n, kUnit * std::abs(sums[c].value / n) + gamma(r) * range +
                                          2 * kUnitDouble * sums[c].magnitude + FLT_MIN);
      spread.within(squares[c].value, kUnit * squares[c].value + 5 * gamma(r + 3) * n * range * range +
                                          4 * n * kUnitDouble * raw[c].value + FLT_MIN);
    }
    check_everywhere(
        text("batchnorm_statistics ", x.shape()), {{"mean", &mean, means}, {"m2", &m2, spread}},
        [&](Exec& ex) {
          CONVOY_INVOKE(ex, batchnorm_statistics, BatchNormStatistics{in.view(), mean.view(), m2.view()});
        });
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
  const Array residual = held(normals(x.shape(), 15)), in = given(x), residual_in = given(residual);
  Array y(test_dtype(), x.shape());
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
                         {{"y", &y, stored(test_dtype(), want), in_place ? x.values() : Doubles()}},
                         [&](Exec& ex) {
                           BatchNormForward a{in_place ? In(y.view()) : In(in.view()),
                                              p.mean.view(),
                                              p.m2.view(),
                                              p.gamma.view(),
                                              p.beta.view(),
                                              p.count,
                                              p.eps,
                                              {},
                                              with_relu,
                                              y.view()};
                           if (with_residual) a.residual = residual_in.view();
                           CONVOY_INVOKE(ex, batchnorm_forward, a);
                         });
      }
}

void test_backward(const Array& x, const Array& dy, const Array& mask, bool masked) {
  const Channels ch(x.shape());
  const Parameters p(ch, ch.pixels);
  const Array x_in = given(x), dy_in = given(dy), mask_in = given(mask);
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
  for (const bool overwrite : {true, false})
    for_each_kind([&](bool cuda) {
      Want all, gammas, betas;
      for (int64_t i = 0; i < 2 * ch.count; ++i) {
        Sum s = both[static_cast<size_t>(i)];
        // The difference, inv_std (4), the product with it, the rounding to float; the sum itself is in double, on CUDA
        // after runs in float, as are their terms.
        const double roundings = 7 + (cuda ? run_of(ch) : 0);
        all.within(s.value, bound(roundings, s.magnitude));
        if (!overwrite) s.add(before[i % ch.count]);
        (i < ch.count ? betas : gammas).within(s.value, bound(roundings + 1, s.magnitude));
      }
      const Doubles old = overwrite ? Doubles() : before.values();
      check_everywhere(
          "batchnorm_backward_sums " + title + (overwrite ? " overwrite" : ""),
          {{"sums", &sums, all}, {"dgamma", &dgamma, gammas, old}, {"dbeta", &dbeta, betas, old}},
          [&](Exec& ex) {
            BatchNormBackwardSums a{x_in.view(), dy_in.view(),  p.mean.view(), p.m2.view(), p.count,  p.eps,
                                    {},          dgamma.view(), dbeta.view(),  sums.view(), overwrite};
            if (masked) a.mask = mask_in.view();
            CONVOY_INVOKE(ex, batchnorm_backward_sums, a);
          });
    });

  Array dx(test_dtype(), x.shape()), dresidual(test_dtype(), x.shape());
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
      std::vector<Output> outputs = {
          {"dx", &dx, stored(test_dtype(), want), in_place ? dy.values() : Doubles()}};
      if (with_residual) outputs.push_back({"dresidual", &dresidual, passes});
      check_everywhere("batchnorm_backward_data " + title + (in_place ? " in place" : ""), outputs,
                       [&](Exec& ex) {
                         BatchNormBackwardData a{x_in.view(),
                                                 in_place ? In(dx.view()) : In(dy_in.view()),
                                                 p.mean.view(),
                                                 p.m2.view(),
                                                 p.gamma.view(),
                                                 given.view(),
                                                 p.count,
                                                 p.eps,
                                                 {},
                                                 dx.view(),
                                                 {}};
                         if (masked) a.mask = mask_in.view();
                         if (with_residual) a.dresidual = dresidual.view();
                         CONVOY_INVOKE(ex, batchnorm_backward_data, a);
                       });
    }
}

// body() in every type; halves with the smaller shapes.
template <class Body>
void for_shapes(const Body& body) {
  for_every_dtype([&](DType dtype) {
    for (const Shape& s : kShapes)
      if (dtype == DType::kF32 || s.count() <= 10000) body(s);
  });
  test_work() = 0;
}

TEST(BatchNorm, Statistics) {
  for_shapes([](const Shape& s) {
    test_statistics(data(s, 1), false);
    test_statistics(data(s, 1, true), true);
  });
}
// The spread survives a mean a thousand times as large: a sum of squares in float would lose all of it.
TEST(BatchNorm, StatisticsWithLargeMean) {
  Array x = normals({4, 10, 10, 19}, 2);
  x.each([&](int64_t i) { return 1000 + x[i]; });
  test_statistics(x, false);
}

TEST(BatchNorm, Forward) {
  for_shapes([](const Shape& s) {
    test_forward(data(s, 1), Channels(s).pixels);
    test_forward(data(s, 2), 1);
  });
}
TEST(BatchNorm, Backward) {
  for_shapes([](const Shape& s) {
    const Array x = data(s, 1), dy = held(normals(s, 3)), mask = whole_numbers(s, 2, 4);
    test_backward(x, dy, mask, false);
    test_backward(x, dy, mask, true);
  });
}
TEST(BatchNorm, NanPropagates) {
  const Shape s{3, 5, 5, 37};
  for_every_dtype([&](DType) {
    const Array x = data(s, 1), dy = held(normals(s, 3)), mask = whole_numbers(s, 2, 4);
    x[700] = NAN;
    test_statistics(x, false);
    test_forward(x, 75);
    test_backward(x, dy, mask, false);
    dy[40] = mask[41] = NAN;
    test_backward(x, dy, mask, true);
  });
}

// Where the elements lie decides how they are loaded, not what comes out.
TEST(BatchNorm, AnyAddressGivesTheSameBits) {
  const Shape shape{3, 6, 6, 24};
  const Channels ch(shape);
  for_every_dtype([&](DType dtype) {
    const Array x = given(data(shape, 1)), dy = given(held(normals(shape, 2)));
    const Parameters p(ch, ch.pixels);
    for_every_table([&](Exec& ex) {
      std::vector<Doubles> first;
      for (const int64_t shift : {0, 1}) {
        const auto shifted = [&](const Array& a) {
          return a.view().slice_rows(shift, x.count()).reshaped(shape);
        };
        const Shape line{x.count() + shift};
        Array xs(dtype, line), dys(dtype, line), y(dtype, line), dx(dtype, line);
        for (int64_t i = 0; i < x.count(); ++i) {
          xs.set(shift + i, x.value(i));
          dys.set(shift + i, dy.value(i));
        }
        Array mean(DType::kF32, ch.shape()), m2(DType::kF32, ch.shape()), dgamma(DType::kF32, ch.shape()),
            dbeta(DType::kF32, ch.shape()), sums(DType::kF32, {2 * ch.count});
        CONVOY_INVOKE(ex, batchnorm_statistics, BatchNormStatistics{shifted(xs), mean.view(), m2.view()});
        CONVOY_INVOKE(ex, batchnorm_backward_sums,
                      BatchNormBackwardSums{shifted(xs), shifted(dys), mean.view(), m2.view(), p.count, p.eps,
                                            shifted(xs), dgamma.view(), dbeta.view(), sums.view(), true});
        CONVOY_INVOKE(ex, batchnorm_forward,
                      BatchNormForward{shifted(xs), mean.view(), m2.view(), p.gamma.view(), p.beta.view(),
                                       p.count, p.eps, shifted(dys), true, shifted(y)});
        CONVOY_INVOKE(ex, batchnorm_backward_data,
                      BatchNormBackwardData{shifted(xs),
                                            shifted(dys),
                                            mean.view(),
                                            m2.view(),
                                            p.gamma.view(),
                                            sums.view(),
                                            p.count,
                                            p.eps,
                                            shifted(y),
                                            shifted(dx),
                                            {}});
        std::vector<Doubles> all = {mean.values(), m2.values(), dgamma.values(), dbeta.values(),
                                    sums.values()};
        for (const Array* a : {&y, &dx}) {
          all.push_back(a->values());
          all.back().erase(all.back().begin(), all.back().begin() + shift);
        }
        if (shift == 0) first = all;
        EXPECT_TRUE(first == all) << ex.backend->name << " " << dtype_name(dtype);
      }
    });
  });
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
  expect_error("running_mean is 4", [&](Exec& ex) {
    ex.backend->batchnorm_running(ex, {c.view(), c.view(), 4, 0.1f, c4.view(), c.view()});
  });
}

}  // namespace
}  // namespace convoy::reference
