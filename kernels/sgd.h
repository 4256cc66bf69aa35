// Optimizers, one flat loop over a whole arena of weights w, gradient sums g and state; all f32, contiguous,
// equal counts.
//
//   g' = g · gradient_scale · clip
//          clip = min(1, clip_norm / (norm + 1e-6)), norm = gradient_scale · sqrt(sum_of_squares)
//   SGD    g' += weight_decay · w;  v = momentum · v + g';  w -= lr · (nesterov ? g' + momentum · v : v)
//   AdamW  w -= lr · weight_decay · w;  m = b1·m + (1-b1)·g';  v = b2·v + (1-b2)·g'²;
//          w -= lr · (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), t = update + 1
//
// As torch.optim.SGD (dampening 0) and torch.optim.AdamW; v starts as zeros, which gives PyTorch's first
// step. lr, gradient_scale and update are read from scalars. `sum_of_squares` is f32[1] (see SumOfSquares) or
// empty: no clipping.
#pragma once
#include "convoy/backend.h"

namespace convoy {

struct SgdUpdate {
  const StepScalars* scalars = nullptr;
  float momentum = 0, weight_decay = 0;
  bool nesterov = false;
  float clip_norm = 0;
  In sum_of_squares;
  Out w;
  In g;
  Out velocity;  // empty when momentum is 0
  Out low = {};  // CUDA alone: w in bf16 or f16 too, for the operations that read it; or empty
  In skip = {};  // CUDA alone: i32 [1], nothing is updated unless it is 0; or empty
};

struct AdamwUpdate {
  const StepScalars* scalars = nullptr;
  float beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f, weight_decay = 0.01f;
  float clip_norm = 0;
  In sum_of_squares;
  Out w;
  In g;
  Out m, v;
  Out low = {};
  In skip = {};
};

// out[0] = sum of x², added up in double over fixed chunks.
struct SumOfSquares {
  In x;
  Out out;
};

}  // namespace convoy
