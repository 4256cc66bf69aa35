// fill: y = value. scale: y *= factor. count_nonfinite: out[0] (i32) = how many elements of x are NaN or infinite. Any shape,
// f32, contiguous.
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
