// Dropout: y = x · m / (1 - p), where m is 1 with probability 1 - p, else 0. backward: dx = dy · m / (1 - p).
//
// The mask is never stored: m for unit u of row n (of this view) comes from
//   v = philox(seed, u / 4, first_row + n, step, kDropoutStream + layer).v[u % 4]:  m = 1 where uniform_float(v) >= p.
// x[N, ...] of any shape, f32, contiguous; a unit is an index into a row. y may be x, dx may be dy.
// `first_unit` is the place of this view's first unit in the whole row (0 unless the layer is split).
#pragma once
#include "convoy/backend.h"

namespace convoy {

struct DropoutKey {
  const StepScalars* scalars = nullptr;
  uint64_t seed = 0;
  uint32_t layer = 0;
  int64_t first_unit = 0;
  float p = 0;  // in [0, 1)
};

struct DropoutForward {
  DropoutKey key;
  In x;
  Out y;
};
struct DropoutBackward {
  DropoutKey key;
  In dy;
  Out dx;
};

}  // namespace convoy
