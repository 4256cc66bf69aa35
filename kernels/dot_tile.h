// The micro-kernel of the fully connected layer forward: rows of x times rows of w as dot products, both
// contiguous, so that neither needs packing.
#pragma once
#include "kernels/simd.h"

namespace convoy::CONVOY_CPU {

// Sums of a tile, in registers: kDotRows rows of x by two of w, or fewer of x by four of w.
constexpr int kDotRows = kRegisters == 32 ? 8 : 4;
static_assert(kDotRows * 2 + 3 < kRegisters, "a tile must fit the registers");

struct Dot {
  const float* x;
  const float* w;
  float* y;
  int64_t x_row, w_row, y_row;
  int64_t count;      // terms of each dot product
  const float* bias;  // starts the sums instead of what y holds; or null
  bool fresh, relu;   // fresh: y holds nothing yet
};

// Lane i of the result is the sum of v[i]'s lanes.
CONVOY_INLINE Vec lane_sums(Vec (&v)[kLanes]) {
  CONVOY_UNROLL
  for (int half = kLanes / 2; half > 0; half /= 2) CONVOY_UNROLL
  for (int i = 0; i < half; ++i)
    v[i] = interleave_low(v[i], v[i + half], Lanes{}) + interleave_high(v[i], v[i + half], Lanes{});
  return v[0];
}

template <int Rows, int Columns>
void dot(const Dot& t) {
  Vec sum[Rows][Columns];
  CONVOY_UNROLL
  for (int i = 0; i < Rows; ++i) CONVOY_UNROLL
  for (int j = 0; j < Columns; ++j) sum[i][j] = Vec{};
  const float* x = t.x;
  const float* w = t.w;
  const auto step = [&](auto read) {
    Vec b[Columns];
    CONVOY_UNROLL
    for (int j = 0; j < Columns; ++j) b[j] = read(w + j * t.w_row);
    CONVOY_UNROLL
    for (int i = 0; i < Rows; ++i) {
      const Vec a = read(x + i * t.x_row);
      CONVOY_UNROLL
      for (int j = 0; j < Columns; ++j) sum[i][j] = multiply_add(a, b[j], sum[i][j]);
    }
    x += kLanes;
    w += kLanes;
  };
  int64_t left = t.count;
  for (; left >= kLanes; left -= kLanes) step([](const float* p) { return load(p); });
  if (left > 0) step([left](const float* p) { return load_first(p, left); });
  constexpr int kSums = Rows * Columns;
  CONVOY_UNROLL
  for (int first = 0; first < kSums; first += kLanes) {
    Vec group[kLanes];
    CONVOY_UNROLL
    for (int i = 0; i < kLanes; ++i)
      group[i] = first + i < kSums ? sum[(first + i) / Columns % Rows][(first + i) % Columns] : Vec{};
    const Vec totals = lane_sums(group);
    CONVOY_UNROLL
    for (int i = 0; i < kLanes; ++i) {
      if (first + i >= kSums) break;
      const int column = (first + i) % Columns;
      float* y = t.y + (first + i) / Columns * t.y_row + column;
      const float before = t.fresh ? (t.bias != nullptr ? t.bias[column] : 0) : *y;
      const float value = before + totals[i];
      *y = t.relu && value < 0 ? 0 : value;
    }
  }
}

using DotFunction = void (*)(const Dot&);
template <int Columns, int... I>
DotFunction dot_of(int64_t rows, std::integer_sequence<int, I...>) {
  static constexpr DotFunction all[] = {dot<I + 1, Columns>...};
  return all[rows - 1];
}

// Rows of w that go with that many rows of x.
constexpr int64_t dot_columns(int64_t rows) {
  return rows <= kDotRows / 2 ? 4 : 2;
}

inline DotFunction dot_function(int64_t rows, int64_t columns) {
  using Many = std::make_integer_sequence<int, kDotRows>;
  using Few = std::make_integer_sequence<int, kDotRows / 2>;
  return columns == 4   ? dot_of<4>(rows, Few{})
         : columns == 2 ? dot_of<2>(rows, Many{})
                        : dot_of<1>(rows, Many{});
}

}  // namespace convoy::CONVOY_CPU
