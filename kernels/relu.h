// ReLU, sigmoid and tanh, elementwise on any shape, contiguous; f32, on CUDA bf16 or f16 too (all operands the
// same).
//
//   ReLU     y = max(x, 0), NaN stays      dx = 0 where y <= 0, else dy
//   sigmoid  y = 1 / (1 + exp(-x))         dx = dy · y · (1 - y)
//   tanh     y = tanh(x)                   dx = dy · (1 - y²)
//
// y may be x, and dx may be dy (in place).
#pragma once
#include "convoy/tensor.h"

namespace convoy {

struct ReluForward {
  In x;
  Out y;
};
struct ReluBackward {
  In y, dy;
  Out dx;
};
struct SigmoidForward {
  In x;
  Out y;
};
struct SigmoidBackward {
  In y, dy;
  Out dx;
};
struct TanhForward {
  In x;
  Out y;
};
struct TanhBackward {
  In y, dy;
  Out dx;
};

}  // namespace convoy
