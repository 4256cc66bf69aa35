#include <algorithm>

#include "kernels/softmax.h"
#include "reference.h"

namespace convoy::reference {
namespace {

struct Problem {
  Array x, labels;
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
Wanted logistic_want(const Problem& p) {
  Wanted w;
  for (int64_t n = 0; n < p.rows(); ++n) {
    const float* x = p.row(n);
    want_rank(p, n, w.rank);
    double loss = p.nan(n) ? kNaN : -double{x[p.label(n)]}, error = 0;
    for (int64_t f = 0; f < p.classes(); ++f) {
      const double small = std::exp(-std::abs(double{x[f]})), tail = std::log1p(small),
                   top = std::max(double{x[f]}, 0.0);
      loss += top + tail;
      error += tail * (kExpf + kLog1pf) + (top + tail) * gamma(1) + 2 * FLT_MIN;
      const double sigmoid = p.nan(n) ? kNaN : (x[f] > 0 ? 1 : small) / (1 + small),
                   hot = f == p.label(n) ? 1 : 0;
      w.dx.within(sigmoid - hot,
                  sigmoid * 1.01 * (2 * kExpf + gamma(2)) + gamma(1) * std::abs(sigmoid - hot) + FLT_MIN);
    }
    w.loss.within(loss, error + gamma(1) * std::abs(loss));
  }
  return w;
}

template <class Args>
void test(const std::string& operation, const Problem& p, const Wanted& w,
          const std::function<void(Exec&, const Args&)>& call) {
  Array dx(DType::kF32, p.x.shape()), loss(DType::kF32, {p.rows()}), rank(DType::kI32, {p.rows()});
  const std::string title = text(operation, " ", p.x.shape());
  check_everywhere(title, {{"dx", &dx, w.dx}, {"row_loss", &loss, w.loss}, {"row_rank", &rank, w.rank}},
                   [&](Exec& ex) {
                     call(ex, Args{p.x.view(), p.labels.view(), dx.view(), loss.view(), rank.view()});
                   });
  check_everywhere(title + " loss alone", {{"row_loss", &loss, w.loss}}, [&](Exec& ex) {
    call(ex, Args{p.x.view(), p.labels.view(), {}, loss.view(), {}});
  });
  check_everywhere(title + " in place", {{"dx", &dx, w.dx, p.x.values()}, {"row_loss", &loss, w.loss}},
                   [&](Exec& ex) {
                     call(ex, Args{dx.view(), p.labels.view(), dx.view(), loss.view(), {}});
                   });
}
void test_both(const Problem& p) {
  test<SoftmaxCrossEntropy>(
      "softmax_cross_entropy", p, softmax_want(p),
      [](Exec& ex, const SoftmaxCrossEntropy& a) { CONVOY_INVOKE(ex, softmax_cross_entropy, a); });
  test<LogisticCrossEntropy>(
      "logistic_cross_entropy", p, logistic_want(p),
      [](Exec& ex, const LogisticCrossEntropy& a) { CONVOY_INVOKE(ex, logistic_cross_entropy, a); });
}

TEST(CrossEntropy, WithinBounds) {
  for (const auto& [rows, classes] : std::vector<std::pair<int64_t, int64_t>>{
           {1, 1}, {3, 2}, {64, 10}, {7, 100}, {33, 1000}, {2, 17}, {0, 10}}) {
    test_both(problem(rows, classes, 3, false, 1));
    test_both(problem(rows, classes, 40, false, 2));
  }
}
// Whole numbers: the ranks meet ties.
TEST(CrossEntropy, Ties) {
  test_both(problem(50, 10, 1, true, 3));
}

TEST(CrossEntropy, LargeLogitsDoNotOverflow) {
  Problem p = problem(4, 5, 1, false, 4);
  p.x.each([&](int64_t i) { return (i % 3 - 1) * 1e4 + p.x[i]; });
  test_both(p);
}
TEST(CrossEntropy, NanSpoilsItsRowOnly) {
  for (const int64_t at : {0, 4, 9}) {
    const Problem p = problem(6, 10, 1, false, 5);
    p.x[10 + at] = NAN;
    test_both(p);
  }
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
  fails("label 5 of row 2, 5 classes", p.x.view(), labels_of({0, 1, 5, 0}).view(), {}, loss.view(), {});
  fails("label -1 of row 0", p.x.view(), labels_of({-1, 1, 5, 0}).view(), {}, loss.view(), {});
  fails("labels is 3", p.x.view(), labels_of({0, 1, 2}).view(), {}, loss.view(), {});
  fails("holds f32", p.x.view(), loss.view(), {}, loss.view(), {});
  fails("dx is 5x4", p.x.view(), p.labels.view(), dx.view(), loss.view(), {});
  fails("row_loss is 5", p.x.view(), p.labels.view(), {}, loss5.view(), {});
  fails("row_rank is 5", p.x.view(), p.labels.view(), {}, loss.view(), loss5.view());
  fails("rows x classes", image.view(), p.labels.view(), {}, loss.view(), {});
}

}  // namespace
}  // namespace convoy::reference
