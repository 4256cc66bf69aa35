// Elementwise sum: y = a + b, then ReLU if asked for. Any shape, contiguous; f32, on CUDA bf16 or f16 too
// (all operands the same); y may be a or b.
// Its gradient is dy for both operands, so there is nothing to compute backward.
#pragma once
#include "convoy/tensor.h"

namespace convoy {

struct AddArgs {
  In a, b;
  Out y;
  bool relu = false;
};

}  // namespace convoy
