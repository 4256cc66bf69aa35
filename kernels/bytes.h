// Bytes to and from vectors of whole numbers. gcc 12 takes __builtin_convertvector between them apart into
// scalars (72 instructions for AVX-512's one, measured on its assembly), so the instructions are named here.
#pragma once
#include "kernels/each.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace convoy::CONVOY_CPU {
namespace {

// All lanes, in the form with a mask: gcc 12 warns of its own header's plain one (its bug 105593).
#if defined(__AVX512F__)
inline Ints load_bytes(const uint8_t* p) {
  return (Ints)_mm512_maskz_cvtepu8_epi32(0xFFFF, get<__m128i>(p));
}
inline void store_bytes(uint8_t* p, Ints v) {
  put(p, _mm512_maskz_cvtepi32_epi8(0xFFFF, (__m512i)v));
}
#elif defined(__AVX2__)
inline Ints load_bytes(const uint8_t* p) {
  return (Ints)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(get<int64_t>(p)));
}
inline void store_bytes(uint8_t* p, Ints v) {
  const __m256i w = (__m256i)v;
  const __m128i halves = _mm_packus_epi32(_mm256_castsi256_si128(w), _mm256_extracti128_si256(w, 1));
  put(p, _mm_cvtsi128_si64(_mm_packus_epi16(halves, halves)));
}
#else
inline Ints load_bytes(const uint8_t* p) {
  return __builtin_convertvector(get<Bytes>(p), Ints);
}
inline void store_bytes(uint8_t* p, Ints v) {
  put(p, __builtin_convertvector(v, Bytes));
}
#endif

}  // namespace
}  // namespace convoy::CONVOY_CPU
