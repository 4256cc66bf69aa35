// Checks that the convolution passes share.
#pragma once
#include "convoy/backend.h"
#include "kernels/conv.h"
#include "kernels/sizes.h"

namespace convoy::CONVOY_CPU {

inline void check_shape(const ConvShape& s) {
  CONVOY_CHECK(s.N >= 0 && s.H >= 1 && s.W >= 1 && s.C >= 1 && s.K >= 0 && s.R >= 1 && s.S >= 1 &&
                   s.stride_h >= 1 && s.stride_w >= 1 && s.pad_h >= 0 && s.pad_w >= 0 && s.pad_h < s.R &&
                   s.pad_w < s.S && s.H + 2 * s.pad_h >= s.R && s.W + 2 * s.pad_w >= s.S,
               "x ", s.x(), ", w ", s.w(), ", stride ", s.stride_h, "x", s.stride_w, ", pad ", s.pad_h, "x",
               s.pad_w);
}

inline void check_operand(const In& v, const Shape& shape, const char* name) {
  CONVOY_CHECK(v.shape == shape && v.contiguous(), name, " is ", v.shape, ", wanted ", shape,
               " without gaps");
}

inline float* check_scratch(const Exec& ex, int64_t bytes) {
  CONVOY_CHECK(ex.scratch.bytes() >= bytes, "the scratch has ", ex.scratch.bytes(), " bytes, needed are ",
               bytes);
  return reinterpret_cast<float*>(ex.scratch.data);
}

}  // namespace convoy::CONVOY_CPU
