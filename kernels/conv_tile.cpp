#include "kernels/conv_tile.h"

namespace convoy::CONVOY_CPU {
namespace {

template <int Pixels, int Vectors, Finish kFinish>
void tile(const Tile& t) {
  Vec sum[Pixels][Vectors];
  const float* x[Pixels];
  CONVOY_UNROLL
  for (int p = 0; p < Pixels; ++p) {
    x[p] = t.x[p];
    CONVOY_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      sum[p][v] = load(t.bias + v * kLanes);
      // The lines that will be written come while the sums are made.
      __builtin_prefetch(t.to + t.y[p] + v * kLanes);
    }
  }
  constexpr int kAhead = 8;
  const auto step = [&](int64_t i, const float* row) __attribute__((always_inline)) {
    Vec w[Vectors];
    CONVOY_UNROLL
    for (int v = 0; v < Vectors; ++v) {
      w[v] = load(row + v * kLanes);
      __builtin_prefetch(row + (kAhead * Vectors + v) * kLanes);
    }
    CONVOY_UNROLL
    for (int p = 0; p < Pixels; ++p) {
      const Vec value = broadcast_load(x[p] + i);
      CONVOY_UNROLL
      for (int v = 0; v < Vectors; ++v) sum[p][v] = multiply_add(value, w[v], sum[p][v]);
    }
  };
  constexpr int kSteps = 3;
  const float* weights = t.weights;
  const int64_t skip = t.weight_step - t.length * Vectors * kLanes;
  for (int64_t segment = 0, first = 0; segment < t.segments; ++segment, first += t.x_step, weights += skip) {
    int64_t i = first;
    const int64_t end = first + t.length;
    for (; i + kSteps <= end; i += kSteps, weights += kSteps * Vectors * kLanes) {
      CONVOY_UNROLL
      for (int j = 0; j < kSteps; ++j) step(i + j, weights + j * Vectors * kLanes);
    }
    for (; i < end; ++i, weights += Vectors * kLanes) step(i, weights);
  }
  CONVOY_UNROLL
  for (int p = 0; p < Pixels; ++p) CONVOY_UNROLL
  for (int v = 0; v < Vectors; ++v) {
    const int64_t at = t.y[p] + v * kLanes;
    const int64_t lanes = t.channels - v * kLanes;
    Vec out = sum[p][v];
    if (kFinish == kRelu || (kFinish == kPartial && t.relu)) out = relu(out);
    if (kFinish == kMask) out = where_positive(load(t.mask + at), out);
    if (kFinish == kPartial && t.mask != nullptr) out = where_positive(load_first(t.mask + at, lanes), out);
    if (kFinish == kPartial)
      store_first(t.to + at, out, lanes);
    else
      store(t.to + at, out);
  }
}

// The same for pixels that lie Step elements apart, with segments of Length: no addresses to set up, and
// steps that are all known.
template <int Pixels, Finish kFinish, int Length, int Step>
void short_tile(const Tile& t) {
  constexpr int Vectors = kPanelVectors;
  float* to = t.to + t.y[0];
  const int64_t y_step = t.y[1] - t.y[0];
  Vec sum[Pixels][Vectors];
  CONVOY_UNROLL
  for (int p = 0; p < Pixels; ++p) CONVOY_UNROLL
  for (int v = 0; v < Vectors; ++v) {
    sum[p][v] = load(t.bias + v * kLanes);
    // The lines that the next tile will write come while the sums are made.
    __builtin_prefetch(to + (Pixels + p) * y_step + v * kLanes);
  }
  const float* x = t.x[0];
  const float* weights = t.weights;
  for (int64_t left = t.segments; left > 0; --left, x += t.x_step, weights += t.weight_step) {
    CONVOY_UNROLL
    for (int i = 0; i < Length; ++i) {
      // Hides that neighbours share values: a compiler that keeps them runs out of registers.
      asm("" : "+r"(x));
      Vec w[Vectors];
      CONVOY_UNROLL
      for (int v = 0; v < Vectors; ++v) w[v] = load(weights + (i * Vectors + v) * kLanes);
      CONVOY_UNROLL
      for (int p = 0; p < Pixels; ++p) {
        const Vec value = broadcast_load(x + p * Step + i);
        CONVOY_UNROLL
        for (int v = 0; v < Vectors; ++v) sum[p][v] = multiply_add(value, w[v], sum[p][v]);
      }
    }
  }
  CONVOY_UNROLL
  for (int p = 0; p < Pixels; ++p, to += y_step) CONVOY_UNROLL
  for (int v = 0; v < Vectors; ++v) store(to + v * kLanes, kFinish == kRelu ? relu(sum[p][v]) : sum[p][v]);
}

template <Finish F, int... I>
TileFunction short_of(int64_t pixels, std::integer_sequence<int, I...>) {
  static constexpr TileFunction all[] = {short_tile<I + 2, F, 9, 3>...};
  return all[pixels - 2];
}

template <int Vectors, Finish F, int... I>
TileFunction tile_of(int64_t pixels, std::integer_sequence<int, I...>) {
  static constexpr TileFunction all[] = {tile<I + 1, Vectors, F>...};
  return all[pixels - 1];
}

template <int Vectors>
TileFunction tile_of(int64_t pixels, Finish finish) {
  using All = std::make_integer_sequence<int, kTilePixels>;
  return finish == kStore  ? tile_of<Vectors, kStore>(pixels, All{})
         : finish == kRelu ? tile_of<Vectors, kRelu>(pixels, All{})
         : finish == kMask ? tile_of<Vectors, kMask>(pixels, All{})
                           : tile_of<Vectors, kPartial>(pixels, All{});
}

}  // namespace

TileFunction tile_function(int64_t pixels, int64_t vectors, Finish finish) {
  return vectors == 1 ? tile_of<1>(pixels, finish) : tile_of<2>(pixels, finish);
}

TileFunction short_tile_function(int64_t pixels, int64_t vectors, Finish finish, int64_t length,
                                 int64_t step) {
  using All = std::make_integer_sequence<int, kTilePixels - 1>;
  if (pixels < 2 || vectors != kPanelVectors || length != 9 || step != 3) return nullptr;
  return finish == kStore  ? short_of<kStore>(pixels, All{})
         : finish == kRelu ? short_of<kRelu>(pixels, All{})
                           : nullptr;
}

}  // namespace convoy::CONVOY_CPU
