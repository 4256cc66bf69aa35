// Every wrapper of kernels/hopper.cuh against plain loops: its twin under the emulator, the instruction on an H100 or
// H200. Values are whole numbers, so results are exact.
#include <cstring>

#include "emulator_hopper_kernels.h"
#include "kernels/tensor_map.cuh"
#include "wrappers_test.h"

namespace convoy::wrappers {
namespace {

using bf16 = __nv_bfloat16;

class WrappersHopper : public testing::Test {
 protected:
  void SetUp() override {
    if (!hopper()) GTEST_SKIP() << "no GPU of compute capability 9.0";
  }
};

// Where a byte of an unswizzled box lies.
uint32_t swizzled(uint32_t at, uint32_t span) {
  return span == 0 ? at : at ^ ((at >> 7 & (span / 16 - 1)) << 4);
}
CUtensorMapSwizzle driver_swizzle(uint32_t span) {
  return span == 0    ? CU_TENSOR_MAP_SWIZZLE_NONE
         : span == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
         : span == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                      : CU_TENSOR_MAP_SWIZZLE_128B;
}

// A tensor of whole numbers, 4 dimensions: c, w, h, n.
constexpr int kC = 72, kW = 9, kH = 7, kN = 3;
template <class T>
std::vector<T> tensor() {
  return wholes<T>(kC * kW * kH * kN, 51, 100);
}
template <class T>
T at(const std::vector<T>& x, int c, int w, int h, int n) {
  if (c < 0 || c >= kC || w < 0 || w >= kW || h < 0 || h >= kH || n < 0 || n >= kN) return T(0.0f);
  return x[static_cast<size_t>(((n * kH + h) * kW + w) * kC + c)];
}

struct TiledCase {
  int rank;
  int at[4];
  cuuint32_t box[4], steps[4];
  uint32_t span;
};
// Rank 2: [n·h·w, c]; 3: [n·h, w, c]; 4: [n, h, w, c].
template <class T>
CUtensorMap map_of(const T* memory, const TiledCase& t) {
  const auto bytes = [](int v) { return static_cast<cuuint64_t>(v) * sizeof(T); };
  const CUtensorMapSwizzle s = driver_swizzle(t.span);
  if (t.rank == 2) {
    return cuda::tiled_map<T, 2>(memory, {kC, kW * kH * kN}, {bytes(kC)}, {t.box[0], t.box[1]}, s,
                                 {1, t.steps[1]});
  }
  if (t.rank == 3) {
    return cuda::tiled_map<T, 3>(memory, {kC, kW, kH * kN}, {bytes(kC), bytes(kC * kW)},
                                 {t.box[0], t.box[1], t.box[2]}, s, {1, t.steps[1], t.steps[2]});
  }
  return cuda::tiled_map<T, 4>(memory, {kC, kW, kH, kN}, {bytes(kC), bytes(kC * kW), bytes(kC * kW * kH)},
                               {t.box[0], t.box[1], t.box[2], t.box[3]}, s,
                               {1, t.steps[1], t.steps[2], t.steps[3]});
}
// f(place in the box, c, w, h, n): its elements in order.
template <class F>
void each_element(const TiledCase& t, F f) {
  uint32_t place = 0;
  const auto count = [&](int i) {
    return i < t.rank ? static_cast<int>((t.box[i] + t.steps[i] - 1) / t.steps[i]) : 1;
  };
  for (int l = 0; l < count(3); ++l) {
    for (int k = 0; k < count(2); ++k) {
      for (int j = 0; j < count(1); ++j) {
        for (int i = 0; i < static_cast<int>(t.box[0]); ++i, ++place) {
          const auto x = [&](int d, int step) { return t.at[d] + step * static_cast<int>(t.steps[d]); };
          const int c = t.at[0] + i, y = x(1, j);
          if (t.rank == 2) {
            const bool in = y >= 0 && y < kW * kH * kN;
            f(place, c, in ? y % kW : -1, in ? y / kW % kH : 0, in ? y / kW / kH : 0);
          } else if (t.rank == 3) {
            const int z = x(2, k);
            const bool in = z >= 0 && z < kH * kN;
            f(place, c, in ? y : -1, in ? z % kH : 0, in ? z / kH : 0);
          } else {
            f(place, c, y, x(2, k), x(3, l));
          }
        }
      }
    }
  }
}
uint32_t elements(const TiledCase& t) {
  uint32_t count = 0;
  each_element(t, [&](uint32_t, int, int, int, int) { ++count; });
  return count;
}

// Boxes inside, over every edge, wholly outside, with steps, in all swizzles; rows of 64 elements of 2 bytes for 128.
std::vector<TiledCase> tiled_cases(uint32_t element_bytes, bool steps) {
  std::vector<TiledCase> cases;
  for (const uint32_t span : {0u, 32u, 64u, 128u}) {
    const cuuint32_t row = (span ? span : 48u) / element_bytes;
    cases.push_back({2, {0, 0}, {row, 24}, {1, 1}, span});
    cases.push_back({2, {60, 180}, {row, 16}, {1, 1}, span});
    cases.push_back({2, {-8, -5}, {row, 16}, {1, 1}, span});
    cases.push_back({3, {8, -1, 2}, {row, 5, 4}, {1, 1, 1}, span});
    cases.push_back({4, {0, 3, -1, 1}, {row, 4, 3, 3}, {1, 1, 1, 1}, span});
    cases.push_back({4, {kC, 0, 0, 0}, {row, 2, 2, 2}, {1, 1, 1, 1}, span});
    if (steps) cases.push_back({4, {8, 1, -2, 0}, {row, 5, 7, 2}, {1, 2, 3, 1}, span});
  }
  return cases;
}

template <class T>
void check_loads() {
  const std::vector<T> x = tensor<T>();
  const Device<T> memory(x);
  for (const TiledCase& t : tiled_cases(sizeof(T), true)) {
    Box box{t.rank,
            {t.at[0], t.at[1], t.at[2], t.at[3]},
            false,
            {},
            elements(t) * static_cast<uint32_t>(sizeof(T))};
    std::vector<uint8_t> want(box.bytes);
    each_element(t, [&](uint32_t place, int c, int w, int h, int n) {
      const T v = at(x, c, w, h, n);
      std::memcpy(&want[swizzled(place * sizeof(T), t.span)], &v, sizeof(T));
    });
    in_all_ways([&] {
      const Device<uint8_t> out(box.bytes);
      load_box(map_of(memory.get(), t), box, out.get());
      EXPECT_EQ(out.host(), want) << "rank " << t.rank << " from " << t.at[0] << ", " << t.at[1] << " span "
                                  << t.span;
    });
  }
}
TEST_F(WrappersHopper, TiledLoads) {
  check_loads<bf16>();
  check_loads<float>();
}

template <class T>
void check_stores() {
  const std::vector<T> x = tensor<T>();
  for (const TiledCase& t : tiled_cases(sizeof(T), false)) {
    Box box{t.rank,
            {t.at[0], t.at[1], t.at[2], t.at[3]},
            false,
            {},
            elements(t) * static_cast<uint32_t>(sizeof(T))};
    const std::vector<T> values = wholes<T>(static_cast<int>(elements(t)), 52, 100);
    std::vector<uint8_t> in(box.bytes);
    for (uint32_t i = 0; i < values.size(); ++i) {
      std::memcpy(&in[swizzled(i * sizeof(T), t.span)], &values[i], sizeof(T));
    }
    for (const bool add : {false, true}) {
      std::vector<float> want(x.begin(), x.end());
      each_element(t, [&](uint32_t place, int c, int w, int h, int n) {
        if (c < 0 || c >= kC || w < 0 || w >= kW || h < 0 || h >= kH || n < 0 || n >= kN) return;
        float& y = want[static_cast<size_t>(((n * kH + h) * kW + w) * kC + c)];
        y = float(values[place]) + (add ? y : 0);
      });
      in_all_ways([&] {
        const Device<T> memory(x);
        const Device<uint8_t> from(in);
        store_box(map_of(memory.get(), t), box, add, from.get());
        const std::vector<T> y = memory.host();
        EXPECT_EQ(std::vector<float>(y.begin(), y.end()), want) << "rank " << t.rank << " span " << t.span;
      });
    }
  }
}
TEST_F(WrappersHopper, TiledStoresAndAdds) {
  check_stores<bf16>();
  check_stores<__half>();
  check_stores<float>();
}

TEST_F(WrappersHopper, Im2colLoads) {
  const std::vector<bf16> x = tensor<bf16>();
  const Device<bf16> memory(x);
  struct Case {
    int extent, pad, stride, dilation, pixels;
    uint32_t span;
  };
  for (const Case& c : {Case{3, 1, 1, 1, 40, 128}, Case{3, 1, 2, 1, 24, 64}, Case{5, 2, 2, 1, 16, 32},
                        Case{3, 2, 1, 2, 64, 0}, Case{1, 0, 1, 1, 128, 128}, Case{1, 0, 2, 1, 33, 128}}) {
    const int upper = c.pad - (c.extent - 1) * c.dilation;
    const int p_count = (kH + c.pad + upper - 1) / c.stride + 1,
              q_count = (kW + c.pad + upper - 1) / c.stride + 1;
    const cuuint32_t step = static_cast<cuuint32_t>(c.stride), channels = (c.span ? c.span : 48) / 2;
    const auto bytes = [](int v) { return static_cast<cuuint64_t>(v) * 2; };
    const CUtensorMap map = cuda::im2col_map<bf16>(
        memory.get(), {kC, kW, kH, kN}, {bytes(kC), bytes(kC * kW), bytes(kC * kW * kH)},
        {{-c.pad, -c.pad}, {upper, upper}, {step, step}, channels, static_cast<cuuint32_t>(c.pixels)},
        driver_swizzle(c.span));
    const uint32_t row = channels * 2;
    // From the first pixel, from within a row, from the last image on to past its end; the first and the last tap.
    for (const int first : {0, q_count + 1, (kN - 1) * p_count * q_count + q_count / 2}) {
      for (const int tap : {0, c.extent - 1}) {
        const int first_c = tap == 0 ? 0 : 40, r = tap * c.dilation, s = (c.extent - 1 - tap) * c.dilation;
        const int n0 = first / (p_count * q_count), p0 = first / q_count % p_count, q0 = first % q_count;
        Box box{4,
                {first_c, q0 * c.stride - c.pad, p0 * c.stride - c.pad, n0},
                true,
                {s, r},
                row * static_cast<uint32_t>(c.pixels)};
        std::vector<uint8_t> want(box.bytes);
        for (int i = 0; i < c.pixels; ++i) {
          const int n = (first + i) / (p_count * q_count), p = (first + i) / q_count % p_count,
                    q = (first + i) % q_count;
          for (int k = 0; k < static_cast<int>(channels); ++k) {
            const bf16 v = at(x, first_c + k, q * c.stride - c.pad + s, p * c.stride - c.pad + r, n);
            std::memcpy(
                &want[swizzled(static_cast<uint32_t>(i) * row + static_cast<uint32_t>(k) * 2, c.span)], &v,
                2);
          }
        }
        in_all_ways([&] {
          const Device<uint8_t> out(box.bytes);
          load_box(map, box, out.get());
          EXPECT_EQ(out.host(), want)
              << "extent " << c.extent << " stride " << c.stride << " from pixel " << first;
        });
      }
    }
  }
}

// ---- wgmma: operands laid out in an image of shared memory as hopper_wgmma.cuh describes.

constexpr int kK = 16 * kSteps;

// Puts the operand's elements (mn, k) into the image from `start` on; swizzle: the code of wgmma_matrix.
Operand lay_out(const std::vector<uint16_t>& values, int count, uint32_t start, uint32_t swizzle,
                bool mn_major, std::vector<uint8_t>* image) {
  static constexpr uint32_t kSpans[] = {0, 128, 64, 32};
  const uint32_t span = kSpans[swizzle], mn_count = static_cast<uint32_t>(count);
  Operand o{start, 0, 0, 0, swizzle, mn_major};
  if (span == 0) {
    const uint32_t chunks = mn_count / 8 * 128;
    o.stride = 128;
    o.leading = chunks;
    o.step = 2 * chunks;
  } else if (mn_major) {
    o.stride = 8 * span;
    o.leading = kK / 8 * 8 * span;
    o.step = 16 * span;
  } else {
    o.stride = 8 * span;
    o.step = span == 32 ? mn_count * span : 32;
  }
  for (uint32_t mn = 0; mn < mn_count; ++mn) {
    for (uint32_t k = 0; k < kK; ++k) {
      uint32_t at;
      if (span == 0) {
        at = mn / 8 * o.stride + k / 8 * o.leading +
             (mn_major ? k % 8 * 16 + mn % 8 * 2 : mn % 8 * 16 + k % 8 * 2);
      } else if (mn_major) {
        at = mn / (span / 2) * o.leading + k / 8 * o.stride + k % 8 * span + mn % (span / 2) * 2;
      } else {
        at = k / (span / 2) * mn_count * span + mn * span + k % (span / 2) * 2;
      }
      at = start + swizzled(at, span);
      if (image->size() < at + 2) image->resize(at + 2);
      std::memcpy(&(*image)[at], &values[mn * kK + k], 2);
    }
  }
  return o;
}

std::vector<uint16_t> encode(const std::vector<float>& values, bool as_bf16) {
  std::vector<uint16_t> out;
  for (const float v : values) {
    uint16_t bits;
    if (as_bf16) {
      const bf16 b(v);
      std::memcpy(&bits, &b, 2);
    } else {
      const __half h(v);
      std::memcpy(&bits, &h, 2);
    }
    out.push_back(bits);
  }
  return out;
}

void check_group(int n, bool as_bf16, uint32_t swizzle_a, bool a_mn, bool in_registers, uint32_t swizzle_b,
                 bool b_mn, bool keep) {
  SCOPED_TRACE("n " + std::to_string(n) + (as_bf16 ? " bf16" : " f16") + " a " + std::to_string(swizzle_a) +
               (a_mn ? " mn" : " k") + (in_registers ? " registers" : "") + " b " +
               std::to_string(swizzle_b) + (b_mn ? " mn" : " k") + (keep ? " keep" : ""));
  const std::vector<float> a = wholes(64 * kK, 61), b = wholes(n * kK, 62), c = wholes(64 * n, 63, 100);
  const std::vector<uint16_t> a_bits = encode(a, as_bf16), b_bits = encode(b, as_bf16);
  std::vector<uint8_t> image;
  const Operand oa = lay_out(a_bits, 64, 0, swizzle_a, a_mn, &image);
  image.resize((image.size() + 1023) / 1024 * 1024);
  const Operand ob = lay_out(b_bits, n, static_cast<uint32_t>(image.size()), swizzle_b, b_mn, &image);
  image.resize((image.size() + 1023) / 1024 * 1024);

  std::vector<uint32_t> registers(kSteps * 128 * 4);
  std::vector<float> d(static_cast<size_t>(64 * n)), want(d.size());
  for (int t = 0; t < 128; ++t) {
    const int row = t / 32 * 16 + t % 32 / 4, column = t % 4 * 2;
    for (int step = 0; step < kSteps; ++step) {
      for (int i = 0; i < 8; ++i) {  // register i / 2, half i % 2
        const int at = (row + i / 2 % 2 * 8) * kK + 16 * step + column + i / 4 * 8 + i % 2;
        registers[(step * 128 + t) * 4 + i / 2] |= static_cast<uint32_t>(a_bits[at]) << (i % 2 * 16);
      }
    }
    for (int i = 0; i < n / 2; ++i) {
      const int m = row + i / 2 % 2 * 8, j = i / 4 * 8 + column + i % 2;
      d[t * (n / 2) + i] = c[m * n + j];
      float sum = keep ? c[m * n + j] : 0;
      for (int k = 0; k < kK; ++k) sum += a[m * kK + k] * b[j * kK + k];
      want[t * (n / 2) + i] = sum;
    }
  }
  in_all_ways([&] {
    const Device<uint8_t> di(image);
    const Device<uint32_t> dr(registers);
    const Device<float> dd(d);
    ASSERT_TRUE(multiply_group(n, as_bf16, di.get(), static_cast<uint32_t>(image.size()), oa,
                               in_registers ? dr.get() : nullptr, ob, keep, dd.get()));
    EXPECT_EQ(dd.host(), want);
  });
}

TEST_F(WrappersHopper, WgmmaOfEverySize) {
  for (const int n : {16, 32, 64, 96, 128, 160, 192, 224, 256})
    check_group(n, true, 1, false, false, 1, false, n % 64 == 0);
}
TEST_F(WrappersHopper, WgmmaOfEveryLayout) {
  for (const bool a_mn : {false, true}) {
    for (const bool b_mn : {false, true}) {
      for (const uint32_t swizzle : {0u, 1u, 2u, 3u}) {
        check_group(64, swizzle % 2 == 0, swizzle, a_mn, false, swizzle, b_mn, true);
        check_group(64, swizzle % 2 == 1, swizzle, a_mn, false, (swizzle + 1) % 4, b_mn, false);
      }
      check_group(256, false, 1, a_mn, false, 1, b_mn, true);
    }
  }
}
TEST_F(WrappersHopper, WgmmaFromRegisters) {
  for (const int n : {64, 256}) {
    for (const bool as_bf16 : {false, true}) {
      for (const bool b_mn : {false, true}) check_group(n, as_bf16, 1, false, true, 1, b_mn, b_mn);
    }
  }
}

TEST_F(WrappersHopper, Mbarriers) {
  const std::vector<int> x = wholes<int>(64, 71, 1000);
  in_all_ways([&] {
    const Device<int> dx(x), out(72);
    mbarriers(dx.get(), out.get());
    std::vector<int> want{1, 0, 1, 0, 1, 0, 1, 0};
    for (const int v : x) want.push_back(v + 1);
    EXPECT_EQ(out.host(), want);
  });
}

TEST_F(WrappersHopper, Roles) {
  in_all_ways([] {
    const Device<int> out(8);
    roles(out.get());
    EXPECT_EQ(out.host(), std::vector<int>(8, 1));
  });
}

// All of them together, as test_emulator_hopper.cpp runs it: ones everywhere count the taps inside of the image.
TEST_F(WrappersHopper, Convolution) {
  const emulated::Convolution c{3, 7, 9, 64, 72, 3, 1, 1, 1};
  const size_t inputs = 3 * 7 * 9 * 64, weights = 72 * 9 * 64;
  std::vector<bf16> w(weights, bf16(0.0f));
  for (int k = 0; k < 72; ++k) {
    for (int tap = 0; tap < 9; ++tap)
      w[static_cast<size_t>((k * 9 + tap) * 64 + (k + tap) % 64)] = bf16(static_cast<float>(k % 8 + 1));
  }
  in_all_ways([&] {
    const Device<bf16> dx(std::vector<bf16>(inputs, bf16(1.0f))), dw(w), dy(3 * 7 * 9 * 72);
    convolve(emulated::HopperBug::kNone, false, c, dx.get(), dw.get(), dy.get());
    const std::vector<bf16> y = dy.host();
    for (int i = 0; i < 3 * 7 * 9 * 72; ++i) {
      const int k = i % 72, q = i / 72 % 9, p = i / 72 / 9 % 7;
      const int taps = (3 - (p == 0) - (p == 6)) * (3 - (q == 0) - (q == 8));
      ASSERT_EQ(float(y[static_cast<size_t>(i)]), static_cast<float>(taps * (k % 8 + 1))) << i;
    }
  });
}

}  // namespace
}  // namespace convoy::wrappers
