#include <climits>

#include "kernels/each.cuh"
#include "kernels/pool.h"

namespace convoy::cuda {
namespace {

// PoolShape for the device: extents and offsets in an image fit an int.
struct Pool {
  int H, W, C, P, Q, R, S, stride_h, stride_w, pad_h, pad_w;
  int64_t x_image, y_image;  // elements
};

Pool checked(const PoolShape& s) {
  CONVOY_CHECK(s.R >= 1 && s.S >= 1 && s.stride_h >= 1 && s.stride_w >= 1, "window ", s.R, "x", s.S,
               " stride ", s.stride_h, "x", s.stride_w);
  CONVOY_CHECK(s.pad_h >= 0 && s.pad_h < s.R && s.pad_w >= 0 && s.pad_w < s.S, "pad ", s.pad_h, "x", s.pad_w,
               " is not smaller than the window ", s.R, "x", s.S);
  CONVOY_CHECK(s.H + 2 * s.pad_h >= s.R && s.W + 2 * s.pad_w >= s.S, "window ", s.R, "x", s.S, " exceeds ",
               s.x());
  for (const int64_t extent : {s.stride_h, s.stride_w, s.R * s.S, s.x().row(), s.y().row()})
    CONVOY_CHECK(extent < INT_MAX / 4, "window ", s.R, "x", s.S, " stride ", s.stride_h, "x", s.stride_w,
                 " and images of ", s.x(), " are too large");
  const auto whole = [](int64_t v) { return static_cast<int>(v); };
  return {whole(s.H),     whole(s.W),  whole(s.C),        whole(s.P()),      whole(s.Q()),
          whole(s.R),     whole(s.S),  whole(s.stride_h), whole(s.stride_w), whole(s.pad_h),
          whole(s.pad_w), s.x().row(), s.y().row()};
}

Pool checked_max(const PoolShape& s) {
  const Pool pool = checked(s);
  CONVOY_CHECK(s.R * s.S <= 256, "window ", s.R, "x", s.S, " has more than 256 taps");
  return pool;
}

// The place of the i-th vector of kPack channels in [N, rows, columns, C].
template <int kPack>
struct Place {
  int64_t n;
  int row, column, channel, offset;  // offset: of the element in its image
  __device__ Place(int64_t i, int rows, int columns, int channels) {
    const unsigned packs = static_cast<unsigned>(channels / kPack),
                   line = packs * static_cast<unsigned>(columns);
    const unsigned image = line * static_cast<unsigned>(rows);
    n = i / image;
    const unsigned inside = static_cast<unsigned>(i - n * image);  // small numbers divide fast
    row = static_cast<int>(inside / line);
    column = static_cast<int>(inside % line / packs);
    channel = static_cast<int>(inside % packs) * kPack;
    offset = static_cast<int>(inside) * kPack;
  }
};

// The windows [first, last) that hold the pixel `at`.
struct Windows {
  int first, last;
  __device__ Windows(int at, int stride, int pad, int window, int windows) {
    const int from = at + pad - window + 1, to = (at + pad) / stride + 1;
    first = from > 0 ? (from + stride - 1) / stride : 0;
    last = to < windows ? to : windows;
  }
};

// The tap's place in the image; outside() where there is none.
struct Tap {
  int h, w;
  __device__ Tap(const Pool& s, int p, int q, int r, int t)
      : h(p * s.stride_h - s.pad_h + r), w(q * s.stride_w - s.pad_w + t) {}
  __device__ bool inside(const Pool& s) const { return h >= 0 && h < s.H && w >= 0 && w < s.W; }
  __device__ int offset(const Pool& s) const { return (h * s.W + w) * s.C; }
};

// kWindow is the window's extent each way, or 0: then the shape says, and nothing is unrolled.
template <class T, int kPack, int kWindow>
struct MaxForward {
  Pool s;
  const T* x;
  T* y;
  uint8_t* index;
  __device__ void operator()(int64_t i) const {
    const Place<kPack> at(i, s.P, s.Q, s.C);
    const T* image = x + at.n * s.x_image + at.channel;
    const int R = kWindow > 0 ? kWindow : s.R, S = kWindow > 0 ? kWindow : s.S;
    float best[kPack] = {};
    int place[kPack] = {};
    bool first = true;
    for (int r = 0; r < R; ++r)
      for (int t = 0; t < S; ++t) {
        const Tap tap(s, at.row, at.column, r, t);
        if (!tap.inside(s)) continue;
        const Pack<T, kPack> in = load<kPack>(image + tap.offset(s));
        for (int j = 0; j < kPack; ++j) {
          const float v = in.v[j];
          // A NaN wins, the first one stays.
          if (first || v > best[j] || (v != v && best[j] == best[j])) {
            best[j] = v;
            place[j] = r * S + t;
          }
        }
        first = false;
      }
    const int64_t to = at.n * s.y_image + at.offset;
    store_floats(y + to, best);
    if (index == nullptr) return;
    Pack<uint8_t, kPack> places;
    for (int j = 0; j < kPack; ++j) places.v[j] = static_cast<uint8_t>(place[j]);
    store(index + to, places);
  }
};

// Every pixel asks the windows that hold it, in their order.
template <class T, int kPack>
struct MaxBackward {
  Pool s;
  const uint8_t* index;
  const T *dy, *mask;
  T* dx;
  __device__ void operator()(int64_t i) const {
    const Place<kPack> at(i, s.H, s.W, s.C);
    const Windows rows(at.row, s.stride_h, s.pad_h, s.R, s.P);
    const Windows columns(at.column, s.stride_w, s.pad_w, s.S, s.Q);
    float sums[kPack] = {};
    for (int p = rows.first; p < rows.last; ++p)
      for (int q = columns.first; q < columns.last; ++q) {
        const int r = at.row + s.pad_h - p * s.stride_h, t = at.column + s.pad_w - q * s.stride_w;
        const int64_t from = at.n * s.y_image + (p * s.Q + q) * s.C + at.channel;
        const Pack<uint8_t, kPack> places = load<kPack>(index + from);
        const Pack<T, kPack> in = load<kPack>(dy + from);
        Pack<T, kPack> kept = in;
        if (mask != nullptr) kept = load<kPack>(mask + from);
        for (int j = 0; j < kPack; ++j) {
          const bool sent = mask == nullptr || !(static_cast<float>(kept.v[j]) <= 0);
          if (sent && places.v[j] == r * s.S + t) sums[j] += static_cast<float>(in.v[j]);
        }
      }
    store_floats(dx + at.n * s.x_image + at.offset, sums);
  }
};

template <class T, int kPack>
struct AverageForward {
  Pool s;
  const T* x;
  T* y;
  __device__ void operator()(int64_t i) const {
    const Place<kPack> at(i, s.P, s.Q, s.C);
    const T* image = x + at.n * s.x_image + at.channel;
    float sums[kPack] = {};
    for (int r = 0; r < s.R; ++r)
      for (int t = 0; t < s.S; ++t) {
        const Tap tap(s, at.row, at.column, r, t);
        if (!tap.inside(s)) continue;
        const Pack<T, kPack> in = load<kPack>(image + tap.offset(s));
        for (int j = 0; j < kPack; ++j) sums[j] += static_cast<float>(in.v[j]);
      }
    const float taps = static_cast<float>(s.R * s.S);
    for (int j = 0; j < kPack; ++j) sums[j] /= taps;
    store_floats(y + at.n * s.y_image + at.offset, sums);
  }
};

template <class T, int kPack>
struct AverageBackward {
  Pool s;
  const T* dy;
  T* dx;
  __device__ void operator()(int64_t i) const {
    const Place<kPack> at(i, s.H, s.W, s.C);
    const Windows rows(at.row, s.stride_h, s.pad_h, s.R, s.P);
    const Windows columns(at.column, s.stride_w, s.pad_w, s.S, s.Q);
    float sums[kPack] = {};
    for (int p = rows.first; p < rows.last; ++p)
      for (int q = columns.first; q < columns.last; ++q) {
        const int64_t from = at.n * s.y_image + (p * s.Q + q) * s.C + at.channel;
        const Pack<T, kPack> in = load<kPack>(dy + from);
        for (int j = 0; j < kPack; ++j) sums[j] += static_cast<float>(in.v[j]);
      }
    const float taps = static_cast<float>(s.R * s.S);
    for (int j = 0; j < kPack; ++j) sums[j] /= taps;
    store_floats(dx + at.n * s.x_image + at.offset, sums);
  }
};

// f(pack) with the most channels that T's vectors, the shape and the operands allow: a vector's, or 1.
template <class T, class F, class... Pointers>
void with_pack(const Pool& s, const uint8_t* index, const F& f, Pointers... pointers) {
  constexpr int kPack = kVectorBytes / static_cast<int>(sizeof(T));
  if (s.C % kPack == 0 && aligned(kVectorBytes, pointers...) && aligned(kPack, index)) {
    f(std::integral_constant<int, kPack>());
  } else {
    f(std::integral_constant<int, 1>());
  }
}

}  // namespace

void max_pool_forward(Exec& ex, const MaxPoolForward& a) {
  const Pool s = checked_max(a.shape);
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = operand<T>(a.x, a.shape.x(), "x");
    T* y = operand<T>(a.y, a.shape.y(), "y");
    uint8_t* index = a.index.empty() ? nullptr : operand<uint8_t>(a.index, a.shape.y(), "index");
    with_pack<T>(
        s, index,
        [&](auto pack) {
          constexpr int kPack = decltype(pack)::value;
          const int64_t items = a.y.count() / kPack;
          if (s.R == 2 && s.S == 2) {
            each(ex, items, MaxForward<T, kPack, 2>{s, x, y, index});
          } else if (s.R == 3 && s.S == 3) {
            each(ex, items, MaxForward<T, kPack, 3>{s, x, y, index});
          } else {
            each(ex, items, MaxForward<T, kPack, 0>{s, x, y, index});
          }
        },
        x, y);
  });
}

void max_pool_backward(Exec& ex, const MaxPoolBackward& a) {
  const Pool s = checked_max(a.shape);
  with_float(a.dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    const uint8_t* index = operand<uint8_t>(a.index, a.shape.y(), "index");
    const T* dy = operand<T>(a.dy, a.shape.y(), "dy");
    const T* mask = a.mask.empty() ? nullptr : operand<T>(a.mask, a.shape.y(), "mask");
    T* dx = operand<T>(a.dx, a.shape.x(), "dx");
    with_pack<T>(
        s, index,
        [&](auto pack) {
          constexpr int kPack = decltype(pack)::value;
          each(ex, a.dx.count() / kPack, MaxBackward<T, kPack>{s, index, dy, mask, dx});
        },
        dy, mask, dx);
  });
}

void average_pool_forward(Exec& ex, const AveragePoolForward& a) {
  const Pool s = checked(a.shape);
  with_float(a.x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* x = operand<T>(a.x, a.shape.x(), "x");
    T* y = operand<T>(a.y, a.shape.y(), "y");
    with_pack<T>(
        s, nullptr,
        [&](auto pack) {
          constexpr int kPack = decltype(pack)::value;
          each(ex, a.y.count() / kPack, AverageForward<T, kPack>{s, x, y});
        },
        x, y);
  });
}

void average_pool_backward(Exec& ex, const AveragePoolBackward& a) {
  const Pool s = checked(a.shape);
  with_float(a.dy.dtype, [&](auto zero) {
    using T = decltype(zero);
    const T* dy = operand<T>(a.dy, a.shape.y(), "dy");
    T* dx = operand<T>(a.dx, a.shape.x(), "dx");
    with_pack<T>(
        s, nullptr,
        [&](auto pack) {
          constexpr int kPack = decltype(pack)::value;
          each(ex, a.dx.count() / kPack, AverageBackward<T, kPack>{s, dy, dx});
        },
        dy, dx);
  });
}

}  // namespace convoy::cuda
