// Correct kernels on the emulator, exactly, in every order; planted mistakes are in test_emulator_bugs.cpp.
#include "emulator/address_sanitizer.h"
#include "emulator_kernels.h"
#include "emulator_test.h"

namespace convoy::emulated {
namespace {

// a[m,k] times b, whose element (i, j) is b_at(i, j).
template <class A, class B>
std::vector<float> product(const A& a, const B& b_at, int m, int n, int k) {
  std::vector<float> c;
  for (int row = 0; row < m; ++row) {
    for (int column = 0; column < n; ++column) {
      double sum = 0;
      for (int i = 0; i < k; ++i) sum += double(float(a[row * k + i])) * double(float(b_at(i, column)));
      c.push_back(static_cast<float>(sum));
    }
  }
  return c;
}

TEST(Emulator, KernelsAreInstrumentedUnlessAddressSanitizerChecksThem) {
#if defined(EMULATOR_ADDRESS_SANITIZER)
  EXPECT_FALSE(emulator::instrumented());
#else
  EXPECT_TRUE(emulator::instrumented());
#endif
}

TEST(Emulator, ReductionIsExact) {
  every_way([] {
    for (const int n : {1, 127, 1000}) {
      const std::vector<float> values = wholes(n, 1);
      const Device<float> x(values), total(std::vector<float>{0});
      reduce(Bug::kNone, x.get(), n, total.get());
      double want = 0;
      for (const float v : values) want += v;
      EXPECT_EQ(total.host()[0], want) << n;
    }
  });
}

TEST(Emulator, TransposeIsExact) {
  every_way([] {
    const int rows = 45, columns = 70;
    const std::vector<float> values = wholes(rows * columns, 2, 1000);
    const Device<float> x(values), y(values.size());
    transpose(Bug::kNone, x.get(), rows, columns, y.get());
    const std::vector<float> got = y.host();
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c)
        ASSERT_EQ(got[c * rows + r], values[r * columns + c]) << r << ", " << c;
    }
  });
}

TEST(Emulator, TiledProductWithAsynchronousCopiesIsExact) {
  every_way([] {
    const int m = 36, n = 68, k = 100;
    const std::vector<float> a = wholes(m * k, 3), b = wholes(k * n, 4);
    const Device<float> da(a), db(b), dc(m * n);
    multiply(Bug::kNone, da.get(), db.get(), dc.get(), m, n, k);
    EXPECT_EQ(dc.host(), product(
                             a, [&](int i, int j) { return b[i * n + j]; }, m, n, k));
  });
}

TEST(Emulator, TensorCoreProductsAreExact) {
  every_way([] {
    {
      const int m = 64, n = 32, k = 96;
      const auto a = wholes<__nv_bfloat16>(m * k, 5), b = wholes<__nv_bfloat16>(n * k, 6);
      const Device<__nv_bfloat16> da(a), db(b);
      const Device<float> dc(m * n);
      multiply_bf16(da.get(), db.get(), dc.get(), m, n, k);
      EXPECT_EQ(dc.host(), product(
                               a, [&](int i, int j) { return b[j * k + i]; }, m, n, k))
          << "bf16";
    }
    {
      const int k = 48;
      const auto a = wholes<__half>(16 * k, 7), b = wholes<__half>(16 * k, 8);
      const Device<__half> da(a), db(b);
      const Device<float> dc(256);
      multiply_wmma(da.get(), db.get(), dc.get(), k);
      EXPECT_EQ(dc.host(), product(
                               a, [&](int i, int j) { return b[j * k + i]; }, 16, 16, k))
          << "wmma";
    }
    {
      const auto a = wholes<__half>(128, 9), b = wholes<__half>(64, 10);
      const Device<__half> da(a), db(b);
      const Device<float> dd(128);
      multiply_small_f16(da.get(), db.get(), dd.get());
      EXPECT_EQ(dd.host(), product(
                               a, [&](int i, int j) { return b[j * 8 + i]; }, 16, 8, 8))
          << "f16";
    }
    {
      // 1 + 2^-11 is rounded to 1 + 2^-10, ties away from zero.
      auto a = wholes(128, 11), b = wholes(64, 12);
      a[0] = 1 + 0x1p-11f;
      b[0] = -1 - 0x1p-11f - 0x1p-20f;
      const Device<float> da(a), db(b), dd(128);
      multiply_small_tf32(da.get(), db.get(), dd.get());
      a[0] = 1 + 0x1p-10f;
      b[0] = -1 - 0x1p-10f;
      EXPECT_EQ(dd.host(), product(
                               a, [&](int i, int j) { return b[j * 8 + i]; }, 16, 8, 8))
          << "tf32";
    }
  });
}

TEST(Emulator, MatricesAreTransposed) {
  every_way([] {
    const auto x = wholes<__half>(256, 13, 1000);
    const Device<__half> dx(x), dy(256);
    transpose_matrices(dx.get(), dy.get());
    const auto y = dy.host();
    for (int i = 0; i < 256; ++i) {
      const int matrix = i / 64, row = i / 8 % 8, column = i % 8;
      ASSERT_EQ(float(y[i]), float(x[matrix * 64 + column * 8 + row])) << i;
    }
  });
}

TEST(Emulator, WarpCollectives) {
  every_way([] {
    const std::vector<int> x = wholes<int>(32, 14, 50);
    const Device<int> dx(x), dout(kCollectives * 32);
    collectives(dx.get(), dout.get());
    const std::vector<int> out = dout.host();
    unsigned odd = 0;
    int any_zero = 0, no_one = 1, largest = x[0];
    int sums[2] = {};
    for (int i = 0; i < 32; ++i) {
      odd |= (x[i] & 1) ? 1u << i : 0u;
      any_zero |= x[i] == 0;
      no_one &= x[i] != 1;
      largest = std::max(largest, x[i]);
      sums[i / 16] += x[i];
    }
    for (int i = 0; i < 32; ++i) {
      int same = 0;
      for (int j = 0; j < 32; ++j) same |= static_cast<int>((x[i] & 3) == (x[j] & 3) ? 1u << j : 0u);
      const int want[kCollectives] = {x[5],
                                      x[i / 8 * 8 + 1],
                                      i < 3 ? x[i] : x[i - 3],
                                      i % 16 > 12 ? x[i] : x[i + 3],
                                      x[i ^ 7],
                                      static_cast<int>(odd),
                                      any_zero,
                                      no_one,
                                      x[i ^ 1],
                                      -1,
                                      sums[i / 16],
                                      largest,
                                      same};
      for (int row = 0; row < kCollectives; ++row) {
        EXPECT_EQ(out[row * 32 + i], want[row]) << "row " << row << ", lane " << i;
      }
    }
  });
}

TEST(Emulator, BarriersVotesAndAtomics) {
  every_way([] {
    std::vector<int> x;
    for (int i = 0; i < 200; ++i) x.push_back(whole(static_cast<uint32_t>(i), 15, 7) + 7);
    const Device<int> dx(x), counts(16), most(1), votes(3);
    histogram(Bug::kNone, dx.get(), 200, counts.get(), most.get(), votes.get());
    std::vector<int> want(16);
    for (const int v : x) ++want[v];
    EXPECT_EQ(counts.host(), want);
    EXPECT_EQ(most.host()[0], *std::max_element(x.begin(), x.end()));
    int odd = 0;
    for (int i = 0; i < 96; ++i) odd += x[i] & 1;
    EXPECT_EQ(votes.host(), (std::vector<int>{odd, odd > 0, odd == 96}));
  });
}

TEST(Emulator, NamedBarriersAndLocks) {
  every_way([] {
    const std::vector<int> x = wholes<int>(64, 16, 100);
    const Device<int> dx(x), dy(64);
    hand_over(false, dx.get(), dy.get());
    std::vector<int> want;
    for (const int v : x) want.push_back(2 * v);
    EXPECT_EQ(dy.host(), want);

    const Device<int> lock(std::vector<int>{0}), sum(std::vector<int>{0});
    locked_sum(lock.get(), sum.get());
    EXPECT_EQ(sum.host()[0], 63 * 64 / 2);

    const std::vector<float> v = wholes(32, 17);
    const Device<float> dv(v), dn(32);
    neighbours(false, dv.get(), dn.get());
    EXPECT_EQ(dn.host()[6], v[7]);
  });
}

}  // namespace
}  // namespace convoy::emulated
