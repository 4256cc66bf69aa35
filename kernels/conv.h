// Convolution (cross-correlation), channels last.
//
//   forward           y[n,p,q,k]  = sum over r,s,c of x[n, h, v, c] · w[k,r,s,c],
//                     h = p·stride_h - pad_h + r, v = q·stride_w - pad_w + s,
//                     then the epilogue: + bias[k], ReLU, 2x2 max pool
//   backward data     dx = the transpose of forward applied to dy, then dx = 0 where mask <= 0
//   backward weights  dw[k,r,s,c] (+)= sum over n,p,q of dy[n,p,q,k] · x[...],  db[k] (+)= sum of dy[n,p,q,k]
//
// x[N,H,W,C], w[K,R,S,C], y[N,P,Q,K], contiguous. On the CPU all are f32; on CUDA x, w, y, dx, dy and the mask are all
// f32, all bf16 or all f16, and bias, dw and db f32. Products are added in f32, on tensor cores where the operands are
// bf16 (sm_80) or f16 (sm_75); f32 is rounded to fewer bits, the 11 of TF32, only where the Exec says so (sm_80): x, w
// and dy, to nearest, but not for db. Taps outside the image are zero.
// Whether they are multiplied or skipped is open: a result that has such a tap may be NaN where an infinite
// or NaN dy or w meets it. At a stride, so it is for pixels behind a window, less than the stride away: an infinite or
// NaN x there may make y NaN.
// Any extents >= 1, N and K also 0 (dx is zeros without filters), any stride >= 1, any pad < filter extent. CUDA
// takes fewer than 2^30 pixels, filter elements, and elements of an image's row.
// No aliasing.
// The MACs of forward are N·P·Q·K·R·S·C; each backward pass has as many.
#pragma once
#include "kernels/epilogue.h"

namespace convoy {

struct ConvShape {
  int64_t N = 0, H = 0, W = 0, C = 0;  // x
  int64_t K = 0, R = 0, S = 0;         // w
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;

  int64_t P() const { return (H + 2 * pad_h - R) / stride_h + 1; }
  int64_t Q() const { return (W + 2 * pad_w - S) / stride_w + 1; }
  Shape x() const { return {N, H, W, C}; }
  Shape w() const { return {K, R, S, C}; }
  Shape y() const { return {N, P(), Q(), K}; }
};

struct ConvForward {
  ConvShape shape;
  In x, w;
  Epilogue epilogue;
  Out y;           // [N,P,Q,K], or with pool_index [N,P/2,Q/2,K]: what a 2x2 stride-2 max pool leaves of it
  Out pool_index;  // u8, y's shape: place of the (first) maximum in its window, 2·row + column; or empty: no
                   // pool
};

struct ConvBackwardData {
  ConvShape shape;
  In dy, w;
  Out dx;
  In mask;  // x's shape: the output of the ReLU that made x; or empty
};

struct ConvBackwardWeights {
  ConvShape shape;
  In x, dy;
  Out dw, db;  // db may be empty
  bool overwrite = false;
};

}  // namespace convoy
