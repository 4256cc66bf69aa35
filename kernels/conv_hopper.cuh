// The convolution passes on Hopper: conv_hopper.cu, for compute capability 9.0 alone, where the build has it.
#pragma once
#include "kernels/conv_geometry.cuh"
#include "kernels/conv_hopper_plan.h"

namespace convoy::cuda {

// T: bf16 or f16. The plan's chunks, where it has several, leave their sums in p.parts.
template <class T>
void hopper_forward(Exec&, const Correlation<T>& p, const HopperPlan&);
template <class T>
void hopper_backward_data(Exec&, const Correlation<T>& p, const HopperPlan&);

// How an axis of the image is walked by bulk copies: places lower, lower + step, ... that many.
struct HopperAxis {
  int lower, step, count, inputs;
  int upper() const { return lower + (count - 1) * step + 1 - inputs; }  // of the last, from the image's end
};
inline HopperAxis hopper_axis(const Axis& a, bool pooled_rows, bool pooled_columns) {
  return {a.offset, a.input_step * (pooled_rows ? 2 : 1), a.outputs * (pooled_columns ? 2 : 1), a.inputs};
}

inline int64_t hopper_steps(const Windows& w) {
  return int64_t{w.h.taps} * w.w.taps * hopper_blocks(w.channels);
}

inline int64_t hopper_images(const Windows& w, int64_t rows) {
  return rows / (w.pooled ? 4 : 1) / (int64_t{w.h.outputs} * w.w.outputs);
}

// A product of `rows` >= 1 of pixels, as the plan sees it.
inline HopperShape hopper_shape(const Windows& w, int64_t rows, int64_t columns) {
  HopperShape s{rows, columns, hopper_steps(w), w.pooled};
  s.taps_h = w.h.taps;
  if (w.h.input_step != 1 || w.w.input_step != 1 || w.h.taps < 2 || w.h.taps > kPatchTaps) return s;
  const int side = w.pooled ? kPatchSide / 2 : kPatchSide;
  s.patches = hopper_images(w, rows) * ((w.h.outputs + side - 1) / side) * ((w.w.outputs + side - 1) / side);
  return s;
}

// Whether they take the problem: what tensor maps and im2col copies can say (tensor_map.cuh), and where the depth's steps
// hold little else than channels.
template <class T>
bool hopper_takes(const Correlation<T>& p) {
  const Windows& w = p.windows;
  const auto describable = [](const HopperAxis& a) {
    return a.step <= 8 && a.lower >= -128 && a.lower <= 127 && a.upper() >= -128 && a.upper() <= 127;
  };
  return p.image_aligned && p.filters_aligned && hopper_steps(w) > 0 && hopper_fills_steps(w.channels) &&
         describable(hopper_axis(w.h, w.pooled, false)) && describable(hopper_axis(w.w, false, w.pooled)) &&
         w.h.taps + w.h.input_step <= 256 && w.w.taps <= 256;
}

}  // namespace convoy::cuda
