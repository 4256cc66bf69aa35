// Multiply-adds in registers: what a core can do at most.
#include "kernels/simd.h"

namespace convoy::CONVOY_CPU {

// Does 2 · kLanes · 10 · rounds floating-point operations; returns their count.
double multiply_add(int64_t rounds, float* memory) {
  Vec a0 = load(memory), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0, a8 = a0, a9 = a0;
  const Vec x = load(memory + kLanes);
  for (int64_t i = 0; i < rounds; ++i) {
    a0 += a0 * x, a1 += a1 * x, a2 += a2 * x, a3 += a3 * x, a4 += a4 * x;
    a5 += a5 * x, a6 += a6 * x, a7 += a7 * x, a8 += a8 * x, a9 += a9 * x;
#if defined(__x86_64__)
    // Ten chains, not one sum computed once.
    asm(""
        : "+x"(a0), "+x"(a1), "+x"(a2), "+x"(a3), "+x"(a4), "+x"(a5), "+x"(a6), "+x"(a7), "+x"(a8), "+x"(a9));
#endif
  }
  store(memory, a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8 + a9);
  return 2.0 * kLanes * 10 * static_cast<double>(rounds);
}

}  // namespace convoy::CONVOY_CPU
