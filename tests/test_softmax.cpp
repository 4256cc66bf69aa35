#include <algorithm>

#include "kernels/softmax.h"
#include "reference.h"

namespace convoy::reference {
namespace {

// What the logits and their gradient are stored as. The CPU takes f32 alone.
struct Types {
  DType x, dx;
};
template <class Body>
void for_types(const Body& body) {
  constexpr DType f32 = DType::kF32, bf16 = DType::kBF16, f16 = DType::kF16;
  for (const Types t : {Types{f32, f32}, {bf16, bf16}, {f16, f16}, {f32, bf16}, {bf16, f32}, {f16, f32}}) {
    test_dtype() = t.x == f32 ? t.dx : t.x;
    if (test_dtype() == f32 || is_cuda(*test_backends().back())) body(t);
  }
  test_dtype() = f32;
}

struct Problem {
  Array x, labels;  // x in f32
  int64_t rows() const { return x.shape()[0]; }
  int64_t classes() const { return x.shape()[1]; }
  const float* row(int64_t n) const { return x.data() + n * classes(); }
  int64_t label(int64_t n) const { return labels.at<int32_t>(n); }
  bool nan(int64_t n) const {
    return std::any_of(row(n), row(n) + classes(), [](float v) { return v != v; });
  }
};
Problem problem(int64_t rows, int64_t classes, double scale, bool whole, uint32_t seed) {
  Random random(seed);
  std::vector<int32_t> labels;
  for (int64_t n = 0; n < rows; ++n) labels.push_back(static_cast<int32_t>(random.whole(0, classes - 1)));
  return {whole ? whole_numbers({rows, classes}, 3, seed) : normals({rows, classes}, seed, scale),
          labels_of(labels)};
}

struct Wanted {
  Want dx, loss, rank;
};
void want_rank(const Problem& p, int64_t n, Want& rank) {
  int64_t better = 0;
  for (int64_t f = 0; f < p.classes(); ++f) {
    const float v = p.row(n)[f], mine = p.row(n)[p.label(n)];
    better += v > mine || (v == mine && f < p.label(n));
  }
  rank.exact(static_cast<double>(p.nan(n) ? p.classes() : better));
}

// Rounding x - max turns into a relative error of u · |x - max| of its exponential, expf adds its own; the
// sum of the exponentials has the mean of their errors. Then a rounding of the sum's inverse, a product, the
// subtraction of 1.
Wanted softmax_want(const Problem& p) {
  Wanted w;
  for (int64_t n = 0; n < p.rows(); ++n) {
    const float* x = p.row(n);
    want_rank(p, n, w.rank);
    const double top = p.nan(n) ? kNaN : *std::max_element(x, x + p.classes());
    double sum = 0, mean_error = 0;
    for (int64_t f = 0; f < p.classes(); ++f) sum += std::exp(x[f] - top);
    for (int64_t f = 0; f < p.classes(); ++f)
      mean_error += std::exp(x[f] - top) / sum * (kUnit * (top - x[f]) + kExpf);
    const double loss = std::log(sum) + top - x[p.label(n)], classes = static_cast<double>(p.classes());
    w.loss.within(loss, 1.01 * mean_error + gamma(1) * loss + classes * FLT_MIN);
    for (int64_t f = 0; f < p.classes(); ++f) {
      const double q = std::exp(x[f] - top) / sum, hot = f == p.label(n) ? 1 : 0;
      w.dx.within(q - hot, q * 1.01 * (kUnit * (top - x[f]) + kExpf + mean_error + gamma(2)) +
                               hot * gamma(1) * std::abs(q - hot) + classes * FLT_MIN);
    }
  }
  return w;
}
// exp, then log1p or a sum and a quotient; the sum over the classes is in double.
// Of the classes [first, first + width).
Wanted logistic_want(const Problem& p, int64_t first, int64_t width) {
  Wanted w;
  for (int64_t n = 0; n < p.rows(); ++n) {
    const float* x = p.row(n);
    want_rank(p, n, w.rank);
    const bool own = p.label(n) >= first && p.label(n) < first + width,
               nan = std::any_of(
                   x + first, x + first + width, [](float v) { return v != v; });
    double loss = nan ? kNaN : own ? -double{x[p.label(n)]} : 0, error = 0;
    for (int64_t f = first; f < first + width; ++f) {
      const double small = std::exp(-std::abs(double{x[f]})), tail = std::log1p(small),
                   top = std::max(double{x[f]}, 0.0);
      loss += top + tail;
      error += tail * (kExpf + kLog1pf) + (top + tail) * gamma(1) + 2 * FLT_MIN;
      const double sigmoid = nan ? kNaN : (x[f] > 0 ? 1 : small) / (1 + small), hot = f == p.label(n) ? 1 : 0;
      w.dx.within(sigmoid - hot,
                  sigmoid * 1.01 * (2 * kExpf + gamma(2)) + gamma(1) * std::abs(sigmoid - hot) + FLT_MIN);
    }
    w.loss.within(loss, error + gamma(1) * std::abs(loss));
  }
  return w;
}

constexpr float kLossScale = 1024;

template <class Args>
void test(const std::string& operation, const Problem& p, const Wanted& w, const Types& types,
          const std::function<void(Exec&, const Args&)>& call) {
  const Array x = as(types.x, p.x);
  Array dx(types.dx, p.x.shape()), loss(DType::kF32, {p.rows()}), rank(DType::kI32, {p.rows()});
  const std::string title =
      text(operation, " ", p.x.shape(), " ", dtype_name(types.x), " to ", dtype_name(types.dx));
  const Want dx_want = stored(types.dx, w.dx);
  check_everywhere(title, {{"dx", &dx, dx_want}, {"row_loss", &loss, w.loss}, {"row_rank", &rank, w.rank}},
                   [&](Exec& ex) {
                     call(ex, Args{x.view(), p.labels.view(), dx.view(), loss.view(), rank.view()});
                   });
  check_everywhere(title + " loss alone", {{"row_loss", &loss, w.loss}}, [&](Exec& ex) {
    call(ex, Args{x.view(), p.labels.view(), {}, loss.view(), {}});
  });
  Want scaled = w.dx;
  for (double& v : scaled.values) v *= kLossScale;
  for (double& v : scaled.bounds) v *= kLossScale;
  StepScalars s;
  s.loss_scale = kLossScale;
  const Scalars scalars(s);
  check_everywhere(title + " loss scale",
                   {{"dx", &dx, stored(types.dx, scaled)}, {"row_loss", &loss, w.loss}}, [&](Exec& ex) {
                     Args a{x.view(), p.labels.view(), dx.view(), loss.view(), {}};
                     a.scalars = scalars.get();
                     call(ex, a);
                   });
  if (types.x != types.dx) return;
  check_everywhere(title + " in place", {{"dx", &dx, dx_want, p.x.values()}, {"row_loss", &loss, w.loss}},
                   [&](Exec& ex) {
                     call(ex, Args{dx.view(), p.labels.view(), dx.view(), loss.view(), {}});
                   });
}
void test_both(const std::function<Problem()>& make) {
  for_types([&](const Types& types) {
    Problem p = make();
    if (types.x != types.dx && p.classes() > 500) return;  // slow when emulated, and short rows convert alike
    p.x.each([&](int64_t i) { return rounded_to(types.x, p.x[i]); });
    test<SoftmaxCrossEntropy>(
        "softmax_cross_entropy", p, softmax_want(p), types,
        [](Exec& ex, const SoftmaxCrossEntropy& a) { CONVOY_INVOKE(ex, softmax_cross_entropy, a); });
    test<LogisticCrossEntropy>(
        "logistic_cross_entropy", p, logistic_want(p, 0, p.classes()), types,
        [](Exec& ex, const LogisticCrossEntropy& a) { CONVOY_INVOKE(ex, logistic_cross_entropy, a); });
  });
}

TEST(CrossEntropy, WithinBounds) {
  for (const auto& [rows, classes] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {3, 2}, {64, 10}, {7, 100}, {9, 1000}, {2, 17}, {0, 10}, {1, 1024}, {2, 1025}, {1, 3000}})
    for (const double scale : {3, 40})
      test_both([&, N = rows, F = classes] { return problem(N, F, scale, false, 1); });
}
// Whole numbers: the ranks meet ties.
TEST(CrossEntropy, Ties) {
  test_both([] { return problem(50, 10, 1, true, 3); });
  test_both([] { return problem(2, 1100, 1, true, 4); });
}

TEST(CrossEntropy, LargeLogitsDoNotOverflow) {
  test_both([] {
    Problem p = problem(4, 5, 1, false, 4);
    p.x.each([&](int64_t i) { return (i % 3 - 1) * 1e4 + p.x[i]; });
    return p;
  });
}
TEST(CrossEntropy, NanSpoilsItsRowOnly) {
  for (const int64_t at : {0, 4, 9})
    test_both([&] {
      Problem p = problem(6, 10, 1, false, 5);
      p.x[10 + at] = NAN;
      return p;
    });
  test_both([&] {
    Problem p = problem(3, 1100, 1, false, 5);
    p.x[1100 + 1050] = NAN;
    return p;
  });
}

// A device cannot throw: the row of a label that is no class is NaN, and beaten by all.
TEST(CrossEntropy, CudaLabelsThatAreNoClass) {
  const Problem p = problem(4, 5, 1, false, 1);
  const Array labels = labels_of({0, -1, 5, 2147483647});
  Array dx(DType::kF32, {4, 5}), loss(DType::kF32, {4}), rank(DType::kI32, {4});
  for_every_table([&](Exec& ex) {
    if (!is_cuda(*ex.backend)) return;
    const auto check = [&](const char* name) {
      ex.backend->synchronize(ex);
      for (int64_t i = 0; i < 20; ++i) EXPECT_EQ(std::isnan(dx[i]), i >= 5) << name << " " << i;
      for (int64_t n = 0; n < 4; ++n) EXPECT_EQ(std::isnan(loss[n]), n > 0) << name << " " << n;
      for (int64_t n = 1; n < 4; ++n) EXPECT_EQ(rank.value(n), 5) << name << " " << n;
    };
    CONVOY_INVOKE(ex, softmax_cross_entropy,
                  SoftmaxCrossEntropy{p.x.view(), labels.view(), dx.view(), loss.view(), rank.view()});
    check("softmax");
    CONVOY_INVOKE(ex, logistic_cross_entropy,
                  LogisticCrossEntropy{p.x.view(), labels.view(), dx.view(), loss.view(), rank.view()});
    check("logistic");
  });
}

// The classes split over workers: every share within its bound, their sum within the whole's; the sum of the
// ranks equals the whole's rank.
void test_split(Problem p, const std::vector<int64_t>& widths, DType dtype = DType::kF32) {
  p.x.each([&](int64_t i) { return rounded_to(dtype, p.x[i]); });
  const int64_t N = p.rows();
  const Wanted whole = logistic_want(p, 0, p.classes());
  Array label_logit(DType::kF32, {N});
  label_logit.each([&](int64_t n) { return p.row(n)[p.label(n)]; });
  Doubles losses(static_cast<size_t>(N)), share_bounds = losses, ranks = losses, logits = losses;
  int64_t first = 0;
  for (const int64_t width : widths) {
    Array x(dtype, {N, width}), dx(DType::kF32, {N, width}), loss(DType::kF32, {N}), logit(DType::kF32, {N}),
        rank(DType::kF32, {N});
    if (width > 0) x.each([&](int64_t i) { return p.row(i / width)[first + i % width]; });
    const Wanted want = logistic_want(p, first, width);
    Want logit_want, rank_want;
    for (int64_t n = 0; n < N; ++n) {
      const float mine = p.row(n)[p.label(n)];
      int64_t better = 0;
      bool nan = mine != mine;
      for (int64_t f = first; f < first + width; ++f) {
        const float v = p.row(n)[f];
        better += v > mine || (v == mine && f < p.label(n));
        nan = nan || v != v;
      }
      rank_want.exact(static_cast<double>(nan ? width : better));
      logit_want.exact(p.label(n) >= first && p.label(n) < first + width ? mine : 0);
    }
    const std::string title = text(p.x.shape(), " classes ", first, "+", width);
    check_everywhere("logistic_cross_entropy " + title,
                     {{"dx", &dx, want.dx}, {"row_loss", &loss, want.loss}}, [&](Exec& ex) {
                       CONVOY_INVOKE(
                           ex, logistic_cross_entropy,
                           LogisticCrossEntropy{
                               x.view(), p.labels.view(), dx.view(), loss.view(), {}, first, p.classes()});
                     });
    check_everywhere("label_logit " + title, {{"logit", &logit, logit_want}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, label_logit, LabelLogit{x.view(), p.labels.view(), first, logit.view()});
    });
    check_everywhere("label_rank " + title, {{"rank", &rank, rank_want}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, label_rank,
                    LabelRank{x.view(), p.labels.view(), label_logit.view(), first, rank.view()});
    });
    for (int64_t n = 0; n < N; ++n) {
      const size_t at = static_cast<size_t>(n);
      losses[at] += loss[n];
      share_bounds[at] += gamma(1) * std::abs(double{loss[n]});
      ranks[at] += rank[n];
      logits[at] += logit[n];
    }
    first += width;
  }
  ASSERT_EQ(first, p.classes());
  for (int64_t n = 0; n < N; ++n) {
    const size_t at = static_cast<size_t>(n);
    if (p.nan(n)) {
      EXPECT_TRUE(std::isnan(losses[at])) << n;
      EXPECT_GT(ranks[at], 0) << n;
      continue;
    }
    EXPECT_NEAR(losses[at], whole.loss.values[at], whole.loss.bounds[at] + share_bounds[at]) << n;
    EXPECT_EQ(ranks[at], whole.rank.values[at]) << n;
    EXPECT_EQ(logits[at], label_logit[n]) << n;
  }
}

TEST(CrossEntropy, SplitClasses) {
  test_split(problem(33, 10, 3, false, 1), {4, 3, 3});
  test_split(problem(7, 1000, 3, false, 2), {333, 0, 333, 334});
  test_split(problem(20, 3, 40, false, 3), {1, 1, 1, 0, 0});
  test_split(problem(50, 11, 1, true, 4), {5, 6});  // ties
  test_split(problem(0, 10, 1, false, 5), {5, 5});
  Problem p = problem(12, 10, 1, true, 6);
  for (int64_t n = 0; n < 10; ++n) p.x[n * 10 + n] = NAN;
  p.x[10 * 10 + p.label(10)] = NAN;
  test_split(std::move(p), {3, 0, 4, 3});
  test_split(problem(5, 2300, 1, true, 7), {1100, 1200});
  for_every_dtype([](DType dtype) { test_split(problem(33, 10, 3, false, 1), {4, 3, 3}, dtype); });
}

// Labels that are no class, on the backends that can see them.
template <class Call>
void expect_label_error(const char* part, const Call& call) {
  for (const Backend* backend : test_backends()) {
    if (is_cuda(*backend)) continue;
    Exec ex = test_exec(*backend);
    try {
      call(ex);
      ADD_FAILURE() << backend->name << ": no error, expected one with '" << part << "'";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << backend->name << ": " << e.what();
    }
  }
}

TEST(CrossEntropy, SplitErrors) {
  const Problem p = problem(4, 5, 1, false, 1);
  const Array loss = filled({4}, 1), loss5 = filled({5}, 1), image = filled({4, 1, 1, 5}, 1);
  const auto fails = [&](const char* part, const In& labels, const Out& rank, int64_t first,
                         int64_t classes) {
    expect_error(part, [&](Exec& ex) {
      ex.backend->logistic_cross_entropy(ex, {p.x.view(), labels, {}, loss.view(), rank, first, classes});
    });
  };
  const Array rank(DType::kI32, {4}), high = labels_of({0, 1, 10, 0}), low = labels_of({-1, 1, 5, 0});
  fails("classes 6+5 of 10", p.labels.view(), {}, 6, 10);
  fails("classes 1+5 of 5", p.labels.view(), {}, 1, 0);
  fails("classes -1+5 of 10", p.labels.view(), {}, -1, 10);
  fails("no rank without the others", p.labels.view(), rank.view(), 5, 10);
  expect_label_error("label 10 of row 2, 10 classes", [&](Exec& ex) {
    ex.backend->logistic_cross_entropy(ex, {p.x.view(), high.view(), {}, loss.view(), {}, 5, 10});
  });
  expect_label_error("label -1 of row 0", [&](Exec& ex) {
    ex.backend->logistic_cross_entropy(ex, {p.x.view(), low.view(), {}, loss.view(), {}, 5, 10});
  });
  const auto logit_fails = [&](const char* part, const In& x, const In& labels, const Out& out) {
    expect_error(part, [&](Exec& ex) { ex.backend->label_logit(ex, {x, labels, 0, out}); });
    expect_error(part, [&](Exec& ex) { ex.backend->label_rank(ex, {x, labels, loss.view(), 0, out}); });
  };
  logit_fails("rows x classes", image.view(), p.labels.view(), loss.view());
  logit_fails("holds f32", p.x.view(), loss.view(), loss.view());
  logit_fails("is 5, expected 4", p.x.view(), p.labels.view(), loss5.view());
  expect_error("logit is 5", [&](Exec& ex) {
    ex.backend->label_rank(ex, {p.x.view(), p.labels.view(), loss5.view(), 0, loss.view()});
  });
}

TEST(CrossEntropy, Errors) {
  const Problem p = problem(4, 5, 1, false, 1);
  const Array loss = filled({4}, 1), loss5 = filled({5}, 1), dx = filled({5, 4}, 1),
              image = filled({4, 1, 1, 5}, 1);
  const auto fails = [](const char* part, const In& x, const In& labels, const Out& out, const Out& losses,
                        const Out& rank) {
    expect_error(part, [&](Exec& ex) {
      ex.backend->softmax_cross_entropy(ex, {x, labels, out, losses, rank});
    });
    expect_error(part, [&](Exec& ex) {
      ex.backend->logistic_cross_entropy(ex, {x, labels, out, losses, rank});
    });
  };
  const Array high = labels_of({0, 1, 5, 0}), low = labels_of({-1, 1, 5, 0});
  expect_label_error("label 5 of row 2, 5 classes", [&](Exec& ex) {
    ex.backend->softmax_cross_entropy(ex, {p.x.view(), high.view(), {}, loss.view(), {}});
  });
  expect_label_error("label -1 of row 0", [&](Exec& ex) {
    ex.backend->softmax_cross_entropy(ex, {p.x.view(), low.view(), {}, loss.view(), {}});
  });
  fails("labels is 3", p.x.view(), labels_of({0, 1, 2}).view(), {}, loss.view(), {});
  fails("holds f32", p.x.view(), loss.view(), {}, loss.view(), {});
  fails("dx is 5x4", p.x.view(), p.labels.view(), dx.view(), loss.view(), {});
  fails("row_loss is 5", p.x.view(), p.labels.view(), {}, loss5.view(), {});
  fails("row_rank is 5", p.x.view(), p.labels.view(), {}, loss.view(), loss5.view());
  fails("rows x classes", image.view(), p.labels.view(), {}, loss.view(), {});
}

}  // namespace
}  // namespace convoy::reference
