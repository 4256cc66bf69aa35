// Every wrapper of PTX in kernels/mma.cuh against plain loops: its twin under the emulator, the instruction on a GPU.
// What ties the emulator to hardware. Values are whole numbers (but for to_tf32), so results are exact. Hopper's
// wrappers: test_wrappers_hopper.cpp.
#include <cmath>
#include <cstring>

#include "wrappers_test.h"

namespace convoy::wrappers {
namespace {

uint16_t bits_of(__half v) {
  uint16_t bits;
  std::memcpy(&bits, &v, 2);
  return bits;
}
uint16_t bits_of(__nv_bfloat16 v) {
  uint16_t bits;
  std::memcpy(&bits, &v, 2);
  return bits;
}

std::vector<uint16_t> numbered(int count) {
  std::vector<uint16_t> x;
  for (int i = 0; i < count; ++i) x.push_back(static_cast<uint16_t>(i * 257 + 3));
  return x;
}

TEST(Wrappers, CpAsync) {
  if (!gpu()) GTEST_SKIP() << "no GPU";
  std::vector<uint8_t> x;
  for (int i = 0; i < 512; ++i) x.push_back(static_cast<uint8_t>(i * 7 + i / 256));
  in_all_ways([&] {
    for (const int bytes : {4, 8, 16}) {
      for (const int source : {0, 1, 3, bytes / 2, bytes - 1, bytes}) {
        const Device<uint8_t> dx(x), dy(512);
        copy_async(bytes, source, dx.get(), dy.get());
        const std::vector<uint8_t> y = dy.host();
        for (int i = 0; i < 512; ++i) {
          ASSERT_EQ(y[i], i % 16 >= bytes    ? 0x55
                          : i % 16 >= source ? 0
                                             : x[i])
              << bytes << ", " << source << ", " << i;
        }
      }
    }
  });
}

TEST(Wrappers, LdmatrixAndStmatrix) {
  if (!gpu()) GTEST_SKIP() << "no GPU";
  const std::vector<uint16_t> rows = numbered(256);
  // Register i of lane l, half e, of 8x8 matrix i.
  const auto place = [](bool transposed, int i, int lane, int e) {
    const int a = lane / 4, b = 2 * (lane % 4) + e;
    return 64 * i + (transposed ? 8 * b + a : 8 * a + b);
  };
  in_all_ways([&] {
    for (const bool transposed : {false, true}) {
      for (const int count : {1, 2, 4}) {
        const Device<uint16_t> dx(rows);
        const Device<uint32_t> dr(static_cast<size_t>(32 * count));
        load_matrices(count, transposed, dx.get(), dr.get());
        const std::vector<uint32_t> r = dr.host();
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < count; ++i) {
            for (int e = 0; e < 2; ++e) {
              ASSERT_EQ(r[lane * count + i] >> 16 * e & 0xffff, rows[place(transposed, i, lane, e)]);
            }
          }
        }
      }
      if (!hopper()) continue;
      std::vector<uint32_t> r(128);
      for (int lane = 0; lane < 32; ++lane) {
        for (int i = 0; i < 4; ++i) {
          for (int e = 0; e < 2; ++e) {
            r[lane * 4 + i] |= static_cast<uint32_t>(rows[place(transposed, i, lane, e)]) << 16 * e;
          }
        }
      }
      const Device<uint32_t> dr(r);
      const Device<uint16_t> dy(256);
      store_matrices(transposed, dr.get(), dy.get());
      EXPECT_EQ(dy.host(), rows) << transposed;
    }
  });
}

// a[16, k] and b[8, k] as fragments, and what the product must be.
void check_product(Product product, int k, int per_register) {
  const auto encode = [&](float v) -> uint32_t {
    if (product == Product::kTF32K8) {
      uint32_t bits;
      std::memcpy(&bits, &v, 4);
      return bits;
    }
    return product == Product::kBF16K16 ? bits_of(__nv_bfloat16(v)) : bits_of(__half(v));
  };
  const std::vector<float> a = wholes(16 * k, 21), b = wholes(8 * k, 22), c = wholes(16 * 8, 23, 100);
  const int n = per_register, ka = 16 * k / 32 / n, kb = 8 * k / 32 / n;
  std::vector<uint32_t> ra(static_cast<size_t>(32 * ka)), rb(static_cast<size_t>(32 * kb));
  std::vector<float> rc(128), want(128);
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    for (int e = 0; e < n; ++e) {
      for (int i = 0; i < ka; ++i) {
        const int row = g + 8 * (i % 2), column = n * t + e + 4 * n * (i / 2);
        ra[lane * ka + i] |= encode(a[row * k + column]) << (n == 2 ? 16 * e : 0);
      }
      for (int i = 0; i < kb; ++i) {
        rb[lane * kb + i] |= encode(b[g * k + n * t + e + 4 * n * i]) << (n == 2 ? 16 * e : 0);
      }
    }
    for (int i = 0; i < 4; ++i) {
      const int row = g + 8 * (i / 2), column = 2 * t + i % 2;
      rc[lane * 4 + i] = c[row * 8 + column];
      want[lane * 4 + i] = c[row * 8 + column];
      for (int j = 0; j < k; ++j) want[lane * 4 + i] += a[row * k + j] * b[column * k + j];
    }
  }
  in_all_ways([&] {
    const Device<uint32_t> da(ra), db(rb);
    const Device<float> dc(rc), dd(128);
    multiply(product, da.get(), db.get(), dc.get(), dd.get());
    EXPECT_EQ(dd.host(), want) << static_cast<int>(product);
  });
}

TEST(Wrappers, Mma) {
  if (!gpu()) GTEST_SKIP() << "no GPU";
  check_product(Product::kF16K8, 8, 2);
  if (architecture() < 80) return;
  check_product(Product::kF16K16, 16, 2);
  check_product(Product::kBF16K16, 16, 2);
  check_product(Product::kTF32K8, 8, 1);
}

TEST(Wrappers, ToTf32) {
  if (!gpu() || architecture() < 80) GTEST_SKIP() << "no GPU with tf32";
  std::vector<float> x{0.0f,         -0.0f,     1 + 0x1p-11f, -1 - 0x1p-11f,
                       1 + 0x1p-12f, 0x1p-140f, INFINITY,     0x1.fffffep127f};
  for (uint32_t i = 8; i < 32; ++i)
    x.push_back(static_cast<float>(emulated::whole(i, 3, 1 << 20)) * 0x1.357p-3f);
  in_all_ways([&] {
    const Device<float> dx(x);
    const Device<uint32_t> dy(32);
    round_tf32(dx.get(), dy.get());
    const std::vector<uint32_t> y = dy.host();
    for (int i = 0; i < 32; ++i) {
      // To nearest of 10 bits of mantissa, ties away from zero; mma ignores what lies below.
      uint32_t bits;
      std::memcpy(&bits, &x[i], 4);
      const uint32_t want = std::isinf(x[i]) ? bits : (bits + 0x1000) & ~0x1fffu;
      EXPECT_EQ(y[i] & ~0x1fffu, want) << x[i];
    }
  });
}

TEST(Wrappers, Wmma) {
  if (!gpu()) GTEST_SKIP() << "no GPU";
  const auto a = wholes<__half>(16 * 24, 31), b = wholes<__half>(16 * 24, 32);
  in_all_ways([&] {
    const Device<__half> da(a), db(b);
    const Device<float> dd(std::vector<float>(16 * 24, 7.0f));
    multiply_wmma(da.get(), db.get(), dd.get());
    const std::vector<float> d = dd.host();
    for (int row = 0; row < 16; ++row) {
      for (int column = 0; column < 24; ++column) {
        float want = 0;
        for (int k = 0; k < 16 && column < 16; ++k)
          want += 2 * float(a[row * 24 + k]) * float(b[column * 24 + k]);
        ASSERT_EQ(d[row * 24 + column], column < 16 ? want : 7) << row << ", " << column;
      }
    }
  });
}

TEST(Wrappers, NamedBarriers) {
  if (!gpu()) GTEST_SKIP() << "no GPU";
  const std::vector<int> x = wholes<int>(64, 41, 1000);
  in_all_ways([&] {
    const Device<int> dx(x), dy(64);
    hand_over(dx.get(), dy.get());
    const std::vector<int> y = dy.host();
    for (int i = 0; i < 64; ++i) ASSERT_EQ(y[i], x[i] + 1);
  });
}

}  // namespace
}  // namespace convoy::wrappers
