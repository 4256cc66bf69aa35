// The emulator's cuda_fp16.h: f16 (5 exponent bits, 10 of mantissa).
#pragma once
#include "../half_types.h"

namespace emulator {
using F16 = Small<5, 10>;
}
EMULATOR_SMALL_FLOAT(__half, __half2, F16)
using half = __half;
using half2 = __half2;

inline __half __float2half(float v) {
  return __half(v);
}
inline __half __float2half_rn(float v) {
  return __half(v);
}
inline float __half2float(__half v) {
  return v;
}
inline __half2 __floats2half2_rn(float x, float y) {
  return {__half(x), __half(y)};
}
inline __half2 __float22half2_rn(float2 v) {
  return {__half(v.x), __half(v.y)};
}
inline __half2 __halves2half2(__half x, __half y) {
  return {x, y};
}
inline float2 __half22float2(__half2 v) {
  return {float(v.x), float(v.y)};
}
inline unsigned short __half_as_ushort(__half v) {
  return v.bits;
}
inline __half __ushort_as_half(unsigned short bits) {
  __half v;
  v.bits = bits;
  return v;
}
