// From a network to lists of operations bound to memory: where fusion and the layout of buffers are decided,
// once.
//
// Fused here: conv + bias + ReLU + 2x2 max pool, fc + bias + ReLU, batch norm + residual + ReLU, add + ReLU;
// on the way back the mask of a ReLU goes into the operation that makes its gradient. A buffer shares memory
// with those that are never alive at the same time.
//
// A net whose layers are split (plan.h) is lowered in two halves. The front half ends with the features instead of
// the loss, and begins its way back with their gradient. In the split half every layer's output is this worker's
// columns (channels) of it. A convolution or fully connected layer reads all columns: they are gathered, and on the
// way back each worker's share of their gradient is summed and sent home (reduce-scatter). What works on each
// channel alone stays within its columns.
#pragma once
#include "convoy/train.h"

namespace convoy {

// What operations are bound to besides activations: everything that outlives a step.
struct Bindings {
  const Net* net = nullptr;
  const Plan* plan = nullptr;
  const ModelOptions* options = nullptr;
  Team team;
  const Backend* backend = nullptr;
  int threads = 1;
  std::vector<View> values, gradients;  // one a parameter spec; gradients of buffers are empty
  std::vector<View> low_values;  // the values in the precision of the activations, where that is not f32
  std::vector<ParameterSpec> specs;
  View parameter_arena, low_arena, gradient_arena, state[2];  // of both halves, the front one first
  int64_t front_elements = 0;                                 // of an arena
  View sum_of_squares;  // [2]: of the front half, or of all; of the split half
  View
      skip;  // where the host does not see the losses before the update: i32 [1], no update unless 0; else empty
  const StepScalars* scalars = nullptr;  // [2]: of the front half, of the split half
  View pixels, labels, index, mean, stddev;
  Slot slot;                // of the split half's program
  bool accumulate = false;  // weight gradients: adds to those of the passes before
};

enum class Half : uint8_t { kFront, kSplit };

// A program for `rows` rows here (own ones in front, a pass's in the split half) of a global batch of `global_rows`.
// With activations == nullptr nothing is bound: only the sizes in the result are meaningful.
Program lower(const Bindings& bindings, Half half, int64_t rows, int64_t global_rows, bool training,
              std::byte* activations);

}  // namespace convoy
