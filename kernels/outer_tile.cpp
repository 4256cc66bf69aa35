#include "kernels/outer_tile.h"

namespace convoy::CONVOY_CPU {
namespace {

template <int Rows, int Vectors, bool Partial, bool Far>
void outer(const Outer& o) {
  constexpr int64_t kAhead = 8;  // pixels
  Vec sum[Rows][Vectors];
  const int64_t last = o.lanes - (Vectors - 1) * kLanes;  // lanes of the last vector
  const auto whole = [](int v) { return !Partial || v < Vectors - 1; };
  CONVOY_UNROLL
  for (int i = 0; i < Rows; ++i) CONVOY_UNROLL
  for (int v = 0; v < Vectors; ++v) {
    sum[i][v] = Vec{};
    // The lines that will be written come while the sums are made.
    __builtin_prefetch(o.to + i * o.to_row + v * kLanes);
  }
  for (int64_t n = 0; n < o.images; ++n)
    for (int64_t p = 0; p < o.rows; ++p) {
      const float* a = o.a.data + n * o.a.image + p * o.a.row;
      const float* b = o.b.data + n * o.b.image + p * o.b.row;
      for (int64_t q = 0; q < o.columns; ++q, a += o.a.column, b += o.b.column) {
        Vec value[Vectors];
        // Pixels lie too far apart for the hardware to see where the next ones are.
        if (Far) __builtin_prefetch(a + kAhead * o.a.column);
        CONVOY_UNROLL
        for (int v = 0; Far && v < Vectors; ++v) __builtin_prefetch(b + kAhead * o.b.column + v * kLanes);
        CONVOY_UNROLL
        for (int v = 0; v < Vectors; ++v)
          value[v] = whole(v) ? load(b + v * kLanes) : load_first(b + v * kLanes, last);
        CONVOY_UNROLL
        for (int i = 0; i < Rows; ++i) {
          const Vec factor = broadcast_load(a + i);
          CONVOY_UNROLL
          for (int v = 0; v < Vectors; ++v) sum[i][v] = multiply_add(factor, value[v], sum[i][v]);
        }
      }
    }
  CONVOY_UNROLL
  for (int i = 0; i < Rows; ++i) CONVOY_UNROLL
  for (int v = 0; v < Vectors; ++v) {
    float* to = o.to + i * o.to_row + v * kLanes;
    if (whole(v))
      store(to, o.overwrite ? sum[i][v] : load(to) + sum[i][v]);
    else
      store_first(to, o.overwrite ? sum[i][v] : load_first(to, last) + sum[i][v], last);
  }
}

using OuterFunction = void (*)(const Outer&);

template <int Vectors, bool Partial, bool Far, int... I>
OuterFunction outer_of(int64_t rows, std::integer_sequence<int, I...>) {
  static constexpr OuterFunction all[] = {outer<I + 1, Vectors, Partial, Far>...};
  return all[rows - 1];
}

}  // namespace

void outer_sum(const Outer& o, int64_t rows) {
  using All = std::make_integer_sequence<int, kOuterRows>;
  const bool partial = o.lanes % kLanes != 0, two = o.lanes > kLanes,
             far = o.b.column > kOuterLanes || (kRegisters == 32 && o.a.column >= 256);
  const OuterFunction f =
      partial ? (two ? outer_of<2, true, false>(rows, All{}) : outer_of<1, true, false>(rows, All{}))
      : !two  ? outer_of<1, false, false>(rows, All{})
      : far   ? outer_of<2, false, true>(rows, All{})
              : outer_of<2, false, false>(rows, All{});
  f(o);
}

}  // namespace convoy::CONVOY_CPU
