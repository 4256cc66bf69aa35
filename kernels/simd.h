// Vectors of floats, CONVOY_VECTOR_BYTES wide, and the few things that the compilers' vector extensions do
// badly. The only conditional compilation of the kernels.
#pragma once
#include <cstdint>
#include <utility>

#if defined(__AVX2__)
#include <immintrin.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

#define CONVOY_INLINE inline __attribute__((always_inline))
#define CONVOY_PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define CONVOY_UNROLL CONVOY_PRAGMA(unroll)  // the whole loop: its trip count is a constant
#else
#define CONVOY_UNROLL CONVOY_PRAGMA(GCC unroll 32)
#endif

namespace convoy::CONVOY_CPU {

constexpr int kLanes = CONVOY_VECTOR_BYTES / 4;
// Vector registers: AVX-512 has 32, SSE and AVX2 have 16.
constexpr int kRegisters = CONVOY_VECTOR_BYTES == 64 ? 32 : 16;

typedef float Vec __attribute__((vector_size(CONVOY_VECTOR_BYTES)));
typedef float UnalignedVec __attribute__((vector_size(CONVOY_VECTOR_BYTES), aligned(4), may_alias));

CONVOY_INLINE Vec load(const float* p) {
  return *reinterpret_cast<const UnalignedVec*>(p);
}
CONVOY_INLINE void store(float* p, Vec v) {
  *reinterpret_cast<UnalignedVec*>(p) = v;
}
CONVOY_INLINE Vec broadcast(float x) {
  return x - Vec{};
}

// A scalar in memory, in every lane of a register of its own. Left to themselves compilers load it again for
// every FMA that uses it, or carry it over from one turn of a loop to the next through general registers.
CONVOY_INLINE Vec broadcast_load(const float* p) {
#if defined(__AVX2__)
  Vec v;
  asm("vbroadcastss %1, %0" : "=v"(v) : "m"(*p));
  return v;
#else
  return broadcast(*p);
#endif
}

// a·b + c, fused wherever the instruction set can: whether a compiler fuses an expression may differ from one copy of a
// loop to the next, and with it the bits of an output that another number of threads cuts into another tile.
CONVOY_INLINE Vec multiply_add(Vec a, Vec b, Vec c) {
#if defined(__AVX512F__)
  return (Vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (Vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

// The first `count` lanes, or all where there are fewer (0 <= count < 32); the others are zero, or left
// alone.
#if defined(__AVX512F__)
CONVOY_INLINE Vec load_first(const float* p, int64_t count) {
  return (Vec)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
}
CONVOY_INLINE void store_first(float* p, Vec v, int64_t count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), (__m512)v);
}
#elif defined(__AVX2__)
CONVOY_INLINE __m256i first_lanes(int64_t count) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
CONVOY_INLINE Vec load_first(const float* p, int64_t count) {
  return (Vec)_mm256_maskload_ps(p, first_lanes(count));
}
CONVOY_INLINE void store_first(float* p, Vec v, int64_t count) {
  _mm256_maskstore_ps(p, first_lanes(count), (__m256)v);
}
#else
CONVOY_INLINE Vec load_first(const float* p, int64_t count) {
  Vec v = {};
  for (int i = 0; i < kLanes && i < count; ++i) v[i] = p[i];
  return v;
}
CONVOY_INLINE void store_first(float* p, Vec v, int64_t count) {
  for (int i = 0; i < kLanes && i < count; ++i) p[i] = v[i];
}
#endif

// max(v, 0), where NaN stays.
CONVOY_INLINE Vec relu(Vec v) {
  return v < 0 ? Vec{} : v;
}
// v, but 0 where mask <= 0.
CONVOY_INLINE Vec where_positive(Vec mask, Vec v) {
  return mask <= 0 ? Vec{} : v;
}

using Lanes = std::make_integer_sequence<int, kLanes>;
template <int... I>
CONVOY_INLINE Vec interleave_low(Vec a, Vec b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (I / 2 + I % 2 * kLanes)...);
}
template <int... I>
CONVOY_INLINE Vec interleave_high(Vec a, Vec b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, (kLanes / 2 + I / 2 + I % 2 * kLanes)...);
}

// rows[i][j] becomes rows[j][i]: every round of perfect shuffles moves one bit of the row's number into the
// column's.
CONVOY_INLINE void transpose(Vec (&rows)[kLanes]) {
  CONVOY_UNROLL
  for (int bit = 1; bit < kLanes; bit *= 2) {
    Vec next[kLanes];
    CONVOY_UNROLL
    for (int i = 0; i < kLanes / 2; ++i) {
      next[2 * i] = interleave_low(rows[i], rows[i + kLanes / 2], Lanes{});
      next[2 * i + 1] = interleave_high(rows[i], rows[i + kLanes / 2], Lanes{});
    }
    CONVOY_UNROLL
    for (int i = 0; i < kLanes; ++i) rows[i] = next[i];
  }
}

CONVOY_INLINE int thread_index() {
#if defined(_OPENMP)
  return omp_get_thread_num();
#else
  return 0;
#endif
}
CONVOY_INLINE int thread_count() {
#if defined(_OPENMP)
  return omp_get_num_threads();
#else
  return 1;
#endif
}

}  // namespace convoy::CONVOY_CPU
