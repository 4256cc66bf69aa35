#include "kernels/pool.h"

#include "kernels/bytes.h"
#include "kernels/conv_pool.h"

namespace convoy::CONVOY_CPU {
namespace {

void check(const PoolShape& s) {
  CONVOY_CHECK(s.R >= 1 && s.S >= 1 && s.stride_h >= 1 && s.stride_w >= 1, "window ", s.R, "x", s.S,
               " stride ", s.stride_h, "x", s.stride_w);
  CONVOY_CHECK(s.pad_h >= 0 && s.pad_h < s.R && s.pad_w >= 0 && s.pad_w < s.S, "pad ", s.pad_h, "x", s.pad_w,
               " is not smaller than the window ", s.R, "x", s.S);
  CONVOY_CHECK(s.H + 2 * s.pad_h >= s.R && s.W + 2 * s.pad_w >= s.S, "window ", s.R, "x", s.S, " exceeds ",
               s.x());
}

void check_max(const PoolShape& s) {
  check(s);
  CONVOY_CHECK(s.R * s.S <= 256, "window ", s.R, "x", s.S, " has more than 256 taps");
}

// The taps [first, last) of a window that lie inside the image, and where its tap 0 would lie.
struct Taps {
  int64_t origin, first, last;
  Taps(int64_t place, int64_t stride, int64_t pad, int64_t window, int64_t extent)
      : origin(place * stride - pad), first(larger(0, -origin)), last(smaller(window, extent - origin)) {}
};

// The windows [first, last) that hold the pixel `at`.
struct Windows {
  int64_t first, last;
  Windows(int64_t at, int64_t stride, int64_t pad, int64_t window, int64_t windows)
      : first(larger(0, divide_up(larger(0, at + pad - window + 1), stride))),
        last(smaller(windows, (at + pad) / stride + 1)) {}
};

// One window's maximum and its place for a vector of channels; scalars run the same code with T = float.
template <class T, class Place, bool two_by_two>
inline void max_window(const PoolShape& s, const float* origin, const Taps& rows, const Taps& columns,
                       T& best, Place& place) {
  const int64_t r0 = two_by_two ? 0 : rows.first, r1 = two_by_two ? 2 : rows.last;
  const int64_t s0 = two_by_two ? 0 : columns.first, s1 = two_by_two ? 2 : columns.last;
  best = get<T>(origin + (r0 * s.W + s0) * s.C);
  place = Place{} + static_cast<int32_t>(r0 * s.S + s0);
  for (int64_t r = r0; r < r1; ++r)
    for (int64_t t = s0; t < s1; ++t) {
      const T v = get<T>(origin + (r * s.W + t) * s.C);
      const auto take = (v > best) | ((v != v) & (best == best));  // a NaN wins, the first one stays
      best = take ? v : best;
      place = take ? Place{} + static_cast<int32_t>(r * s.S + t) : place;
    }
}

template <bool two_by_two>
void max_row(const PoolShape& s, const float* image, int64_t p, float* y, uint8_t* index) {
  const Taps rows(p, s.stride_h, s.pad_h, s.R, s.H);
  for (int64_t q = 0; q < s.Q(); ++q) {
    const Taps columns(q, s.stride_w, s.pad_w, s.S, s.W);
    const float* origin = image + (rows.origin * s.W + columns.origin) * s.C;
    const int64_t out = q * s.C;
    int64_t c = 0;
    for (; c + kLanes <= s.C; c += kLanes) {
      Floats best;
      Ints place;
      max_window<Floats, Ints, two_by_two>(s, origin + c, rows, columns, best, place);
      put(y + out + c, best);
      if (index != nullptr) store_bytes(index + out + c, place);
    }
    for (; c < s.C; ++c) {
      int32_t place;
      max_window<float, int32_t, two_by_two>(s, origin + c, rows, columns, y[out + c], place);
      if (index != nullptr) index[out + c] = static_cast<uint8_t>(place);
    }
  }
}

}  // namespace

void pool_2x2(const float* x, int64_t rows, int64_t columns, int64_t channels, float* y, uint8_t* index) {
  PoolShape s;
  s.N = 1, s.H = 2 * rows, s.W = 2 * columns, s.C = channels;
  s.R = s.S = s.stride_h = s.stride_w = 2;
  const int64_t row = columns * channels;
  for (int64_t p = 0; p < rows; ++p) max_row<true>(s, x, p, y + p * row, index + p * row);
}

namespace {

struct Gradient {
  const float *dy, *mask;
  const uint8_t* index;
};

// What window element i sends to the place of its maximum, for a vector of channels or one.
template <class T>
inline T sent(const Gradient& g, int64_t i) {
  const T d = get<T>(g.dy + i);
  return g.mask == nullptr ? d : get<T>(g.mask + i) <= T{} ? T{} : d;
}
template <class T>
inline auto place_of(const Gradient& g, int64_t i) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return static_cast<int32_t>(g.index[i]);
  } else {
    return load_bytes(g.index + i);
  }
}

// dx of the image rows that window row p covers, where windows tile the image; behind the last window zeros.
void scatter_row(const PoolShape& s, const Gradient& g, int64_t p, float* dx) {
  const int64_t Q = s.Q(), line = s.W * s.C, rows = p * s.R;
  const auto scatter = [&](auto zero, int64_t from, float* corner) {
    using T = decltype(zero);
    const T d = sent<T>(g, from);
    const auto at = place_of<T>(g, from);
    for (int64_t r = 0; r < s.R; ++r)
      for (int64_t t = 0; t < s.S; ++t)
        put<T>(corner + r * line + t * s.C, at == static_cast<int32_t>(r * s.S + t) ? d : zero);
  };
  for (int64_t q = 0; q < Q; ++q) {
    float* corner = dx + rows * line + q * s.S * s.C;
    int64_t c = 0;
    for (; c + kLanes <= s.C; c += kLanes) scatter(Floats{}, q * s.C + c, corner + c);
    for (; c < s.C; ++c) scatter(0.0f, q * s.C + c, corner + c);
  }
  for (int64_t r = rows; r < rows + s.R; ++r)
    for (int64_t i = Q * s.S * s.C; i < line; ++i) dx[r * line + i] = 0;
  if (p + 1 == s.P())
    for (int64_t i = (p + 1) * s.R * line; i < s.H * line; ++i) dx[i] = 0;
}

// dx of one image row, where windows overlap or leave gaps: every pixel asks the windows that hold it.
void gather_row(const PoolShape& s, const Gradient& g, int64_t h, float* dx) {
  const int64_t P = s.P(), Q = s.Q(), C = s.C;
  const Windows rows(h, s.stride_h, s.pad_h, s.R, P);
  for (int64_t w = 0; w < s.W; ++w) {
    const Windows columns(w, s.stride_w, s.pad_w, s.S, Q);
    int64_t from[256], holders = 0;  // as many windows as a window has taps
    int32_t places[256];
    for (int64_t p = rows.first; p < rows.last; ++p)
      for (int64_t q = columns.first; q < columns.last; ++q) {
        const int64_t r = h + s.pad_h - p * s.stride_h, t = w + s.pad_w - q * s.stride_w;
        from[holders] = (p * Q + q) * C;
        places[holders++] = static_cast<int32_t>(r * s.S + t);
      }
    const auto gather = [&, holders](auto zero, int64_t c) {
      using T = decltype(zero);
      T sum = zero;
      for (int64_t i = 0; i < holders; ++i)
        sum += place_of<T>(g, from[i] + c) == places[i] ? sent<T>(g, from[i] + c) : zero;
      put<T>(dx + w * C + c, sum);
    };
    int64_t c = 0;
    for (; c + kLanes <= C; c += kLanes) gather(Floats{}, c);
    for (; c < C; ++c) gather(0.0f, c);
  }
}

}  // namespace

void max_pool_forward(Exec& ex, const MaxPoolForward& a) {
  const PoolShape& s = a.shape;
  check_max(s);
  const float* x = input(a.x, s.x(), "x");
  float* y = output(a.y, s.y(), "y");
  uint8_t* index = nullptr;
  if (!a.index.empty()) {
    check_operand(a.index, s.y(), "index");
    index = a.index.as<uint8_t>();
  }
  const int64_t P = s.P(), image = s.H * s.W * s.C, row = s.Q() * s.C;
  const bool two = s.R == 2 && s.S == 2 && s.pad_h == 0 && s.pad_w == 0;
  for_items(ex, s.N * P, a.x.count(), [&](int64_t item) {
    uint8_t* places = index == nullptr ? nullptr : index + item * row;
    const float* from = x + item / P * image;
    if (two) {
      max_row<true>(s, from, item % P, y + item * row, places);
    } else {
      max_row<false>(s, from, item % P, y + item * row, places);
    }
  });
}

void max_pool_backward(Exec& ex, const MaxPoolBackward& a) {
  const PoolShape& s = a.shape;
  check_max(s);
  check_operand(a.index, s.y(), "index");
  const Gradient g{input(a.dy, s.y(), "dy"), a.mask.empty() ? nullptr : input(a.mask, s.y(), "mask"),
                   a.index.as<uint8_t>()};
  float* dx = output(a.dx, s.x(), "dx");
  const int64_t P = s.P(), row = s.Q() * s.C, image = s.H * s.W * s.C;
  const auto from = [&](int64_t i) {
    return Gradient{g.dy + i, g.mask == nullptr ? nullptr : g.mask + i, g.index + i};
  };
  if (s.stride_h == s.R && s.stride_w == s.S && s.pad_h == 0 && s.pad_w == 0) {
    for_items(ex, s.N * P, a.dx.count(),
              [&](int64_t item) { scatter_row(s, from(item * row), item % P, dx + item / P * image); });
  } else {
    for_items(ex, s.N * s.H, a.dx.count(), [&](int64_t item) {
      gather_row(s, from(item / s.H * P * row), item % s.H, dx + item * s.W * s.C);
    });
  }
}

namespace {

// sum of x over one window, for the channels from `origin` on.
template <class T>
inline T sum_window(const PoolShape& s, const float* origin, const Taps& rows, const Taps& columns) {
  T sum = {};
  for (int64_t r = rows.first; r < rows.last; ++r)
    for (int64_t t = columns.first; t < columns.last; ++t) sum += get<T>(origin + (r * s.W + t) * s.C);
  return sum;
}

// sum of dy over the windows that hold one pixel.
template <class T>
inline T sum_windows(int64_t Q, int64_t C, const float* dy, const Windows& rows, const Windows& columns) {
  T sum = {};
  for (int64_t p = rows.first; p < rows.last; ++p)
    for (int64_t q = columns.first; q < columns.last; ++q) sum += get<T>(dy + (p * Q + q) * C);
  return sum;
}

}  // namespace

void average_pool_forward(Exec& ex, const AveragePoolForward& a) {
  const PoolShape& s = a.shape;
  check(s);
  const float* x = input(a.x, s.x(), "x");
  float* y = output(a.y, s.y(), "y");
  const int64_t P = s.P(), Q = s.Q();
  const float taps = static_cast<float>(s.R * s.S);
  for_items(ex, s.N * P, a.x.count(), [&](int64_t item) {
    const Taps rows(item % P, s.stride_h, s.pad_h, s.R, s.H);
    for (int64_t q = 0; q < Q; ++q) {
      const Taps columns(q, s.stride_w, s.pad_w, s.S, s.W);
      const float* origin = x + ((item / P * s.H + rows.origin) * s.W + columns.origin) * s.C;
      float* to = y + (item * Q + q) * s.C;
      int64_t c = 0;
      for (; c + kLanes <= s.C; c += kLanes)
        put(to + c, sum_window<Floats>(s, origin + c, rows, columns) / taps);
      for (; c < s.C; ++c) to[c] = sum_window<float>(s, origin + c, rows, columns) / taps;
    }
  });
}

void average_pool_backward(Exec& ex, const AveragePoolBackward& a) {
  const PoolShape& s = a.shape;
  check(s);
  const float* dy = input(a.dy, s.y(), "dy");
  float* dx = output(a.dx, s.x(), "dx");
  const int64_t P = s.P(), Q = s.Q(), C = s.C;
  const float taps = static_cast<float>(s.R * s.S);
  for_items(ex, s.N * s.H, a.dx.count(), [&](int64_t item) {
    const Windows rows(item % s.H, s.stride_h, s.pad_h, s.R, P);
    const float* from = dy + item / s.H * P * Q * C;
    for (int64_t w = 0; w < s.W; ++w) {
      const Windows columns(w, s.stride_w, s.pad_w, s.S, Q);
      float* to = dx + (item * s.W + w) * C;
      int64_t c = 0;
      for (; c + kLanes <= C; c += kLanes)
        put(to + c, sum_windows<Floats>(Q, C, from + c, rows, columns) / taps);
      for (; c < C; ++c) to[c] = sum_windows<float>(Q, C, from + c, rows, columns) / taps;
    }
  });
}

}  // namespace convoy::CONVOY_CPU
