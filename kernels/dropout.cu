#include <cmath>

#include "convoy/philox.h"
#include "kernels/dropout.h"
#include "kernels/each.cuh"

namespace convoy::cuda {
namespace {

// A row of x is `pixels` runs of `columns` units that follow one another; a row that is not split is one run.
struct Mask {
  const StepScalars* scalars;
  const int32_t* rows;  // or null
  uint64_t seed;
  uint32_t stream;
  int64_t pixels, columns, unsplit_columns, first_unit;
  float scale;
  uint32_t threshold;  // uniform_float(v) >= p is (v >> 8) >= p · 2^24: the product is exact

  // Of the first element of a run.
  __device__ int64_t unit(int64_t run) const { return run % pixels * unsplit_columns + first_unit; }
  // The words of units 4 · group to 4 · group + 3 in the row of that run.
  __device__ Philox4 words(int64_t run, int64_t group) const {
    const int64_t n = run / pixels;
    const int64_t row = rows != nullptr ? rows[n] : scalars->first_row + n;
    return philox(seed, static_cast<uint32_t>(group), static_cast<uint32_t>(row),
                  static_cast<uint32_t>(scalars->step), stream);
  }
  // Dropped elements are multiplied too: NaN stays NaN.
  template <class T>
  __device__ T apply(T x, uint32_t word) const {
    return T(static_cast<float>(x) * ((word >> 8) >= threshold ? scale : 0.0f));
  }
};

// Element i is a vector of x, whose units are whole groups.
template <class T, int kGroups>
struct DropPacks {
  static constexpr int kPack = 4 * kGroups;
  Mask m;
  const T* x;
  T* y;
  __device__ void operator()(int64_t i) const {
    const int64_t first = i * kPack, run = first / m.columns;
    const int64_t group = (m.unit(run) + first % m.columns) / 4;
    const Pack<T, kPack> in = load<kPack>(x + first);
    Pack<T, kPack> out;
    for (int g = 0; g < kGroups; ++g) {
      const Philox4 words = m.words(run, group + g);
      for (int j = 0; j < 4; ++j) out.v[4 * g + j] = m.apply(in.v[4 * g + j], words.v[j]);
    }
    store(y + first, out);
  }
};

// Element i is a group of which a run may have some units: the first and the last of it.
template <class T>
struct DropGroups {
  Mask m;
  int64_t groups;  // that a run may touch
  const T* x;
  T* y;
  __device__ void operator()(int64_t i) const {
    const int64_t run = i / groups, unit = m.unit(run), group = unit / 4 + i % groups;
    const int64_t first = 4 * group - unit;  // the run's element that is the group's first unit: -3 or more
    if (first >= m.columns) return;
    const Philox4 words = m.words(run, group);
    const int64_t start = run * m.columns + first;
    for (int j = 0; j < 4; ++j)
      if (first + j >= 0 && first + j < m.columns) y[start + j] = m.apply(x[start + j], words.v[j]);
  }
};

Mask checked(const DropoutKey& key, const In& x) {
  CONVOY_CHECK(key.p >= 0 && key.p < 1, "p ", key.p, " is not in [0, 1)");
  CONVOY_CHECK(key.scalars != nullptr && key.first_unit >= 0, "no scalars, or first unit ", key.first_unit);
  const int64_t units = x.shape.row();
  CONVOY_CHECK(key.columns == 0 || (key.columns > 0 && units % key.columns == 0 &&
                                    key.first_unit + key.columns <= key.unsplit_columns),
               "x is ", x.shape, ", columns ", key.first_unit, "+", key.columns, " of ", key.unsplit_columns);
  Mask m{};
  m.scalars = key.scalars;
  m.rows = key.rows.empty() ? nullptr : operand<int32_t>(key.rows, Shape{x.shape[0]}, "rows");
  m.seed = key.seed;
  m.stream = kDropoutStream + key.layer;
  m.columns = key.columns == 0 ? units : key.columns;
  m.pixels = m.columns == 0 ? 0 : units / m.columns;
  m.unsplit_columns = m.pixels == 1 ? 0 : key.unsplit_columns;
  m.first_unit = key.first_unit;
  m.scale = 1.0f / (1.0f - key.p);
  m.threshold = static_cast<uint32_t>(std::ceil(static_cast<double>(key.p) * 16777216.0));
  return m;
}

// y = x times the mask and the scale, for forward and backward alike.
template <class T>
void apply(Exec& ex, const DropoutKey& key, const In& in, const Out& out) {
  const Mask m = checked(key, in);
  const T* x = operand<T>(in, in.shape, "x");
  T* y = operand<T>(out, in.shape, "y");
  const int64_t count = in.count();
  if (count == 0) return;
  constexpr int kGroups = kVectorBytes / 4 / static_cast<int>(sizeof(T)), kPack = 4 * kGroups;
  if (m.columns % kPack == 0 && m.first_unit % 4 == 0 && m.unsplit_columns % 4 == 0 &&
      aligned(kVectorBytes, x, y)) {
    each(ex, count / kPack, DropPacks<T, kGroups>{m, x, y});
  } else {
    const int64_t groups = (m.columns + 6) / 4;
    each(ex, count / m.columns * groups, DropGroups<T>{m, groups, x, y});
  }
}

}  // namespace

void dropout_forward(Exec& ex, const DropoutForward& a) {
  with_float(a.x.dtype, [&](auto zero) { apply<decltype(zero)>(ex, a.key, a.x, a.y); });
}

void dropout_backward(Exec& ex, const DropoutBackward& a) {
  with_float(a.dy.dtype, [&](auto zero) { apply<decltype(zero)>(ex, a.key, a.dy, a.dx); });
}

}  // namespace convoy::cuda
