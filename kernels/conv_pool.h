// The 2x2 max pool that forward convolution applies to rows that are still in cache (pool.cpp).
#pragma once
#include <cstdint>

namespace convoy::CONVOY_CPU {

// x[2·rows, 2·columns, channels] to y and index [rows, columns, channels], ordered as kernels/pool.h says.
void pool_2x2(const float* x, int64_t rows, int64_t columns, int64_t channels, float* y, uint8_t* index);

}  // namespace convoy::CONVOY_CPU
