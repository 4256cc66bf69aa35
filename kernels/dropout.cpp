#include "kernels/dropout.h"

#include <cmath>

#include "convoy/philox.h"
#include "kernels/each.h"

namespace convoy::CONVOY_CPU {
namespace {

constexpr int64_t kCounters = 64;  // generated side by side, four units each

// philox() of philox.h for the counters first .. first + kCounters, side by side in vectors; out[4·i + j] is
// word j of counter first + i.
void generate(uint64_t key, uint32_t first, uint32_t row, uint32_t step, uint32_t stream, uint32_t* out) {
  uint32_t words[4][kCounters];
#pragma omp simd
  for (int64_t i = 0; i < kCounters; ++i) {
    uint32_t c0 = first + static_cast<uint32_t>(i), c1 = row, c2 = step, c3 = stream;
    uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint32_t high0 = static_cast<uint32_t>((uint64_t{0xD2511F53u} * c0) >> 32),
                     low0 = 0xD2511F53u * c0;
      const uint32_t high1 = static_cast<uint32_t>((uint64_t{0xCD9E8D57u} * c2) >> 32),
                     low1 = 0xCD9E8D57u * c2;
      c0 = high1 ^ c1 ^ k0;
      c2 = high0 ^ c3 ^ k1;
      c1 = low1;
      c3 = low0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    words[0][i] = c0;
    words[1][i] = c1;
    words[2][i] = c2;
    words[3][i] = c3;
  }
  for (int64_t i = 0; i < kCounters; ++i) {
    const uint32_t a = words[0][i], b = words[1][i], c = words[2][i], d = words[3][i];
    out[4 * i] = a;
    out[4 * i + 1] = b;
    out[4 * i + 2] = c;
    out[4 * i + 3] = d;
  }
}

// y = x times the mask and the scale, for forward and backward alike.
void apply(Exec& ex, const DropoutKey& key, const In& in, const Out& out) {
  CONVOY_CHECK(key.p >= 0 && key.p < 1, "p ", key.p, " is not in [0, 1)");
  CONVOY_CHECK(key.scalars != nullptr && key.first_unit >= 0, "no scalars, or first unit ", key.first_unit);
  const float* x = input(in, in.shape, "x");
  float* y = output(out, in.shape, "y");
  const int64_t units = in.shape.row(), rows = in.shape[0];
  if (units == 0) return;
  const float scale = 1.0f / (1.0f - key.p);
  // uniform_float(v) >= p is (v >> 8) >= p · 2^24: the product is exact.
  const uint32_t threshold = static_cast<uint32_t>(std::ceil(static_cast<double>(key.p) * 16777216.0));
  const uint32_t step = static_cast<uint32_t>(key.scalars->step), stream = kDropoutStream + key.layer;
  const int64_t first_counter = key.first_unit / 4;
  const int64_t blocks = divide_up(divide_up(key.first_unit + units, 4) - first_counter, kCounters);
  for_items(ex, rows * blocks, 4 * rows * units, [&](int64_t item) {
    const int64_t n = item / blocks, counter = first_counter + item % blocks * kCounters;
    uint32_t words[4 * kCounters];
    generate(key.seed, static_cast<uint32_t>(counter), static_cast<uint32_t>(key.scalars->first_row + n),
             step, stream, words);
    const int64_t offset =
        4 * counter - key.first_unit;  // of the block's first unit in this row; may be -3 to -1
    const int64_t first = larger(offset, 0), last = smaller(offset + 4 * kCounters, units);
    const float* from = x + n * units;
    float* to = y + n * units;
#pragma omp simd
    for (int64_t u = first; u < last; ++u)
      to[u] = from[u] * ((words[u - offset] >> 8) >= threshold ? scale : 0.0f);
  });
}

}  // namespace

void dropout_forward(Exec& ex, const DropoutForward& a) {
  apply(ex, a.key, a.x, a.y);
}

void dropout_backward(Exec& ex, const DropoutBackward& a) {
  apply(ex, a.key, a.dy, a.dx);
}

}  // namespace convoy::CONVOY_CPU
