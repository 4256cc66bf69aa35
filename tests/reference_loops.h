// Which elements meet in a layer: the loops of the references, in which nothing is fused, blocked or split.
#pragma once
#include <vector>

#include "convoy/net.h"

namespace convoy::reference {

// Visits every (input element, weight, output element) triple of a linear layer.
template <class F>
void for_conv_taps(const Shape& x, const Shape& y, const Conv& c, F f) {
  for (int64_t n = 0; n < y[0]; ++n)
    for (int64_t p = 0; p < y[1]; ++p)
      for (int64_t q = 0; q < y[2]; ++q)
        for (int64_t r = 0; r < c.r; ++r)
          for (int64_t s = 0; s < c.s; ++s) {
            const int64_t h = p * c.stride_h - c.pad_h + r, w = q * c.stride_w - c.pad_w + s;
            if (h < 0 || h >= x[1] || w < 0 || w >= x[2]) continue;
            for (int64_t k = 0; k < c.filters; ++k)
              for (int64_t ch = 0; ch < x[3]; ++ch)
                f(((n * x[1] + h) * x[2] + w) * x[3] + ch, ((k * c.r + r) * c.s + s) * x[3] + ch,
                  ((n * y[1] + p) * y[2] + q) * y[3] + k);
          }
}
template <class F>
void for_fc_taps(int64_t inputs, const Shape& y, F f) {
  for (int64_t n = 0; n < y[0]; ++n)
    for (int64_t o = 0; o < y[1]; ++o)
      for (int64_t j = 0; j < inputs; ++j) f(n * inputs + j, o * inputs + j, n * y[1] + o);
}

// Visits every output of a pool with its inputs, in window order.
template <class Pool, class F>
void for_windows(const Shape& x, const Shape& y, const Pool& pool, F f) {
  for (int64_t o = 0; o < y.count(); ++o) {
    const int64_t c = o % y[3], q = o / y[3] % y[2], p = o / y[3] / y[2] % y[1], n = o / y.row();
    std::vector<size_t> window;
    for (int64_t r = 0; r < pool.r; ++r)
      for (int64_t s = 0; s < pool.s; ++s) {
        const int64_t h = p * pool.stride_h - pool.pad_h + r, w = q * pool.stride_w - pool.pad_w + s;
        if (h >= 0 && h < x[1] && w >= 0 && w < x[2])
          window.push_back(static_cast<size_t>(((n * x[1] + h) * x[2] + w) * x[3] + c));
      }
    f(static_cast<size_t>(o), window);
  }
}

}  // namespace convoy::reference
