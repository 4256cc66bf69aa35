// Batch normalisation over rows and pixels, per channel (Ioffe, Szegedy 2015), in pieces between which
// workers can merge their statistics.
//
//   statistics      mean[c], m2[c] = sum of (x - mean)², over the N·H·W elements of the channel
//   merge           the statistics of several workers become those of all their elements (Chan, Golub,
//                   LeVeque 1983), in double, in rank order. all[K, 2C]: mean, then m2 of each worker; counts:
//                   the elements per channel behind them. A worker without elements is skipped, whatever its
//                   mean and m2 are.
//   forward         y = (x - mean) · inv_std · gamma + beta, inv_std = 1 / sqrt(var + eps); then + residual,
//                   then ReLU. var = m2 / count in training; in evaluation mean and var are the running ones (m2 =
//                   running_var, count = 1).
//   backward sums   dgamma[c] (+)= sum of dy' · xhat, dbeta[c] (+)= sum of dy', where dy' = dy, but 0 where
//                   mask <= 0, and xhat = (x - mean) · inv_std; sums[2C] receives the same two sums
//                   of this call alone (dy', then dy'·xhat)
//   backward data   dx = gamma · inv_std · (dy' - sums[c] / count - xhat · sums[C + c] / count);
//                   dresidual = dy' where wanted
//   running         running = (1 - momentum) · running + momentum · new, the variance unbiased: m2 / (count - 1)
//
// x, y, dy, dx, residual, mask [N,H,W,C] or [N,C], contiguous: f32 on the CPU; on CUDA f32, bf16 or f16, one type for
// all. The others [C] f32. y may be x only in evaluation; dx may be dy; dresidual may not be dx. Without rows the
// statistics and the sums are 0. Sums of x are in double per chunk of pixels, merged in chunk order; on CUDA in f32 over
// runs of at most 128 pixels (statistics: about a pixel of the chunk), in double from there on. merge takes at most 256
// workers on CUDA.
#pragma once
#include <vector>

#include "convoy/tensor.h"

namespace convoy {

struct BatchNormStatistics {
  In x;
  Out mean, m2;
};

struct BatchNormMerge {
  In all;
  const std::vector<int64_t>* counts = nullptr;
  Out mean, m2;
};

struct BatchNormForward {
  In x, mean, m2, gamma, beta;
  int64_t count = 1;  // elements per channel behind m2: N·H·W of the global batch; 1 when m2 is a variance
  float eps = 1e-5f;
  In residual;  // x's shape, or empty
  bool relu = false;
  Out y;
};

struct BatchNormBackwardSums {
  In x, dy, mean, m2;
  int64_t count = 1;
  float eps = 1e-5f;
  In mask;  // y of a forward pass with ReLU, or empty
  Out dgamma, dbeta, sums;
  bool overwrite = false;
};

struct BatchNormBackwardData {
  In x, dy, mean, m2, gamma, sums;
  int64_t count = 1;
  float eps = 1e-5f;
  In mask;
  Out dx, dresidual;  // dresidual may be empty
};

struct BatchNormRunning {
  In mean, m2;
  int64_t count = 1;
  float momentum = 0.1f;
  Out running_mean, running_var;
  In skip = {};  // CUDA alone: i32 [1], nothing is taken in unless it is 0; or empty
};

}  // namespace convoy
