// Local response normalisation across channels (Krizhevsky, Sutskever, Hinton 2012), with PyTorch's
// convention:
//
//   y[c] = x[c] / (k + alpha / size · sum over c' in [c - size/2, c + (size-1)/2] of x[c']²) ^ beta
//
// where channels outside [0, C) count as zero. backward recomputes what it needs from x.
// x, y, dy, dx [N,H,W,C], contiguous; f32, on CUDA bf16 or f16 too. No aliasing.
#pragma once
#include "convoy/tensor.h"

namespace convoy {

struct LrnWindow {
  int64_t window = 5;  // `size` above
  float alpha = 1e-4f, beta = 0.75f, k = 1.0f;
};

struct LrnForward {
  LrnWindow lrn;
  In x;
  Out y;
};
struct LrnBackward {
  LrnWindow lrn;
  In x, dy;
  Out dx;
};

}  // namespace convoy
