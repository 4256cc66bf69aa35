// The micro-kernel of the weight gradients: a sum of outer products over pixels, to[i][lane] (+)= sum over
// pixels of a[pixel][i] · b[pixel][lane], with up to kOuterRows values broadcast from a and one or two
// vectors from b.
#pragma once
#include "kernels/simd.h"

namespace convoy::CONVOY_CPU {

constexpr int kOuterRows = kRegisters == 32 ? 14 : 6;
constexpr int kOuterVectors = 2;
constexpr int64_t kOuterLanes = kOuterVectors * kLanes;
static_assert(kOuterRows * kOuterVectors + kOuterVectors + 1 < kRegisters, "a tile must fit the registers");

struct OuterSide {
  const float* data;
  int64_t image, row, column;  // elements from one to the next
};

struct Outer {
  OuterSide a, b;
  int64_t images, rows, columns;  // pixels to sum over
  float* to;
  int64_t to_row;
  int64_t lanes;   // of b's, how many are real
  bool overwrite;  // else added to
};

// Runs the kernel for 1 to kOuterRows rows and 1 to kOuterLanes lanes.
void outer_sum(const Outer& o, int64_t rows);

}  // namespace convoy::CONVOY_CPU
