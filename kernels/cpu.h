// The CPU kernels are compiled once per instruction set, each time into a namespace of its own:
//   CONVOY_CPU           cpu_plain, cpu_avx2 or cpu_avx512   (both set by CMake)
//   CONVOY_VECTOR_BYTES  16, 32 or 64
// and fill one Backend table each (cpu.cpp). The program picks a table at run time.
#pragma once
#include "convoy/backend.h"

namespace convoy {

// Memory of every CPU table (src/memory_cpu.cpp).
void* cpu_alloc(int64_t bytes);
void cpu_release(void* memory);

}  // namespace convoy

namespace convoy::CONVOY_CPU {

#define CONVOY_DECLARE(name, Args) void name(Exec&, const Args&);
CONVOY_OPERATIONS(CONVOY_DECLARE)
#undef CONVOY_DECLARE

// An operation that needs scratch memory, or does not take every problem, overloads this.
template <class Args>
Support query(const Args&, int /*threads*/) {
  return {};
}
Support query(const ConvForward&, int threads);
Support query(const ConvBackwardData&, int threads);
Support query(const ConvBackwardWeights&, int threads);
Support query(const FcForward&, int threads);
Support query(const FcBackwardData&, int threads);
Support query(const FcBackwardWeights&, int threads);
Support query(const BatchNormStatistics&, int threads);
Support query(const BatchNormBackwardSums&, int threads);
Support query(const SumOfSquares&, int threads);

extern const Backend kTable;

}  // namespace convoy::CONVOY_CPU
