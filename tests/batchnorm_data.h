// What the tests of batch normalisation work on.
#pragma once
#include "reference.h"

namespace convoy::reference {

struct Channels {
  int64_t count, pixels;
  explicit Channels(const Shape& s) : count(s[s.rank - 1]), pixels(s.count() / count) {}
  Shape shape() const { return {count}; }
};
inline int64_t channel(const Array& x, int64_t i) {
  return i % x.shape()[x.shape().rank - 1];
}

// Arrays of data are f32 here, and hold what test_dtype() can hold.
inline Array held(Array a) {
  a.each([&](int64_t i) { return rounded_to(test_dtype(), a[i]); });
  return a;
}
// Normal data, or whole numbers, whose channels have means of their own.
inline Array data(const Shape& shape, uint32_t seed, bool whole = false) {
  Array x = numbers(shape, whole, 4, seed);
  x.each([&](int64_t i) { return x[i] * 2 + static_cast<double>(channel(x, i) % 5) * 3 - 4; });
  test_work() = 12 * static_cast<double>(x.count());
  return held(std::move(x));
}
inline Array given(const Array& x) {
  return as(test_dtype(), x);
}

}  // namespace convoy::reference
