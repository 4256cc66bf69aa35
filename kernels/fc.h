// Fully connected layer.
//
//   forward           y[n,f]  = sum over d of x[n,d] · w[f,d], then the epilogue: + bias[f], ReLU
//   backward data     dx[n,d] = sum over f of dy[n,f] · w[f,d], then dx = 0 where mask <= 0
//   backward weights  dw[f,d] (+)= sum over n of dy[n,f] · x[n,d],  db[f] (+)= sum over n of dy[n,f]
//
// x[N,D], w[F,D], y[N,F]; bias, dw and db are f32. The others are f32 on the CPU; on CUDA f32, bf16 or f16, one type
// for all, but y and dx may be f32 where the others are not. (The sums are f32 all the same. On CUDA y is rounded to its
// type before the epilogue, and again after it. With Exec::tf32, cuBLAS rounds f32 operands to TF32 on sm_80 and later,
// in its own way.) x, y, dx, dy and mask may be column ranges of wider matrices (row
// stride), w and dw are contiguous. An x of rank 4 is read as [N, H·W·C]. N and F may be 0 (dx is zeros without
// outputs). No aliasing.
#pragma once
#include "kernels/epilogue.h"

namespace convoy {

struct FcForward {
  In x, w;
  Epilogue epilogue;
  Out y;
};

struct FcBackwardData {
  In dy, w;
  Out dx;
  In mask;  // x's shape: the output of the ReLU that made x; or empty
};

struct FcBackwardWeights {
  In x, dy;
  Out dw, db;  // db may be empty
  bool overwrite = false;
};

}  // namespace convoy
