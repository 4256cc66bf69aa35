#include "kernels/dropout.h"

#include <cmath>

#include "convoy/philox.h"
#include "kernels/each.h"

namespace convoy::CONVOY_CPU {
namespace {

constexpr int64_t kCounters = 64;  // generated side by side, four units each

// philox() of philox.h for kCounters counters, side by side in vectors; out[4·i + j] is word j of counter(i).
template <class Counter>
void generate(uint64_t key, const Counter& counter, uint32_t row, uint32_t step, uint32_t stream,
              uint32_t* out) {
  uint32_t words[4][kCounters], first[kCounters];
  for (int64_t i = 0; i < kCounters; ++i) first[i] = counter(i);
#pragma omp simd
  for (int64_t i = 0; i < kCounters; ++i) {
    uint32_t c0 = first[i], c1 = row, c2 = step, c3 = stream;
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

struct Mask {
  const float* x;
  float* y;
  int64_t rows, units;
  const int32_t* row_numbers;  // or null
  float scale;
  uint32_t threshold;  // uniform_float(v) >= p is (v >> 8) >= p · 2^24: the product is exact

  uint32_t row(const DropoutKey& key, int64_t n) const {
    return static_cast<uint32_t>(row_numbers != nullptr ? row_numbers[n] : key.scalars->first_row + n);
  }
  // Elements [first, last), whose words follow one another.
  void apply(int64_t first, int64_t last, const uint32_t* words) const {
    const float* from = x + first;
    float* to = y + first;
    const float kept = scale;  // a member would be read again after every store
    const uint32_t least = threshold;
#pragma omp simd
    for (int64_t i = 0; i < last - first; ++i) to[i] = from[i] * ((words[i] >> 8) >= least ? kept : 0.0f);
  }
};

Mask checked(const DropoutKey& key, const In& in, const Out& out) {
  CONVOY_CHECK(key.p >= 0 && key.p < 1, "p ", key.p, " is not in [0, 1)");
  CONVOY_CHECK(key.scalars != nullptr && key.first_unit >= 0, "no scalars, or first unit ", key.first_unit);
  Mask m{input(in, in.shape, "x"), output(out, in.shape, "y"), in.shape[0], in.shape.row(), nullptr, 0, 0};
  CONVOY_CHECK(key.columns == 0 || (key.columns > 0 && m.units % key.columns == 0 &&
                                    key.first_unit + key.columns <= key.unsplit_columns),
               "x is ", in.shape, ", columns ", key.first_unit, "+", key.columns, " of ",
               key.unsplit_columns);
  if (!key.rows.empty()) {
    check_operand(key.rows, Shape{m.rows}, "rows");
    m.row_numbers = key.rows.as<int32_t>();
  }
  m.scale = 1.0f / (1.0f - key.p);
  m.threshold = static_cast<uint32_t>(std::ceil(static_cast<double>(key.p) * 16777216.0));
  return m;
}

// Units of a row that follow one another.
void apply_row(Exec& ex, const DropoutKey& key, const Mask& m) {
  const uint32_t step = static_cast<uint32_t>(key.scalars->step), stream = kDropoutStream + key.layer;
  const int64_t first_counter = key.first_unit / 4;
  const int64_t blocks = divide_up(divide_up(key.first_unit + m.units, 4) - first_counter, kCounters);
  for_items(ex, m.rows * blocks, 4 * m.rows * m.units, [&](int64_t item) {
    const int64_t n = item / blocks, counter = first_counter + item % blocks * kCounters;
    uint32_t words[4 * kCounters];
    const uint32_t from = static_cast<uint32_t>(counter);
    generate(
        key.seed, [=](int64_t i) { return from + static_cast<uint32_t>(i); }, m.row(key, n), step, stream,
        words);
    const int64_t offset =
        4 * counter - key.first_unit;  // of the block's first unit in this row; may be -3 to -1
    const int64_t first = larger(offset, 0), last = smaller(offset + 4 * kCounters, m.units);
    m.apply(n * m.units + first, n * m.units + last, words + (first - offset));
  });
}

// Some of every pixel's units: runs of up to kRun units, as many side by side as there are counters.
void apply_columns(Exec& ex, const DropoutKey& key, const Mask& m) {
  constexpr int64_t kRun = 4 * (kCounters - 1);
  const uint32_t step = static_cast<uint32_t>(key.scalars->step), stream = kDropoutStream + key.layer;
  const int64_t run = smaller(key.columns, kRun), runs_per_pixel = divide_up(key.columns, run),
                runs = m.units / key.columns * runs_per_pixel;
  const int64_t own = (run + 6) / 4;  // counters that a run may touch
  const int64_t side = kCounters / own, blocks = divide_up(runs, side);
  for_items(ex, m.rows * blocks, 4 * m.rows * m.units, [&](int64_t item) {
    const int64_t n = item / blocks, first_run = item % blocks * side;
    const auto column = [&](int64_t r) { return r % runs_per_pixel * run; };
    const auto unit = [&](int64_t r) {
      return r / runs_per_pixel * key.unsplit_columns + key.first_unit + column(r);
    };
    uint32_t counters[kCounters] = {}, words[4 * kCounters];
    const int64_t last_run = smaller(runs, first_run + side);
    for (int64_t r = first_run; r < last_run; ++r)
      for (int64_t i = 0; i < own; ++i)
        counters[(r - first_run) * own + i] = static_cast<uint32_t>(unit(r) / 4 + i);
    generate(
        key.seed, [&](int64_t i) { return counters[i]; }, m.row(key, n), step, stream, words);
    for (int64_t r = first_run; r < last_run; ++r) {
      const int64_t first = n * m.units + r / runs_per_pixel * key.columns + column(r);
      m.apply(first, first + smaller(run, key.columns - column(r)),
              words + 4 * own * (r - first_run) + unit(r) % 4);
    }
  });
}

// y = x times the mask and the scale, for forward and backward alike.
void apply(Exec& ex, const DropoutKey& key, const In& in, const Out& out) {
  const Mask m = checked(key, in, out);
  if (m.units == 0) return;
  key.columns == 0 || key.columns == m.units ? apply_row(ex, key, m) : apply_columns(ex, key, m);
}

}  // namespace

void dropout_forward(Exec& ex, const DropoutForward& a) {
  apply(ex, a.key, a.x, a.y);
}

void dropout_backward(Exec& ex, const DropoutBackward& a) {
  apply(ex, a.key, a.dy, a.dx);
}

}  // namespace convoy::CONVOY_CPU
