// The emulator's f16 and bf16 against what their bits mean.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

namespace {

// Every finite value, in order: the bits of a positive value count up with it.
template <class Format>
void check_rounding(int mantissa_bits, double largest, double smallest) {
  EXPECT_EQ(Format::value(Format::kInfinity - 1), largest);
  EXPECT_EQ(Format::value(1), smallest);
  for (int bits = 0; bits < Format::kInfinity; ++bits) {
    const double v = Format::value(static_cast<uint16_t>(bits));
    const bool last = bits + 1 == Format::kInfinity;
    // Beyond the largest value the next step would be as wide as the last one.
    const double next = last ? 2 * v - Format::value(static_cast<uint16_t>(bits - 1))
                             : Format::value(static_cast<uint16_t>(bits + 1));
    ASSERT_LT(v, next);
    const double middle = v + (next - v) / 2;
    ASSERT_EQ(Format::round(v), bits);
    ASSERT_EQ(Format::round(-v), bits | 0x8000);
    ASSERT_EQ(Format::round(middle), bits + (bits & 1)) << "a tie goes to the even " << bits;
    ASSERT_EQ(Format::round(std::nextafter(middle, 0)), bits);
    ASSERT_EQ(Format::round(std::nextafter(middle, next)), bits + 1);
  }
  EXPECT_EQ(Format::round(INFINITY), Format::kInfinity);
  EXPECT_EQ(Format::round(-1e300), Format::kInfinity | 0x8000);
  EXPECT_EQ(Format::round(NAN), 0x7fff);
  EXPECT_NE(Format::value(0x7fff), Format::value(0x7fff));
  EXPECT_EQ(Format::kInfinity, ((1 << (15 - mantissa_bits)) - 1) << mantissa_bits);
}

TEST(EmulatorHalf, RoundsEveryValueToNearestEven) {
  check_rounding<emulator::F16>(10, 65504, 0x1p-24);
  check_rounding<emulator::BF16>(7, 0x1.fep127, 0x1p-133);
}

// A float's upper half, rounded by hand: what bf16 is.
uint16_t bf16_of(float v) {
  uint32_t bits;
  std::memcpy(&bits, &v, 4);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

TEST(EmulatorHalf, ConversionOfRandomFloats) {
  std::mt19937 random(1);
  for (int i = 0; i < 100000; ++i) {
    const uint32_t bits = random();
    float v;
    std::memcpy(&v, &bits, 4);
    if (!std::isfinite(v)) continue;
    ASSERT_EQ(__bfloat16_as_ushort(__float2bfloat16(v)), bf16_of(v)) << v;
  }
}

TEST(EmulatorHalf, ArithmeticRoundsOnce) {
  // The sum lies just above a tie: rounded to f32 (or f64) first, it would be the tie, and go down to even.
  const __nv_bfloat16 a = __float2bfloat16(1 + 0x1p-7f), half_step = __float2bfloat16(0x1p-8f);
  EXPECT_EQ(float(__hadd(__float2bfloat16(1), half_step)), 1);
  EXPECT_EQ(float(__hadd(a, half_step)), 1 + 0x1p-6f);
  const __nv_bfloat16 tiny = __float2bfloat16(0x1p-100f), one = __float2bfloat16(1);
  EXPECT_EQ(float(__hfma(half_step, one, one)), 1);
  // (1 + 2^-7)(2^-8) + 1 is above the tie 1 + 2^-8.
  EXPECT_EQ(float(__hfma(a, half_step, one)), 1 + 0x1p-7f);
  EXPECT_EQ(emulator::BF16::round(emulator::add_to_odd(1 + 0x1p-8, float(tiny))), bf16_of(1 + 0x1p-7f));
  EXPECT_EQ(emulator::BF16::round(emulator::add_to_odd(1 + 0x1p-8, -float(tiny))), bf16_of(1));
  EXPECT_EQ(float(__hmul(__float2half(3), __float2half(5))), 15);
  EXPECT_EQ(float(__hadd(__float2half(65504), __float2half(16))), INFINITY);
  EXPECT_EQ(float(__hsub(__float2half(2048), __float2half(0.5f))), 2048 - 0.0f);
  EXPECT_TRUE(__hisnan(__hadd(__float2half(INFINITY), __float2half(-INFINITY))));
  EXPECT_EQ(float(__hmax(__float2half(NAN), __float2half(2))), 2);
}

}  // namespace
