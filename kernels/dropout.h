// Dropout: y = x · m / (1 - p), where m is 1 with probability 1 - p, else 0. backward: dx = dy · m / (1 - p).
//
// The mask is never stored: m for unit u of row n of the global batch comes from
//   v = philox(seed, u / 4, n, step, kDropoutStream + layer).v[u % 4]:  m = 1 where uniform_float(v) >= p.
// x[N, ...] of any shape, contiguous, f32, on CUDA bf16 or f16 too; y may be x, dx may be dy. Row i of x is row first_row + i of the
// global batch, or rows[i]. Element e of a row is
//   unit first_unit + e                                                          where columns = 0,
//   unit (e / columns) · unsplit_columns + first_unit + e % columns              of a split layer,
// whose view holds columns [first_unit, first_unit + columns) of every pixel's unsplit_columns channels. So
// the mask does not depend on who holds which rows and columns.
#pragma once
#include "convoy/backend.h"

namespace convoy {

struct DropoutKey {
  const StepScalars* scalars = nullptr;
  uint64_t seed = 0;
  uint32_t layer = 0;
  int64_t first_unit = 0;
  float p = 0;   // in [0, 1)
  In rows = {};  // i32 [N], or empty
  int64_t columns = 0, unsplit_columns = 0;
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
