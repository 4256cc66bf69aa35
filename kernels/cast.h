// cast: y = x in another floating-point type, rounded to nearest, ties to even; NaN stays. The same shape, contiguous; x and
// y f32, bf16 or f16. On the CPU, whose operations are all in f32, f32 alone: a copy.
#pragma once
#include "convoy/tensor.h"

namespace convoy {

struct CastArgs {
  In x;
  Out y;
};

}  // namespace convoy
