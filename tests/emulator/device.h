// What CUDA's language and headers give to device code, for kernels compiled as plain C++.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "copies.h"
#include "hooks.h"
#include "hopper.h"
#include "launch.h"
#include "shared.h"
#include "sync.h"
#include "vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__

// Values, not variables: a reference would let kernels see the emulator's memory.
#define threadIdx (::emulator::thread_index())
#define blockIdx (::emulator::block_index())
#define blockDim (::emulator::block_extents())
#define gridDim (::emulator::grid_extents())
constexpr int warpSize = 32;

// ---- Barriers.
inline void __syncthreads(emulator::Place p = emulator::Place::here()) {
  emulator::barrier(0, 0, 0, "__syncthreads", p);
}
inline int __syncthreads_count(int predicate, emulator::Place p = emulator::Place::here()) {
  return emulator::barrier(0, 0, predicate != 0, "__syncthreads_count", p);
}
inline int __syncthreads_or(int predicate, emulator::Place p = emulator::Place::here()) {
  return emulator::barrier(0, 0, predicate != 0, "__syncthreads_or", p) != 0;
}
inline int __syncthreads_and(int predicate, emulator::Place p = emulator::Place::here()) {
  return emulator::barrier(0, 0, predicate == 0, "__syncthreads_and", p) == 0;
}
inline void __syncwarp(unsigned mask = ~0u, emulator::Place p = emulator::Place::here()) {
  emulator::warp_barrier(mask, p);
}
inline void __threadfence_block() {}
inline void __threadfence() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) {
  emulator::sleep_turn();
}
[[noreturn]] inline void __trap(emulator::Place p = emulator::Place::here()) {
  emulator::trap(p.file, p.line);
}

// ---- Warp collectives. A lane that is named as a source but is not in the mask gives garbage on hardware:
// here the pattern 0xBA.
namespace emulator {

template <class T>
struct Posted {
  T value;
  int argument;
};

// source(lane, argument): the lane to read, or the lane itself where that leaves its segment.
template <class T, class Source>
T shuffle(unsigned mask, const char* name, Place place, T value, int argument, Source source) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 2, "the types that __shfl_sync takes");
  return warp_exchange<T>(mask, name, place, Posted<T>{value, argument},
                          [source](const Posted<T>* const* in, T* const* out, uint32_t lanes) {
                            for (int lane = 0; lane < 32; ++lane) {
                              if (!(lanes >> lane & 1)) continue;
                              const int from = source(lane, in[lane]->argument);
                              if (in[from]) {
                                *out[lane] = in[from]->value;
                              } else {
                                std::memset(static_cast<void*>(out[lane]), 0xBA, sizeof(T));
                              }
                            }
                          });
}

template <class Out, class In, class Compute>
Out all_lanes(unsigned mask, const char* name, Place place, In value, Compute compute) {
  return warp_exchange<Out>(mask, name, place, value,
                            [compute](const In* const* in, Out* const* out, uint32_t lanes) {
                              for (int lane = 0; lane < 32; ++lane) {
                                if (lanes >> lane & 1) *out[lane] = compute(in, lane);
                              }
                            });
}

template <class T, class Combine>
T reduce_lanes(unsigned mask, const char* name, Place place, T value, Combine combine) {
  return all_lanes<T>(mask, name, place, value, [combine](const T* const* in, int) {
    const T* total = nullptr;
    T sum{};
    for (int lane = 0; lane < 32; ++lane) {
      if (!in[lane]) continue;
      sum = total ? combine(sum, *in[lane]) : *in[lane];
      total = in[lane];
    }
    return sum;
  });
}

}  // namespace emulator

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32, emulator::Place p = emulator::Place::here()) {
  return emulator::shuffle(mask, "__shfl_sync", p, value, lane,
                           [width](int me, int from) { return (me & ~(width - 1)) + (from & (width - 1)); });
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 emulator::Place p = emulator::Place::here()) {
  return emulator::shuffle(mask, "__shfl_up_sync", p, value, static_cast<int>(delta),
                           [width](int me, int by) { return me - by < (me & ~(width - 1)) ? me : me - by; });
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   emulator::Place p = emulator::Place::here()) {
  return emulator::shuffle(mask, "__shfl_down_sync", p, value, static_cast<int>(delta),
                           [width](int me, int by) { return me + by > (me | (width - 1)) ? me : me + by; });
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32,
                  emulator::Place p = emulator::Place::here()) {
  return emulator::shuffle(mask, "__shfl_xor_sync", p, value, lanes, [width](int me, int with) {
    return (me ^ with) > (me | (width - 1)) ? me : me ^ with;
  });
}

inline unsigned __activemask() {
  return emulator::live_lanes();
}
inline unsigned __ballot_sync(unsigned mask, int predicate, emulator::Place p = emulator::Place::here()) {
  return emulator::all_lanes<unsigned>(mask, "__ballot_sync", p, predicate, [](const int* const* in, int) {
    unsigned votes = 0;
    for (int i = 0; i < 32; ++i) votes |= (in[i] && *in[i]) ? 1u << i : 0u;
    return votes;
  });
}
inline int __any_sync(unsigned mask, int predicate, emulator::Place p = emulator::Place::here()) {
  return emulator::reduce_lanes(mask, "__any_sync", p, int{predicate != 0},
                                [](int a, int b) { return a | b; });
}
inline int __all_sync(unsigned mask, int predicate, emulator::Place p = emulator::Place::here()) {
  return emulator::reduce_lanes(mask, "__all_sync", p, int{predicate != 0},
                                [](int a, int b) { return a & b; });
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, emulator::Place p = emulator::Place::here()) {
  return emulator::all_lanes<unsigned>(mask, "__match_any_sync", p, value, [](const T* const* in, int lane) {
    unsigned same = 0;
    for (int i = 0; i < 32; ++i) same |= (in[i] && *in[i] == *in[lane]) ? 1u << i : 0u;
    return same;
  });
}
#define EMULATOR_REDUCE(name, T, expression)                                                        \
  inline T name(unsigned mask, T value, emulator::Place p = emulator::Place::here()) {              \
    return emulator::reduce_lanes(mask, #name, p, value, [](T a, T b) -> T { return expression; }); \
  }
EMULATOR_REDUCE(__reduce_add_sync, unsigned, a + b)
EMULATOR_REDUCE(__reduce_add_sync, int, static_cast<int>(static_cast<unsigned>(a) + static_cast<unsigned>(b)))
EMULATOR_REDUCE(__reduce_min_sync, unsigned, a < b ? a : b)
EMULATOR_REDUCE(__reduce_min_sync, int, a < b ? a : b)
EMULATOR_REDUCE(__reduce_max_sync, unsigned, a > b ? a : b)
EMULATOR_REDUCE(__reduce_max_sync, int, a > b ? a : b)
EMULATOR_REDUCE(__reduce_and_sync, unsigned, a& b)
EMULATOR_REDUCE(__reduce_or_sync, unsigned, a | b)
EMULATOR_REDUCE(__reduce_xor_sync, unsigned, a ^ b)
#undef EMULATOR_REDUCE

// ---- Atomics.
namespace emulator {

template <class T, class Update>
T atomic(T* at, Update update) {
  T old;
  atomic_read(at, sizeof(T), &old);
  const T value = update(old);
  atomic_write(at, sizeof(T), &value);
  return old;
}

}  // namespace emulator

#define EMULATOR_ATOMIC(name, T, expression)                             \
  inline T name(T* at, T v) {                                            \
    return emulator::atomic(at, [v](T old) -> T { return expression; }); \
  }
#define EMULATOR_INTEGER_ATOMICS(T)                                                        \
  EMULATOR_ATOMIC(atomicAdd, T, old + v)                                                   \
  EMULATOR_ATOMIC(atomicMax, T, old < v ? v : old)                                         \
  EMULATOR_ATOMIC(atomicMin, T, v < old ? v : old)                                         \
  EMULATOR_ATOMIC(atomicAnd, T, old& v)                                                    \
  EMULATOR_ATOMIC(atomicOr, T, old | v)                                                    \
  EMULATOR_ATOMIC(atomicExch, T, (void(old), v))                                           \
  inline T atomicCAS(T* at, T compare, T v) {                                              \
    return emulator::atomic(at, [compare, v](T old) { return old == compare ? v : old; }); \
  }
EMULATOR_INTEGER_ATOMICS(int)
EMULATOR_INTEGER_ATOMICS(unsigned)
EMULATOR_INTEGER_ATOMICS(unsigned long long)
EMULATOR_ATOMIC(atomicAdd, float, old + v)
EMULATOR_ATOMIC(atomicAdd, double, old + v)
EMULATOR_ATOMIC(atomicExch, float, (void(old), v))
#undef EMULATOR_INTEGER_ATOMICS
#undef EMULATOR_ATOMIC

// ---- Memory and bits.
template <class T>
T __ldg(const T* at) {
  return *at;
}
namespace emulator {
template <class To, class From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "as many bits");
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}
}  // namespace emulator
inline int __float_as_int(float v) {
  return emulator::same_bits<int>(v);
}
inline unsigned __float_as_uint(float v) {
  return emulator::same_bits<unsigned>(v);
}
inline float __int_as_float(int v) {
  return emulator::same_bits<float>(v);
}
inline float __uint_as_float(unsigned v) {
  return emulator::same_bits<float>(v);
}
inline int __popc(unsigned v) {
  return __builtin_popcount(v);
}
inline int __ffs(int v) {
  return __builtin_ffs(v);
}
inline int __clz(int v) {
  return v ? __builtin_clz(static_cast<unsigned>(v)) : 32;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t{a} * b >> 32);
}

// ---- Arithmetic. Hardware's approximations (__expf, ...) are exact to the last place here, not bit-equal.
using std::max;
using std::min;
inline float __expf(float v) {
  return expf(v);
}
inline float __logf(float v) {
  return logf(v);
}
inline float __powf(float a, float b) {
  return powf(a, b);
}
inline float __fdividef(float a, float b) {
  return a / b;
}
inline float __frcp_rn(float v) {
  return 1.0f / v;
}
inline float __fsqrt_rn(float v) {
  return sqrtf(v);
}
inline float rsqrtf(float v) {
  return 1.0f / sqrtf(v);
}
inline float __fmaf_rn(float a, float b, float c) {
  return fmaf(a, b, c);
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __saturatef(float v) {
  return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f;  // NaN gives 0, as on hardware
}
inline int __float2int_rn(float v) {
  return static_cast<int>(nearbyintf(v));
}
