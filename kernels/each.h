// How the CPU's memory-bound operations share their work, and their vectors. For sources in kernels/ only.
//
// Work is cut into items whose size depends on shapes alone; each item is computed by the same code whichever
// thread takes it, so the bits do not depend on the number of threads.
#pragma once
#include "kernels/cpu.h"
#include "kernels/sizes.h"

namespace convoy::CONVOY_CPU {
namespace {

// Less work than this (elements read) is done faster than a second thread is woken.
constexpr int64_t kSerialWork = 16384;
// Elements of an elementwise operation per item: 32 KiB of floats.
constexpr int64_t kChunk = 8192;

constexpr int64_t kLanes = CONVOY_VECTOR_BYTES / 4;  // floats in a vector

typedef float Floats __attribute__((vector_size(CONVOY_VECTOR_BYTES)));
typedef int32_t Ints __attribute__((vector_size(CONVOY_VECTOR_BYTES)));
typedef uint8_t Bytes __attribute__((vector_size(CONVOY_VECTOR_BYTES / 4)));
typedef float HalfFloats __attribute__((vector_size(CONVOY_VECTOR_BYTES / 2)));
typedef double Doubles __attribute__((vector_size(CONVOY_VECTOR_BYTES)));

// A T, vector or scalar, that lies anywhere.
template <class T>
inline T get(const void* p) {
  T v;
  __builtin_memcpy(&v, p, sizeof(T));
  return v;
}
template <class T>
inline void put(void* p, const T& v) {
  __builtin_memcpy(p, &v, sizeof(T));
}

// body(item) for every item in [0, items), on the Exec's threads when `work` elements are worth it.
template <class Body>
void for_items(const Exec& ex, int64_t items, int64_t work, const Body& body) {
  if (work < kSerialWork || items < 2 || ex.threads < 2) {
    for (int64_t item = 0; item < items; ++item) body(item);
    return;
  }
#pragma omp parallel for num_threads(ex.threads) schedule(static)
  for (int64_t item = 0; item < items; ++item) body(item);
}

// body(first, last) for the chunks of [0, count).
template <class Body>
void for_chunks(const Exec& ex, int64_t count, const Body& body) {
  for_items(ex, divide_up(count, kChunk), count,
            [&](int64_t chunk) { body(chunk * kChunk, smaller(count, (chunk + 1) * kChunk)); });
}

// y[i] = f(a[i]) and y[i] = f(a[i], b[i]), vectorised; y may be a or b.
template <class F>
void map(const Exec& ex, int64_t count, float* y, const float* a, const F& f) {
  for_chunks(ex, count, [&](int64_t first, int64_t last) {
#pragma omp simd
    for (int64_t i = first; i < last; ++i) y[i] = f(a[i]);
  });
}
template <class F>
void map(const Exec& ex, int64_t count, float* y, const float* a, const float* b, const F& f) {
  for_chunks(ex, count, [&](int64_t first, int64_t last) {
#pragma omp simd
    for (int64_t i = first; i < last; ++i) y[i] = f(a[i], b[i]);
  });
}

// y[i] = f(a[i]) where f calls a library function.
template <class F>
void map_calls(const Exec& ex, int64_t count, float* y, const float* a, const F& f) {
  for_items(ex, divide_up(count, kChunk), 16 * count,
            [&](int64_t chunk) {  // a call costs about 16 elements of traffic
              for (int64_t i = chunk * kChunk; i < smaller(count, (chunk + 1) * kChunk); ++i) y[i] = f(a[i]);
            });
}

// What every operation asks of its operands: the dtype (by f32()), the shape, no gaps between rows.
inline void check_operand(const In& view, const Shape& shape, const char* name) {
  CONVOY_CHECK(view.shape == shape, name, " is ", view.shape, ", expected ", shape);
  CONVOY_CHECK(view.contiguous(), name, " has rows ", view.row_stride, " apart, expected ", view.shape.row());
  CONVOY_CHECK(view.count() == 0 || !view.empty(), name, " has no memory");
}
inline const float* input(const In& view, const Shape& shape, const char* name) {
  check_operand(view, shape, name);
  return view.f32();
}
inline float* output(const Out& view, const Shape& shape, const char* name) {
  check_operand(view, shape, name);
  return view.f32();
}
// The Exec's scratch memory as `bytes` bytes.
inline void* scratch(const Exec& ex, int64_t bytes) {
  CONVOY_CHECK(ex.scratch.bytes() >= bytes, "scratch has ", ex.scratch.bytes(), " bytes, needs ", bytes);
  return ex.scratch.data;
}

}  // namespace
}  // namespace convoy::CONVOY_CPU
