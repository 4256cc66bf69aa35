// The CPU's memory: on huge pages where the arena is large. With pages of 4 KiB a walk through the weights of
// a large fully connected layer spends its time in the page tables.
#include <cstdlib>

#include "convoy/check.h"

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace convoy {

void* cpu_alloc(int64_t bytes) {
  constexpr int64_t kLine = 64, kHugePage = 2 << 20;
  // One vector more than asked for: kernels may read, never use, up to 63 bytes past the end.
  const int64_t wanted = bytes + kLine;
  const int64_t alignment = wanted >= 2 * kHugePage ? kHugePage : kLine;
  const auto rounded = static_cast<size_t>((wanted + alignment - 1) / alignment * alignment);
  void* memory = std::aligned_alloc(static_cast<size_t>(alignment), rounded);
  CONVOY_CHECK(memory != nullptr, "no memory for ", bytes, " bytes");
#ifdef __linux__
  if (alignment == kHugePage) madvise(memory, rounded, MADV_HUGEPAGE);  // a wish: a refusal costs speed only
#endif
  return memory;
}

void cpu_release(void* memory) {
  std::free(memory);
}

}  // namespace convoy
