// The first operation of a step: pixels to numbers, augmented.
//
//   y[n,h,w,c] = (pixels[n,h',w',c] / 255 - mean[c]) / stddev[c]
//
// pixels u8 [N,H,W,C], index i32 [N] (each row's place in the data set), y [N,H,W,C] f32, on CUDA
// bf16 or f16 too, mean and stddev [C] f32. With augmentation ("standard"), row n is shifted and mirrored by
//   v = philox(seed, 0, index[n], epoch, kAugmentStream):  dh = v0 mod (2·pad+1) - pad,
//   dw = v1 mod (2·pad+1) - pad, flipped where flip and v2 is odd;
//   h' = h + dh, w' = (flipped ? W-1-w : w) + dw, pixels outside give y = 0.
// That is a random crop of the image padded by `pad` (4 for 32 x 32), then a random horizontal flip.
#pragma once
#include "convoy/backend.h"

namespace convoy {

struct Augmentation {
  int64_t pad = 0;
  bool flip = false;
  uint64_t seed = 0;
};

struct NormalizeArgs {
  const StepScalars* scalars = nullptr;  // for the epoch; may be null without augmentation
  Augmentation augmentation;
  In pixels, index, mean, stddev;  // index may be empty without augmentation
  Out y;
};

}  // namespace convoy
