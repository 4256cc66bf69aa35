#include "batchnorm_data.h"
#include "kernels/batchnorm.h"

namespace convoy::reference {
namespace {

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

TEST(BatchNorm, MergeErrors) {
  const Array x = filled({4, 3}, 1), c = filled({3}, 1);
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
  const std::vector<int64_t> many(257, 1);
  for (const Backend* backend : test_backends()) {
    Exec ex = test_exec(*backend);
    const Array of_many = filled({257, 6}, 1);
    const BatchNormMerge a{of_many.view(), &many, c.view(), c.view()};
    if (is_cuda(*backend))
      EXPECT_THROW(backend->batchnorm_merge(ex, a), Error);
    else
      backend->batchnorm_merge(ex, a);
  }
}

}  // namespace
}  // namespace convoy::reference
