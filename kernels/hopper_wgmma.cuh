// The wgmma part of hopper.cuh, which includes it.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <type_traits>

#include "kernels/hopper.cuh"

namespace convoy {

// ---- Products of a warpgroup, four warps from a multiple of 4 on ("wgmma.mma_async"); all their threads call these.

// "Matrix descriptor": an operand in shared memory whose contiguous elements run along k (K-major) or along m or n
// (MN-major), with the box's swizzle. In bytes, of the whole operand of 16 k by m or n:
//   K-major, swizzled     stride: from 8 rows to the next 8 (8 x swizzle where they follow each other); leading: any.
//                         The next 16 of k in a swizzled row: start + 32 bytes.
//   K-major, kNone        chunks of 8 x 8, 128 bytes each; stride: to the next 8 rows, leading: to the next 8 of k
//   MN-major, swizzled    rows of k, each of swizzle / 2 elements of m or n; stride: to the next 8 of k, leading: to
//                         the next swizzle / 2 of m or n
//   MN-major, kNone       chunks of 8 x 8; stride: to the next 8 of m or n, leading: to the next 8 of k
// The start, leaving out the steps of 32 bytes, lies where the swizzle's pattern begins (8 x swizzle bytes).
enum class Swizzle : uint32_t { kNone = 0, k128 = 1, k64 = 2, k32 = 3 };
CONVOY_DEVICE uint64_t wgmma_matrix(const void* start, uint32_t leading, uint32_t stride, Swizzle swizzle) {
#if defined(CONVOY_EMULATED)
  const uint32_t address = emulator::shared_address_of(start, emulator::code_here());
#else
  const uint32_t address = shared_address(start);
#endif
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>((leading & 0x3ffff) >> 4) << 16 |
         static_cast<uint64_t>((stride & 0x3ffff) >> 4) << 32 | static_cast<uint64_t>(swizzle) << 62;
}
// "wgmma.fence": before the first wgmma, and before a wgmma on registers that the threads have used since.
CONVOY_DEVICE void wgmma_fence() {
#if defined(CONVOY_EMULATED)
  emulator::wgmma_fence();
#else
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
// "wgmma.commit_group": the wgmma since the last one become a group.
CONVOY_DEVICE void wgmma_commit() {
#if defined(CONVOY_EMULATED)
  emulator::wgmma_commit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
// "wgmma.wait_group": all groups but the latest kLeft are complete: their operands in shared memory may be written,
// their registers used.
template <int kLeft>
CONVOY_DEVICE void wgmma_wait() {
#if defined(CONVOY_EMULATED)
  emulator::wgmma_wait(kLeft, emulator::code_here());
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLeft) : "memory");
#endif
}
// No code of these registers moves across this point: between wgmma_wait and their first use.
template <int kCount>
CONVOY_DEVICE void wgmma_hold(float (&d)[kCount]) {
#if !defined(CONVOY_EMULATED)
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
#else
  static_cast<void>(d);
#endif
}

enum class Major { kK = 0, kMN = 1 };

#if !defined(CONVOY_EMULATED)
// The instruction for one n: registers d[0..n/2), then the operands from number n/2 on. `keep` is its scale-d.
#define CONVOY_T0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define CONVOY_T1 "%8, %9, %10, %11, %12, %13, %14, %15"
#define CONVOY_T2 "%16, %17, %18, %19, %20, %21, %22, %23"
#define CONVOY_T3 "%24, %25, %26, %27, %28, %29, %30, %31"
#define CONVOY_T4 "%32, %33, %34, %35, %36, %37, %38, %39"
#define CONVOY_T5 "%40, %41, %42, %43, %44, %45, %46, %47"
#define CONVOY_T6 "%48, %49, %50, %51, %52, %53, %54, %55"
#define CONVOY_T7 "%56, %57, %58, %59, %60, %61, %62, %63"
#define CONVOY_T8 "%64, %65, %66, %67, %68, %69, %70, %71"
#define CONVOY_T9 "%72, %73, %74, %75, %76, %77, %78, %79"
#define CONVOY_T10 "%80, %81, %82, %83, %84, %85, %86, %87"
#define CONVOY_T11 "%88, %89, %90, %91, %92, %93, %94, %95"
#define CONVOY_T12 "%96, %97, %98, %99, %100, %101, %102, %103"
#define CONVOY_T13 "%104, %105, %106, %107, %108, %109, %110, %111"
#define CONVOY_T14 "%112, %113, %114, %115, %116, %117, %118, %119"
#define CONVOY_T15 "%120, %121, %122, %123, %124, %125, %126, %127"
#define CONVOY_D(i)                                                                           \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define CONVOY_WGMMA(n, type, text, a_text, b_text, keep_text, majors)                                      \
  "{\n.reg .pred p;\nsetp.ne.b32 p, " keep_text ", 0;\nwgmma.mma_async.sync.aligned.m64n" n "k16.f32." type \
  "." type " {" text "}, " a_text ", " b_text ", p, 1, 1, " majors ";\n}"
#define CONVOY_WGMMA_SHARED(n, type, text, a_text, b_text, keep_text, a_major, b_major, ...) \
  asm volatile(CONVOY_WGMMA(n, type, text, a_text, b_text, keep_text, a_major ", " b_major)  \
               : __VA_ARGS__                                                                 \
               : "l"(a_matrix), "l"(b_matrix), "r"(static_cast<int>(keep)), "n"(kA), "n"(kB) \
               : "memory")
#define CONVOY_WGMMA_REGISTERS(n, type, text, a_text, b_text, keep_text, b_major, ...)                   \
  asm volatile(CONVOY_WGMMA(n, type, text, "{" a_text "}", b_text, keep_text, b_major)                   \
               : __VA_ARGS__                                                                             \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b_matrix), "r"(static_cast<int>(keep)), \
                 "n"(kB)                                                                                 \
               : "memory")
// For each n: its text of registers and operands, and the numbers of those that follow.
#define CONVOY_TEXT_16 CONVOY_T0
#define CONVOY_DS_16 CONVOY_D(0)
#define CONVOY_TEXT_32 CONVOY_TEXT_16 ", " CONVOY_T1
#define CONVOY_DS_32 CONVOY_DS_16, CONVOY_D(8)
#define CONVOY_TEXT_64 CONVOY_TEXT_32 ", " CONVOY_T2 ", " CONVOY_T3
#define CONVOY_DS_64 CONVOY_DS_32, CONVOY_D(16), CONVOY_D(24)
#define CONVOY_TEXT_96 CONVOY_TEXT_64 ", " CONVOY_T4 ", " CONVOY_T5
#define CONVOY_DS_96 CONVOY_DS_64, CONVOY_D(32), CONVOY_D(40)
#define CONVOY_TEXT_128 CONVOY_TEXT_96 ", " CONVOY_T6 ", " CONVOY_T7
#define CONVOY_DS_128 CONVOY_DS_96, CONVOY_D(48), CONVOY_D(56)
#define CONVOY_TEXT_160 CONVOY_TEXT_128 ", " CONVOY_T8 ", " CONVOY_T9
#define CONVOY_DS_160 CONVOY_DS_128, CONVOY_D(64), CONVOY_D(72)
#define CONVOY_TEXT_192 CONVOY_TEXT_160 ", " CONVOY_T10 ", " CONVOY_T11
#define CONVOY_DS_192 CONVOY_DS_160, CONVOY_D(80), CONVOY_D(88)
#define CONVOY_TEXT_224 CONVOY_TEXT_192 ", " CONVOY_T12 ", " CONVOY_T13
#define CONVOY_DS_224 CONVOY_DS_192, CONVOY_D(96), CONVOY_D(104)
#define CONVOY_TEXT_256 CONVOY_TEXT_224 ", " CONVOY_T14 ", " CONVOY_T15
#define CONVOY_DS_256 CONVOY_DS_224, CONVOY_D(112), CONVOY_D(120)
#define CONVOY_WGMMA_SHARED_ALL(type)                                                                     \
  if constexpr (kN == 16)                                                                                 \
    CONVOY_WGMMA_SHARED("16", type, CONVOY_TEXT_16, "%8", "%9", "%10", "%11", "%12", CONVOY_DS_16);       \
  else if constexpr (kN == 32)                                                                            \
    CONVOY_WGMMA_SHARED("32", type, CONVOY_TEXT_32, "%16", "%17", "%18", "%19", "%20", CONVOY_DS_32);     \
  else if constexpr (kN == 64)                                                                            \
    CONVOY_WGMMA_SHARED("64", type, CONVOY_TEXT_64, "%32", "%33", "%34", "%35", "%36", CONVOY_DS_64);     \
  else if constexpr (kN == 96)                                                                            \
    CONVOY_WGMMA_SHARED("96", type, CONVOY_TEXT_96, "%48", "%49", "%50", "%51", "%52", CONVOY_DS_96);     \
  else if constexpr (kN == 128)                                                                           \
    CONVOY_WGMMA_SHARED("128", type, CONVOY_TEXT_128, "%64", "%65", "%66", "%67", "%68", CONVOY_DS_128);  \
  else if constexpr (kN == 160)                                                                           \
    CONVOY_WGMMA_SHARED("160", type, CONVOY_TEXT_160, "%80", "%81", "%82", "%83", "%84", CONVOY_DS_160);  \
  else if constexpr (kN == 192)                                                                           \
    CONVOY_WGMMA_SHARED("192", type, CONVOY_TEXT_192, "%96", "%97", "%98", "%99", "%100", CONVOY_DS_192); \
  else if constexpr (kN == 224)                                                                           \
    CONVOY_WGMMA_SHARED("224", type, CONVOY_TEXT_224, "%112", "%113", "%114", "%115", "%116",             \
                        CONVOY_DS_224);                                                                   \
  else if constexpr (kN == 256)                                                                           \
    CONVOY_WGMMA_SHARED("256", type, CONVOY_TEXT_256, "%128", "%129", "%130", "%131", "%132", CONVOY_DS_256);
#define CONVOY_WGMMA_REGISTERS_ALL(type)                                                                   \
  if constexpr (kN == 16)                                                                                  \
    CONVOY_WGMMA_REGISTERS("16", type, CONVOY_TEXT_16, "%8, %9, %10, %11", "%12", "%13", "%14",            \
                           CONVOY_DS_16);                                                                  \
  else if constexpr (kN == 32)                                                                             \
    CONVOY_WGMMA_REGISTERS("32", type, CONVOY_TEXT_32, "%16, %17, %18, %19", "%20", "%21", "%22",          \
                           CONVOY_DS_32);                                                                  \
  else if constexpr (kN == 64)                                                                             \
    CONVOY_WGMMA_REGISTERS("64", type, CONVOY_TEXT_64, "%32, %33, %34, %35", "%36", "%37", "%38",          \
                           CONVOY_DS_64);                                                                  \
  else if constexpr (kN == 96)                                                                             \
    CONVOY_WGMMA_REGISTERS("96", type, CONVOY_TEXT_96, "%48, %49, %50, %51", "%52", "%53", "%54",          \
                           CONVOY_DS_96);                                                                  \
  else if constexpr (kN == 128)                                                                            \
    CONVOY_WGMMA_REGISTERS("128", type, CONVOY_TEXT_128, "%64, %65, %66, %67", "%68", "%69", "%70",        \
                           CONVOY_DS_128);                                                                 \
  else if constexpr (kN == 160)                                                                            \
    CONVOY_WGMMA_REGISTERS("160", type, CONVOY_TEXT_160, "%80, %81, %82, %83", "%84", "%85", "%86",        \
                           CONVOY_DS_160);                                                                 \
  else if constexpr (kN == 192)                                                                            \
    CONVOY_WGMMA_REGISTERS("192", type, CONVOY_TEXT_192, "%96, %97, %98, %99", "%100", "%101", "%102",     \
                           CONVOY_DS_192);                                                                 \
  else if constexpr (kN == 224)                                                                            \
    CONVOY_WGMMA_REGISTERS("224", type, CONVOY_TEXT_224, "%112, %113, %114, %115", "%116", "%117", "%118", \
                           CONVOY_DS_224);                                                                 \
  else if constexpr (kN == 256)                                                                            \
    CONVOY_WGMMA_REGISTERS("256", type, CONVOY_TEXT_256, "%128, %129, %130, %131", "%132", "%133", "%134", \
                           CONVOY_DS_256);
#endif

// kN of wgmma: what the functions below hold.
template <int kN>
constexpr bool kWgmmaHas = kN == 16 || (kN >= 32 && kN <= 256 && kN % 32 == 0);

// "wgmma.mma_async": d = a · b with a 64 x 16 and b 16 x kN, added to d where keep. T: __nv_bfloat16 or __half. Thread
// t holds in d[4j + 2h + e] row 16(t / 32) + t % 32 / 4 + 8h, column 8j + 2(t % 4) + e. Operands by wgmma_matrix.
template <int kN, class T, Major kMajorA, Major kMajorB>
CONVOY_DEVICE void wgmma(float (&d)[kN / 2], uint64_t a_matrix, uint64_t b_matrix, bool keep) {
  static_assert(kWgmmaHas<kN>, "n is 16 or a multiple of 32, to 256");
  constexpr bool kBF16 = std::is_same<T, __nv_bfloat16>::value;
  static_assert(kBF16 || std::is_same<T, __half>::value, "bf16 and f16");
#if defined(CONVOY_EMULATED)
  twin::wgmma<kN>(d, a_matrix, nullptr, b_matrix, kBF16, kMajorA == Major::kMN, kMajorB == Major::kMN, keep,
                  emulator::code_here());
#else
  constexpr int kA = static_cast<int>(kMajorA), kB = static_cast<int>(kMajorB);
  if constexpr (kBF16) {
    CONVOY_WGMMA_SHARED_ALL("bf16")
  } else {
    CONVOY_WGMMA_SHARED_ALL("f16")
  }
#endif
}

// The same with a in registers, two elements each: thread t holds in a[2q + h] row 16(t / 32) + t % 32 / 4 + 8h,
// columns 2(t % 4) + 8q and the next. They may not be written before wgmma_wait.
template <int kN, class T, Major kMajorB>
CONVOY_DEVICE void wgmma(float (&d)[kN / 2], const uint32_t (&a)[4], uint64_t b_matrix, bool keep) {
  static_assert(kWgmmaHas<kN>, "n is 16 or a multiple of 32, to 256");
  constexpr bool kBF16 = std::is_same<T, __nv_bfloat16>::value;
  static_assert(kBF16 || std::is_same<T, __half>::value, "bf16 and f16");
#if defined(CONVOY_EMULATED)
  twin::wgmma<kN>(d, 0, a, b_matrix, kBF16, false, kMajorB == Major::kMN, keep, emulator::code_here());
#else
  constexpr int kB = static_cast<int>(kMajorB);
  if constexpr (kBF16) {
    CONVOY_WGMMA_REGISTERS_ALL("bf16")
  } else {
    CONVOY_WGMMA_REGISTERS_ALL("f16")
  }
#endif
}

#if !defined(CONVOY_EMULATED)
#undef CONVOY_T0
#undef CONVOY_T1
#undef CONVOY_T2
#undef CONVOY_T3
#undef CONVOY_T4
#undef CONVOY_T5
#undef CONVOY_T6
#undef CONVOY_T7
#undef CONVOY_T8
#undef CONVOY_T9
#undef CONVOY_T10
#undef CONVOY_T11
#undef CONVOY_T12
#undef CONVOY_T13
#undef CONVOY_T14
#undef CONVOY_T15
#undef CONVOY_TEXT_16
#undef CONVOY_DS_16
#undef CONVOY_TEXT_32
#undef CONVOY_DS_32
#undef CONVOY_TEXT_64
#undef CONVOY_DS_64
#undef CONVOY_TEXT_96
#undef CONVOY_DS_96
#undef CONVOY_TEXT_128
#undef CONVOY_DS_128
#undef CONVOY_TEXT_160
#undef CONVOY_DS_160
#undef CONVOY_TEXT_192
#undef CONVOY_DS_192
#undef CONVOY_TEXT_224
#undef CONVOY_DS_224
#undef CONVOY_TEXT_256
#undef CONVOY_DS_256
#undef CONVOY_D
#undef CONVOY_WGMMA
#undef CONVOY_WGMMA_SHARED
#undef CONVOY_WGMMA_REGISTERS
#undef CONVOY_WGMMA_SHARED_ALL
#undef CONVOY_WGMMA_REGISTERS_ALL
#endif

}  // namespace convoy
