// The exchange of rows: what the passes of A, B and C take, and that gathering and scattering follow them.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "convoy/exchange.h"
#include "rank_threads.h"

namespace convoy {
namespace {

constexpr Scheme kSchemes[] = {Scheme::kA, Scheme::kB, Scheme::kC};

// visit(scheme, world, batch, n) over everything small.
template <class Visit>
void for_all(const Visit& visit) {
  for (const Scheme scheme : kSchemes)
    for (int world = 1; world <= 8; ++world)
      for (int64_t batch = 1; batch <= 40; ++batch)
        for (int64_t n = 1; n <= batch; ++n) {
          visit(scheme, world, batch, n);
          if (testing::Test::HasFailure()) {
            GTEST_FAIL() << scheme_name(scheme) << ", " << world << " workers, " << batch
                         << " rows, n = " << n;
          }
        }
}

TEST(Exchange, PassesTakeEveryRowOnce) {
  for_all([](Scheme scheme, int world, int64_t batch, int64_t n) {
    std::vector<int> taken(static_cast<size_t>(batch), 0);
    const auto passes = exchange_passes(scheme, world, batch, n);
    for (const Pass& pass : passes) {
      ASSERT_EQ(pass.from.size(), static_cast<size_t>(world));
      ASSERT_EQ(pass.rows.size(), static_cast<size_t>(world));
      for (int r = 0; r < world; ++r) {
        const RowRange from = pass.from[static_cast<size_t>(r)];
        EXPECT_EQ(pass.rows[static_cast<size_t>(r)], from.count);
        EXPECT_GE(from.first, 0);
        EXPECT_GE(from.count, 0);
        EXPECT_LE(from.end(), part_of(batch, r, world).count);
      }
      EXPECT_GT(pass.total, 0);
      EXPECT_EQ(pass.total, std::accumulate(pass.rows.begin(), pass.rows.end(), int64_t{0}));
      const auto rows = rows_of(pass, world, batch);
      EXPECT_EQ(rows.size(), static_cast<size_t>(pass.total));
      for (const int32_t row : rows) ++taken.at(static_cast<size_t>(row));
    }
    EXPECT_TRUE(std::all_of(taken.begin(), taken.end(), [](int times) { return times == 1; }));
    const int64_t limit = scheme == Scheme::kA ? 1 : (batch + n - 1) / n;
    EXPECT_LE(static_cast<int64_t>(passes.size()), limit);
    if (scheme != Scheme::kC) {
      EXPECT_EQ(static_cast<int64_t>(passes.size()), limit);
    }
  });
}

TEST(Exchange, ATakesEverythingAtOnce) {
  for_all([](Scheme, int world, int64_t batch, int64_t n) {
    const auto passes = exchange_passes(Scheme::kA, world, batch, n);
    ASSERT_EQ(passes.size(), 1u);
    std::vector<int32_t> all(static_cast<size_t>(batch));
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(rows_of(passes[0], world, batch), all);
  });
  EXPECT_EQ(exchange_passes(Scheme::kA, 3, 7, 0).size(), 1u);
}

TEST(Exchange, BTakesGlobalRowsInOrder) {
  for_all([](Scheme, int world, int64_t batch, int64_t n) {
    const auto passes = exchange_passes(Scheme::kB, world, batch, n);
    for (size_t p = 0; p < passes.size(); ++p) {
      const auto first = static_cast<int32_t>(static_cast<int64_t>(p) * n);
      std::vector<int32_t> rows(static_cast<size_t>(std::min(n, batch - first)));
      std::iota(rows.begin(), rows.end(), first);
      EXPECT_EQ(rows_of(passes[p], world, batch), rows);
    }
  });
}

TEST(Exchange, BWithAWorkersRowsHasOneSender) {
  const auto passes = exchange_passes(Scheme::kB, 4, 32, 8);
  ASSERT_EQ(passes.size(), 4u);
  for (int p = 0; p < 4; ++p)
    for (int r = 0; r < 4; ++r)
      EXPECT_EQ(passes[static_cast<size_t>(p)].rows[static_cast<size_t>(r)], p == r ? 8 : 0);
}

TEST(Exchange, CTakesASliceOfEveryWorker) {
  // 2 workers of 8 rows, 4 passes: pass p has slice p of worker 0 and slice p + 1 of worker 1.
  const auto passes = exchange_passes(Scheme::kC, 2, 16, 4);
  ASSERT_EQ(passes.size(), 4u);
  EXPECT_EQ(rows_of(passes[0], 2, 16), (std::vector<int32_t>{0, 1, 10, 11}));
  EXPECT_EQ(rows_of(passes[1], 2, 16), (std::vector<int32_t>{2, 3, 12, 13}));
  EXPECT_EQ(rows_of(passes[3], 2, 16), (std::vector<int32_t>{6, 7, 8, 9}));
  for_all([](Scheme, int world, int64_t batch, int64_t n) {
    const int64_t slices = (batch + n - 1) / n;
    size_t next = 0;
    const auto all = exchange_passes(Scheme::kC, world, batch, n);
    for (int64_t p = 0; p < slices; ++p) {
      std::vector<int32_t> want;
      for (int r = 0; r < world; ++r) {
        const int64_t own = (r + 1) * batch / world - r * batch / world, s = (p + r) % slices;
        for (int64_t i = s * own / slices; i < (s + 1) * own / slices; ++i)
          want.push_back(static_cast<int32_t>(r * batch / world + i));
      }
      if (want.empty()) continue;  // passes without rows are left out
      ASSERT_LT(next, all.size());
      EXPECT_EQ(rows_of(all[next++], world, batch), want);
    }
    EXPECT_EQ(next, all.size());
  });
}

TEST(Exchange, SaysWhatItCannotDo) {
  EXPECT_THROW(exchange_passes(Scheme::kB, 2, 8, 0), Error);
  EXPECT_THROW(exchange_passes(Scheme::kC, 0, 8, 4), Error);
  EXPECT_TRUE(exchange_passes(Scheme::kB, 2, 0, 4).empty());
  EXPECT_STREQ(scheme_name(Scheme::kA), "A");
  EXPECT_STREQ(scheme_name(Scheme::kB), "B");
  EXPECT_STREQ(scheme_name(Scheme::kC), "C");
  const Ranks alone = thread_communicators(1);
  Exec exec = cpu_exec(*cpu_backends().back(), 1);
  std::vector<float> x(8);
  const Pass pass = exchange_passes(Scheme::kA, 1, 8, 8)[0];
  EXPECT_THROW(gather_rows(*alone[0], exec, pass, In(x.data(), Shape{7, 1}), View(x.data(), {8, 1})), Error);
  EXPECT_THROW(scatter_rows(*alone[0], exec, pass, In(x.data(), Shape{8, 1}), View(x.data(), {7, 1})), Error);
}

// Whole numbers. Global row g has x[g][d]; every worker r returns (r + 1) · x of the rows of a pass, so that a
// row's owner gets K(K+1)/2 · x of it. `shape` is a row's: of a matrix, or of an image.
void exchange_whole_numbers(Scheme scheme, int world, int64_t batch, int64_t n, const Shape& shape) {
  const int64_t columns = shape.row();
  const auto x = [&](int64_t g, int64_t d) { return static_cast<float>((g * 31 + d * 7) % 251 - 125); };
  const auto passes = exchange_passes(scheme, world, batch, n);
  run_on(thread_communicators(world), true, [&](Communicator& comm, Exec& exec) {
    const RowRange own = part_of(batch, comm.rank(), world);
    std::vector<float> local(static_cast<size_t>(own.count * columns)), home(local.size(), -1.0f);
    for (int64_t i = 0; i < own.count * columns; ++i)
      local[static_cast<size_t>(i)] = x(own.first + i / columns, i % columns);
    for (const Pass& pass : passes) {
      std::vector<float> assembled(static_cast<size_t>(pass.total * columns));
      const View rows(assembled.data(), shape.with_rows(pass.total));
      gather_rows(comm, exec, pass, In(local.data(), shape.with_rows(own.count)), rows);
      exec.backend->synchronize(exec);
      const auto global = rows_of(pass, world, batch);
      int64_t wrong = 0;
      for (int64_t i = 0; i < pass.total * columns; ++i) {
        float& got = assembled[static_cast<size_t>(i)];
        wrong += got != x(global[static_cast<size_t>(i / columns)], i % columns);
        got *= static_cast<float>(comm.rank() + 1);
      }
      EXPECT_EQ(wrong, 0) << "gather";
      scatter_rows(comm, exec, pass, rows, View(home.data(), shape.with_rows(own.count)));
      exec.backend->synchronize(exec);
    }
    int64_t wrong = 0;
    for (size_t i = 0; i < home.size(); ++i)
      wrong += home[i] != local[i] * static_cast<float>(world * (world + 1) / 2);
    EXPECT_EQ(wrong, 0) << "scatter";
    EXPECT_EQ(comm.bytes(Traffic::kRows), 2 * (batch - own.count) * columns * 4);
  });
}

TEST(Exchange, GathersAndScattersWholeNumbersExactly) {
  for (const Scheme scheme : kSchemes)
    for (const int world : {1, 2, 3, 4, 8})
      for (const auto& [batch, n] : {std::pair<int64_t, int64_t>{16, 4}, {13, 5}, {3, 1}, {40, 40}})
        for (const Shape& shape : {Shape{1, 9}, Shape{1, 2, 3, 5}}) {
          exchange_whole_numbers(scheme, world, batch, n, shape);
          ASSERT_FALSE(HasFailure()) << scheme_name(scheme) << " " << world << " " << batch << " " << n;
        }
}

}  // namespace
}  // namespace convoy
