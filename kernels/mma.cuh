// Every PTX instruction of the portable kernels as a named function, and its functional twin for the
// emulator. Nothing else in kernels/ but hopper.cuh holds inline assembly. Layouts: PTX ISA, "Matrix fragments for
// mma.m16n8k*".
//
// All lanes of a warp call the functions below that end in "matrix" or begin with "mma" or "wmma", together.
//   cp_async<bytes, l1>  global to shared, 4, 8 or 16 bytes, of which source_bytes are read and the rest is
//                        zero; through L1 (what is read again soon) or, 16 bytes, past it (the default); without the instruction (before sm_80) an ordinary copy, done at once
//   ldmatrix             kCount 8x8 matrices of 16-bit elements: lane 8i + r gives the address of row r of
//                        matrix i (16 bytes, aligned); register i of lane l holds row l / 4, columns 2(l % 4)
//                        and the next
//   ldmatrix_transposed  the same of the transposed matrices;  stmatrix (sm_90): ldmatrix backwards
//   mma_*                d += a · b, f32 accumulators; a is row-major, b column-major
//   mma_16x8x16<T>       that of f16 or bf16, in pieces where the architecture has only those
//   wmma_*               the 16x16x16 f16 product of sm_70, whose fragments only these functions understand
#pragma once
#include <cstdint>
#include <type_traits>

#include "kernels/launch.cuh"

#if defined(CONVOY_EMULATED)
#include "kernels/mma_twins.cuh"
#endif

namespace convoy {

#define CONVOY_DEVICE __device__ __forceinline__

// ---- Barriers of some warps of the block: id 1 to 15 (0 is __syncthreads), threads a multiple of 32.
CONVOY_DEVICE void barrier_sync(int id, int threads) {
#if defined(CONVOY_EMULATED)
  twin::barrier_sync(id, threads, emulator::code_here());
#else
  asm volatile("barrier.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}
CONVOY_DEVICE void barrier_arrive(int id, int threads) {
#if defined(CONVOY_EMULATED)
  twin::barrier_arrive(id, threads, emulator::code_here());
#else
  asm volatile("barrier.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

// ---- Asynchronous copies.
template <int kBytes, bool kThroughL1 = kBytes != 16>
CONVOY_DEVICE void cp_async(void* to, const void* from, int source_bytes = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16, "what cp.async copies");
  static_assert(kThroughL1 || kBytes == 16, "only 16 bytes go past L1");
#if defined(CONVOY_EMULATED)
  emulator::async_copy(to, from, kBytes, static_cast<unsigned>(source_bytes), emulator::code_here());
#elif CONVOY_ARCH >= 800
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(to));
  if constexpr (!kThroughL1) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from), "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared), "l"(from), "n"(kBytes),
                 "r"(source_bytes)
                 : "memory");
  }
#else
  for (int i = 0; i < kBytes / 4; ++i) {
    uint32_t word = 0;
    if (4 * i + 4 <= source_bytes) {
      word = static_cast<const uint32_t*>(from)[i];
    } else {
      for (int j = 4 * i; j < source_bytes; ++j) {
        word |= static_cast<uint32_t>(static_cast<const uint8_t*>(from)[j]) << (8 * (j - 4 * i));
      }
    }
    static_cast<uint32_t*>(to)[i] = word;
  }
#endif
}
CONVOY_DEVICE void cp_async_commit() {
#if defined(CONVOY_EMULATED)
  emulator::async_commit();
#elif CONVOY_ARCH >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// All groups of this thread but the latest kLeft have landed. Other threads see them after a barrier.
template <int kLeft>
CONVOY_DEVICE void cp_async_wait() {
#if defined(CONVOY_EMULATED)
  emulator::async_wait(kLeft);
#elif CONVOY_ARCH >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

// ---- Matrices between shared memory and registers.
template <int kCount>
CONVOY_DEVICE void ldmatrix(uint32_t (&r)[kCount], const void* row) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4, "x1, x2, x4");
#if defined(CONVOY_EMULATED)
  twin::ldmatrix<false>(r, row, emulator::code_here());
#else
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kCount == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(shared)
                 : "memory");
  } else if constexpr (kCount == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared)
                 : "memory");
  }
#endif
}
template <int kCount>
CONVOY_DEVICE void ldmatrix_transposed(uint32_t (&r)[kCount], const void* row) {
  static_assert(kCount == 1 || kCount == 2 || kCount == 4, "x1, x2, x4");
#if defined(CONVOY_EMULATED)
  twin::ldmatrix<true>(r, row, emulator::code_here());
#else
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kCount == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];"
                 : "=r"(r[0])
                 : "r"(shared)
                 : "memory");
  } else if constexpr (kCount == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(shared)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared)
                 : "memory");
  }
#endif
}
#if defined(CONVOY_EMULATED) || CONVOY_ARCH == 0 || CONVOY_ARCH >= 900
CONVOY_DEVICE void stmatrix(void* row, const uint32_t (&r)[4]) {
#if defined(CONVOY_EMULATED)
  twin::stmatrix<false>(row, r, emulator::code_here());
#else
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#endif
}
CONVOY_DEVICE void stmatrix_transposed(void* row, const uint32_t (&r)[4]) {
#if defined(CONVOY_EMULATED)
  twin::stmatrix<true>(row, r, emulator::code_here());
#else
  const auto shared = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
#endif
}
#endif

// ---- Products.
#define CONVOY_ACCUMULATORS "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])

CONVOY_DEVICE void mma_m16n8k8_f16(float (&d)[4], const uint32_t (&a)[2], const uint32_t (&b)[1]) {  // sm_75
#if defined(CONVOY_EMULATED)
  twin::mma<8, twin::F16>("mma_m16n8k8_f16", d, a, b, emulator::code_here());
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
      : CONVOY_ACCUMULATORS
      : "r"(a[0]), "r"(a[1]), "r"(b[0]));
#endif
}

#if defined(CONVOY_EMULATED) || CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
CONVOY_DEVICE void mma_m16n8k16_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(CONVOY_EMULATED)
  twin::mma<16, twin::F16>("mma_m16n8k16_f16", d, a, b, emulator::code_here());
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : CONVOY_ACCUMULATORS
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
CONVOY_DEVICE void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(CONVOY_EMULATED)
  twin::mma<16, twin::BF16>("mma_m16n8k16_bf16", d, a, b, emulator::code_here());
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : CONVOY_ACCUMULATORS
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
// The operands are bits of floats, of which the low 13 are ignored: round them with to_tf32 first.
CONVOY_DEVICE void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(CONVOY_EMULATED)
  twin::mma<8, twin::TF32>("mma_m16n8k8_tf32", d, a, b, emulator::code_here());
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : CONVOY_ACCUMULATORS
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
CONVOY_DEVICE uint32_t to_tf32(float v) {  // to nearest, ties away from zero
#if defined(CONVOY_EMULATED)
  return twin::to_tf32(v);
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(v));
  return bits;
#endif
}
#endif
#undef CONVOY_ACCUMULATORS

// Whether this pass compiles code that needs mma_16x8x16 of T, and asynchronous copies or not.
template <class T, bool kAsync>
constexpr bool kHasProducts = CONVOY_ARCH == 0 || CONVOY_ARCH >= 800 ||
                              (!kAsync && std::is_same_v<T, __half> && CONVOY_ARCH >= 750);

// The 16x8x16 product of T, f16 or bf16, from whatever pieces the architecture has.
template <class T>
CONVOY_DEVICE void mma_16x8x16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  constexpr bool kHalf = std::is_same_v<T, __half>;
#if defined(CONVOY_EMULATED)
  const bool pieces = kHalf && emulator::options().architecture < 80;
#else
  constexpr bool pieces = kHalf && CONVOY_ARCH < 800;
#endif
  if (pieces) {
    const uint32_t a0[2] = {a[0], a[1]}, a1[2] = {a[2], a[3]}, b0[1] = {b[0]}, b1[1] = {b[1]};
    mma_m16n8k8_f16(d, a0, b0);
    mma_m16n8k8_f16(d, a1, b1);
    return;
  }
#if defined(CONVOY_EMULATED) || CONVOY_ARCH == 0 || CONVOY_ARCH >= 800
  if constexpr (kHalf) {
    mma_m16n8k16_f16(d, a, b);
  } else {
    mma_m16n8k16_bf16(d, a, b);
  }
#endif
}

// ---- The f16 product of sm_70. `leading`: elements between rows (kRow) or columns (kColumn), a multiple of
// 8; the addresses are 32-byte aligned. a is row-major, b column-major, as mma_* have them, and so is the
// result.
#define CONVOY_OUT8(r) \
  "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]), "=r"(r[4]), "=r"(r[5]), "=r"(r[6]), "=r"(r[7])
#define CONVOY_IN8(c, r) c(r[0]), c(r[1]), c(r[2]), c(r[3]), c(r[4]), c(r[5]), c(r[6]), c(r[7])

CONVOY_DEVICE void wmma_load_a(uint32_t (&a)[8], const __half* from, int leading) {
#if defined(CONVOY_EMULATED)
  twin::wmma_load(a, from, leading, emulator::code_here());
#else
  asm volatile("wmma.load.a.sync.aligned.m16n16k16.row.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, [%8], %9;"
               : CONVOY_OUT8(a)
               : "l"(from), "r"(leading)
               : "memory");
#endif
}
CONVOY_DEVICE void wmma_load_b(uint32_t (&b)[8], const __half* from, int leading) {
#if defined(CONVOY_EMULATED)
  twin::wmma_load(b, from, leading, emulator::code_here());
#else
  asm volatile("wmma.load.b.sync.aligned.m16n16k16.col.f16 {%0, %1, %2, %3, %4, %5, %6, %7}, [%8], %9;"
               : CONVOY_OUT8(b)
               : "l"(from), "r"(leading)
               : "memory");
#endif
}
CONVOY_DEVICE void wmma_mma(float (&d)[8], const uint32_t (&a)[8], const uint32_t (&b)[8]) {
#if defined(CONVOY_EMULATED)
  twin::wmma_mma(d, a, b, emulator::code_here());
#else
  asm volatile(
      "wmma.mma.sync.aligned.row.col.m16n16k16.f32.f32 {%0, %1, %2, %3, %4, %5, %6, %7}, "
      "{%8, %9, %10, %11, %12, %13, %14, %15}, {%16, %17, %18, %19, %20, %21, %22, %23}, "
      "{%0, %1, %2, %3, %4, %5, %6, %7};"
      : CONVOY_IN8("+f", d)
      : CONVOY_IN8("r", a), CONVOY_IN8("r", b));
#endif
}
CONVOY_DEVICE void wmma_store(float* to, const float (&d)[8], int leading) {
#if defined(CONVOY_EMULATED)
  twin::wmma_store(to, d, leading, emulator::code_here());
#else
  asm volatile(
      "wmma.store.d.sync.aligned.row.m16n16k16.f32 [%0], {%1, %2, %3, %4, %5, %6, %7, %8}, %9;" ::"l"(to),
      CONVOY_IN8("f", d), "r"(leading)
      : "memory");
#endif
}
#undef CONVOY_OUT8
#undef CONVOY_IN8

}  // namespace convoy
