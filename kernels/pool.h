// Max and average pooling, channels last; windows may overlap, pads count as absent.
//
//   max      y = the maximum of the window, index = its place r·S + s in the window; NaN wins over numbers, the
//            first in window order (rows, then columns) wins a tie. Pad < window extent, so no window is empty.
//            backward: dx = sum of the dy of the windows whose maximum it was, 0 elsewhere; with a mask (y as
//            the forward pass left it, after a ReLU) the windows with y <= 0 send nothing.
//   average  y = sum of the window / (R·S), pads counted as zeros (PyTorch's count_include_pad=True).
//            Global average pooling is R = H, S = W.
//
// x[N,H,W,C], y[N,P,Q,C] with P = floor((H + 2·pad_h - R) / stride_h) + 1; f32, on CUDA bf16 or f16 too (all the
// same). index is u8, so R·S <= 256 for max.
#pragma once
#include "convoy/tensor.h"

namespace convoy {

struct PoolShape {
  int64_t N = 0, H = 0, W = 0, C = 0;
  int64_t R = 0, S = 0, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;

  int64_t P() const { return (H + 2 * pad_h - R) / stride_h + 1; }
  int64_t Q() const { return (W + 2 * pad_w - S) / stride_w + 1; }
  Shape x() const { return {N, H, W, C}; }
  Shape y() const { return {N, P(), Q(), C}; }
};

struct MaxPoolForward {
  PoolShape shape;
  In x;
  Out y, index;  // index may be empty (evaluation)
};

struct MaxPoolBackward {
  PoolShape shape;
  In index, dy;
  In mask;  // y of the forward pass, or empty
  Out dx;
};

struct AveragePoolForward {
  PoolShape shape;
  In x;
  Out y;
};

struct AveragePoolBackward {
  PoolShape shape;
  In dy;
  Out dx;
};

}  // namespace convoy
