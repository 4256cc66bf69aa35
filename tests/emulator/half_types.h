// f16 and bf16 as 16 bits: every result is rounded once, to nearest even, as hardware does.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "vector_types.h"

namespace emulator {

// a + b rounded to odd: where the exact sum lies between two doubles, the one with the odd last bit. A later
// rounding to fewer than 51 bits then gives what one rounding of the exact sum would (Boldo and Melquiond,
// "Emulation of FMA and correctly rounded sums", 2008).
inline double add_to_odd(double a, double b) {
  const double sum = a + b;
  if (!std::isfinite(sum)) return sum;
  const double b_part = sum - a;
  const double error = (a - (sum - b_part)) + (b - b_part);
  uint64_t bits;
  std::memcpy(&bits, &sum, 8);
  if (error == 0 || (bits & 1)) return sum;
  return std::nextafter(
      sum, error > 0 ? std::numeric_limits<double>::infinity() : -std::numeric_limits<double>::infinity());
}

// A 16-bit format of kExponent and kMantissa bits.
template <int kExponent, int kMantissa>
struct Small {
  static constexpr int kBias = (1 << (kExponent - 1)) - 1;
  static constexpr uint16_t kInfinity = ((1 << kExponent) - 1) << kMantissa;

  static uint16_t round(double v) {
    const uint16_t sign = std::signbit(v) ? 0x8000 : 0;
    if (std::isnan(v)) return 0x7fff;  // the NaN that cvt.rn gives
    v = std::fabs(v);
    if (v == 0) return sign;
    if (std::isinf(v)) return sign | kInfinity;
    int exponent;
    std::frexp(v, &exponent);  // v = m · 2^exponent, 0.5 <= m < 1
    // The weight of the last bit; subnormals share that of the smallest exponent.
    const int last = (exponent - 1 < 1 - kBias ? 1 - kBias : exponent - 1) - kMantissa;
    const double steps = std::nearbyint(std::ldexp(v, -last));  // to even; at most 2^(kMantissa + 1)
    if (steps == 0) return sign;
    const double rounded = std::ldexp(steps, last);
    if (rounded >= std::ldexp(1.0, kBias + 1)) return sign | kInfinity;
    std::frexp(rounded, &exponent);
    const bool normal = exponent - 1 >= 1 - kBias;
    const auto mantissa =
        static_cast<uint16_t>(std::ldexp(rounded, -(normal ? exponent - 1 - kMantissa : last)));
    if (!normal) return sign | mantissa;
    return static_cast<uint16_t>(sign | ((exponent - 1 + kBias) << kMantissa) |
                                 (mantissa & ((1 << kMantissa) - 1)));
  }

  static float value(uint16_t bits) {
    const int exponent = bits >> kMantissa & ((1 << kExponent) - 1);
    const int mantissa = bits & ((1 << kMantissa) - 1);
    const float sign = bits & 0x8000 ? -1.0f : 1.0f;
    if (exponent == (1 << kExponent) - 1) {
      return mantissa ? std::numeric_limits<float>::quiet_NaN()
                      : sign * std::numeric_limits<float>::infinity();
    }
    if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), 1 - kBias - kMantissa);
    return sign * std::ldexp(static_cast<float>(mantissa | 1 << kMantissa), exponent - kBias - kMantissa);
  }
};

}  // namespace emulator

#define EMULATOR_SMALL_FLOAT(T, T2, Format)                                         \
  struct alignas(2) T {                                                             \
    uint16_t bits;                                                                  \
    T() = default;                                                                  \
    T(float v) : bits(emulator::Format::round(v)) {}                                \
    operator float() const { return emulator::Format::value(bits); }                \
    static T rounded(double v) {                                                    \
      T t;                                                                          \
      t.bits = emulator::Format::round(v);                                          \
      return t;                                                                     \
    }                                                                               \
  };                                                                                \
  struct alignas(4) T2 {                                                            \
    T x, y;                                                                         \
  };                                                                                \
  inline T __hadd(T a, T b) {                                                       \
    return T::rounded(emulator::add_to_odd(float(a), float(b)));                    \
  }                                                                                 \
  inline T __hsub(T a, T b) {                                                       \
    return T::rounded(emulator::add_to_odd(float(a), -double(float(b))));           \
  }                                                                                 \
  inline T __hmul(T a, T b) {                                                       \
    return T::rounded(double(float(a)) * float(b));                                 \
  }                                                                                 \
  inline T __hfma(T a, T b, T c) {                                                  \
    return T::rounded(emulator::add_to_odd(double(float(a)) * float(b), float(c))); \
  }                                                                                 \
  inline T operator+(T a, T b) {                                                    \
    return __hadd(a, b);                                                            \
  }                                                                                 \
  inline T operator-(T a, T b) {                                                    \
    return __hsub(a, b);                                                            \
  }                                                                                 \
  inline T operator*(T a, T b) {                                                    \
    return __hmul(a, b);                                                            \
  }                                                                                 \
  inline T operator-(T a) {                                                         \
    return T::rounded(-double(float(a)));                                           \
  }                                                                                 \
  inline bool operator==(T a, T b) {                                                \
    return float(a) == float(b);                                                    \
  }                                                                                 \
  inline bool operator!=(T a, T b) {                                                \
    return float(a) != float(b);                                                    \
  }                                                                                 \
  inline bool operator<(T a, T b) {                                                 \
    return float(a) < float(b);                                                     \
  }                                                                                 \
  inline bool operator>(T a, T b) {                                                 \
    return float(a) > float(b);                                                     \
  }                                                                                 \
  inline bool operator<=(T a, T b) {                                                \
    return float(a) <= float(b);                                                    \
  }                                                                                 \
  inline bool operator>=(T a, T b) {                                                \
    return float(a) >= float(b);                                                    \
  }                                                                                 \
  /* maximum and minimum: the number where one is NaN */                            \
  inline T __hmax(T a, T b) {                                                       \
    return T(std::fmax(float(a), float(b)));                                        \
  }                                                                                 \
  inline T __hmin(T a, T b) {                                                       \
    return T(std::fmin(float(a), float(b)));                                        \
  }                                                                                 \
  inline bool __hisnan(T a) {                                                       \
    return std::isnan(float(a));                                                    \
  }                                                                                 \
  inline T2 __hadd2(T2 a, T2 b) {                                                   \
    return {__hadd(a.x, b.x), __hadd(a.y, b.y)};                                    \
  }                                                                                 \
  inline T2 __hmul2(T2 a, T2 b) {                                                   \
    return {__hmul(a.x, b.x), __hmul(a.y, b.y)};                                    \
  }                                                                                 \
  inline T2 __hfma2(T2 a, T2 b, T2 c) {                                             \
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};                          \
  }                                                                                 \
  inline T2 __hmax2(T2 a, T2 b) {                                                   \
    return {__hmax(a.x, b.x), __hmax(a.y, b.y)};                                    \
  }                                                                                 \
  inline float __low2float(T2 a) {                                                  \
    return a.x;                                                                     \
  }                                                                                 \
  inline float __high2float(T2 a) {                                                 \
    return a.y;                                                                     \
  }
