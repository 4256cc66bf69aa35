// fill: y = value. scale: y *= factor. count_nonfinite: out[0] (i32) = how many elements of x are NaN or infinite, at
// most 2^31 - 1. Any shape, contiguous; f32, on CUDA bf16 or f16 too.
#pragma once
#include "convoy/tensor.h"

namespace convoy {

struct FillArgs {
  float value = 0;
  Out y;
};

struct ScaleArgs {
  float factor = 1;
  Out y;
};

struct CountNonfinite {
  In x;
  Out out;
};

}  // namespace convoy
