// Columns of a matrix on their way between the workers that own them.
//
//   gather   y[i, first_r + j] = block r [i, j], where first_r is the sum of the widths before r
//   scatter  block r [i, j] = x[i, first_r + j]
//   slice    y[i, j] = x[i, first + j]
//   embed    x[i, first + j] = y[i, j], all other columns 0
//
// A matrix is [rows, columns]; images [N,H,W,C] are read as [N·H·W, C]. `blocks` is what an all-gather
// leaves, of any shape: block 0, block 1, ... one behind the other, block r being [rows, widths[r]]. f32, on
// CUDA bf16 or f16 too, contiguous; widths may be 0, and live as long as the operation is used. Results are overwritten. No
// aliasing.
#pragma once
#include <vector>

#include "convoy/tensor.h"

namespace convoy {

struct ColumnsGather {
  In blocks;
  Out y;
  const std::vector<int64_t>* widths = nullptr;
};
struct ColumnsScatter {
  In x;
  Out blocks;
  const std::vector<int64_t>* widths = nullptr;
};

struct ColumnsSlice {
  In x;
  Out y;
  int64_t first = 0;
};
struct ColumnsEmbed {
  In y;
  Out x;
  int64_t first = 0;
};

}  // namespace convoy
