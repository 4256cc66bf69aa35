// Space to depth: a strided convolution of images with few channels (those of AlexNet) as one of stride 1, whose pixels
// are the stride_h x stride_w pixels that a window moves over, side by side: 3 channels at stride 4 are 48, of which
// the tensor cores' kernels read whole pieces. A window of R x S taps lies in ceil(R / stride_h) x ceil(S / stride_w)
// of the new pixels, with zeros for the taps that it does not have. On Hopper, for bf16 and f16.
#pragma once
#include "convoy/backend.h"
#include "kernels/conv.h"

namespace convoy::cuda {

// No padding: the folded image holds its zeros.
inline ConvShape folded(const ConvShape& s) {
  ConvShape f;
  f.N = s.N;
  f.C = (s.stride_h * s.stride_w * s.C + 7) / 8 * 8;
  f.K = s.K;
  f.R = (s.R + s.stride_h - 1) / s.stride_h;
  f.S = (s.S + s.stride_w - 1) / s.stride_w;
  f.H = s.P() + f.R - 1;
  f.W = s.Q() + f.S - 1;
  return f;
}

// Where it pays: the channels fill 5/8 of the 64 that Hopper's kernels take at a time, and zeros are at most half of
// the depth.
inline bool folds(const ConvShape& s) {
  if (s.N == 0 || s.K == 0 || s.C >= 8 || s.stride_h < 2 || s.stride_w < 2 ||
      s.stride_h * s.stride_w * s.C > 64)
    return false;
  const ConvShape f = folded(s);
  return f.C >= 40 && f.R * f.S * f.C <= 2 * s.R * s.S * s.C;
}

// Scratch: the folded operands, and what the folded pass asks for. Kernels of stride 1 must take those.
Support query_folded(const ConvForward&);
Support query_folded(const ConvBackwardWeights&);
void folded_forward(Exec&, const ConvForward&);
void folded_backward_weights(Exec&, const ConvBackwardWeights&);

}  // namespace convoy::cuda
