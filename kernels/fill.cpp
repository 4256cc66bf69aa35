#include "kernels/fill.h"

#include <cfloat>
#include <cmath>

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {

void fill(Exec& ex, const FillArgs& a) {
  float* y = output(a.y, a.y.shape, "y");
  for_chunks(ex, a.y.count(), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) y[i] = a.value;
  });
}

void scale(Exec& ex, const ScaleArgs& a) {
  float* y = output(a.y, a.y.shape, "y");
  for_chunks(ex, a.y.count(), [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) y[i] *= a.factor;
  });
}

void count_nonfinite(Exec& ex, const CountNonfinite& a) {
  const float* x = input(a.x, a.x.shape, "x");
  check_operand(a.out, Shape{1}, "out");
  int32_t* out = a.out.as<int32_t>();
  const int64_t count = a.x.count();
  const int threads = count < kSerialWork ? 1 : ex.threads;
  int64_t found = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : found)
  for (int64_t first = 0; first < count; first += kChunk) {
    const int64_t last = smaller(count, first + kChunk);
    int32_t here = 0;
    for (int64_t i = first; i < last; ++i) here += fabsf(x[i]) <= FLT_MAX ? 0 : 1;
    found += here;
  }
  static_cast<void>(threads);  // used by OpenMP alone
  *out = static_cast<int32_t>(smaller(found, INT32_MAX));
}

}  // namespace convoy::CONVOY_CPU
