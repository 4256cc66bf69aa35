// From a network to lists of operations bound to memory: where fusion and the layout of buffers are decided,
// once.
//
// Fused here: conv + bias + ReLU + 2x2 max pool, fc + bias + ReLU, batch norm + residual + ReLU, add + ReLU;
// on the way back the mask of a ReLU goes into the operation that makes its gradient. A buffer shares memory
// with those that are never alive at the same time.
#pragma once
#include "convoy/train.h"

namespace convoy {

// What operations are bound to besides activations: everything that outlives a step.
struct Bindings {
  const Net* net = nullptr;
  const ModelOptions* options = nullptr;
  const Backend* backend = nullptr;
  int threads = 1;
  std::vector<View> values, gradients;  // one a parameter spec; gradients of buffers are empty
  std::vector<ParameterSpec> specs;
  View parameter_arena, gradient_arena, state[2], sum_of_squares;
  const StepScalars* scalars = nullptr;
  View pixels, labels, index, mean, stddev;
};

// With activations == nullptr nothing is bound: only the sizes in the result are meaningful.
Program lower(const Bindings& bindings, int64_t rows, bool training, std::byte* activations);

}  // namespace convoy
