// What a CUtensorMap of the emulated driver holds.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulator {

enum class Element : uint8_t { kUnsigned, kSigned, kF16, kBF16, kF32, kF64 };

struct TensorMap {
  uint64_t mark;  // not every CUtensorMap comes from the driver
  char* memory;
  uint64_t strides[4];         // bytes; of dimension 1 and on
  uint32_t last[5];            // dims - 1: they reach 2^32
  uint16_t box[5];             // tiled
  int16_t lower[2], upper[2];  // im2col of rank 4: {W, H}
  uint16_t channels, pixels;
  uint8_t steps[5];
  uint8_t rank, element_bytes, swizzle_bytes;
  Element element;
  bool im2col, nan_fill;

  int64_t extent(int i) const { return int64_t{last[i]} + 1; }
};
static_assert(sizeof(TensorMap) <= 128, "what a CUtensorMap holds");

// The map at that address; null when the driver did not make it.
const TensorMap* tensor_map_at(const void* map);

}  // namespace emulator
