#include "kernels/pool.h"
#include "reference.h"

namespace convoy::reference {
namespace {

// N, H, W, C, R, S, stride h and w, pad h and w.
const std::vector<PoolShape> kShapes = {
    {1, 2, 2, 1, 2, 2, 2, 2},        {2, 8, 8, 32, 2, 2, 2, 2},       {3, 7, 9, 17, 2, 2, 2, 2},
    {5, 12, 12, 64, 2, 2, 2, 2},     {2, 13, 13, 5, 3, 3, 2, 2},      {1, 27, 27, 96, 3, 3, 2, 2},
    {2, 8, 8, 33, 3, 3, 2, 2, 1, 1}, {2, 6, 5, 16, 3, 3, 1, 1, 1, 1}, {2, 9, 9, 3, 3, 3, 3, 3},
    {2, 10, 7, 20, 2, 3, 3, 4},      {1, 5, 11, 4, 1, 4, 1, 2, 0, 3}, {2, 6, 6, 1, 6, 6, 1, 1},
    {3, 4, 4, 130, 4, 4, 4, 4},      {2, 9, 8, 15, 4, 2, 2, 3, 2, 1}, {2, 5, 5, 31, 1, 1, 2, 2},
    {1, 16, 16, 2, 16, 16, 16, 16},  {8, 16, 16, 48, 2, 2, 2, 2},     {0, 8, 8, 4, 2, 2, 2, 2},
};
std::string name(const char* operation, const PoolShape& s) {
  return text(operation, " ", dtype_name(test_dtype()), " x", s.x(), " window ", s.R, "x", s.S, " stride ",
              s.stride_h, "x", s.stride_w, " pad ", s.pad_h, "x", s.pad_w);
}

// f(x index, y index, tap) for every tap inside the image, in window order.
template <class F>
void each_tap(const PoolShape& s, const F& f) {
  for (int64_t y = 0; y < s.y().count(); ++y) {
    const int64_t c = y % s.C, q = y / s.C % s.Q(), p = y / s.C / s.Q() % s.P(), n = y / s.C / s.Q() / s.P();
    for (int64_t tap = 0; tap < s.R * s.S; ++tap) {
      const int64_t h = p * s.stride_h - s.pad_h + tap / s.S, w = q * s.stride_w - s.pad_w + tap % s.S;
      if (h >= 0 && h < s.H && w >= 0 && w < s.W) f(((n * s.H + h) * s.W + w) * s.C + c, y, tap);
    }
  }
}
struct Maximum {
  double value = kNaN;
  int64_t tap = -1;
};
std::vector<Maximum> maxima(const PoolShape& s, const Array& x) {
  std::vector<Maximum> best(static_cast<size_t>(s.y().count()));
  each_tap(s, [&](int64_t from, int64_t y, int64_t tap) {
    Maximum& m = best[static_cast<size_t>(y)];
    const double v = x.value(from);
    if (m.tap < 0 || v > m.value || (std::isnan(v) && !std::isnan(m.value))) m = {v, tap};
  });
  return best;
}

void test_max(const PoolShape& s, const Array& x) {
  const DType dtype = x.dtype();
  Array y(dtype, s.y()), index(DType::kU8, s.y()), dx(dtype, s.x());
  Want values, places;
  const std::vector<Maximum> best = maxima(s, x);
  for (const Maximum& m : best) {
    values.exact(m.value);
    places.exact(static_cast<double>(m.tap));
  }
  check_everywhere(name("max_pool_forward", s), {{"y", &y, values}, {"index", &index, places}},
                   [&](Exec& ex) {
                     CONVOY_INVOKE(ex, max_pool_forward, MaxPoolForward{s, x.view(), y.view(), index.view()});
                   });
  check_everywhere(name("max_pool_forward no index", s), {{"y", &y, values}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, max_pool_forward, MaxPoolForward{s, x.view(), y.view(), {}});
  });

  const Array dy = as(dtype, whole_numbers(s.y(), 50, 7));
  index.each([&](int64_t i) { return static_cast<double>(best[static_cast<size_t>(i)].tap); });
  y.each([&](int64_t i) { return best[static_cast<size_t>(i)].value; });
  for (const bool masked : {false, true}) {
    std::vector<Sum> sums(static_cast<size_t>(s.x().count()));
    each_tap(s, [&](int64_t to, int64_t from, int64_t tap) {
      const Maximum& m = best[static_cast<size_t>(from)];
      if (m.tap == tap && (!masked || !(m.value <= 0))) sums[static_cast<size_t>(to)].add(dy.value(from));
    });
    Want want;
    for (const Sum& sum : sums) want.exact(sum);
    check_everywhere(name("max_pool_backward", s) + (masked ? " mask" : ""),
                     {{"dx", &dx, stored(dtype, want)}}, [&](Exec& ex) {
                       MaxPoolBackward a{s, index.view(), dy.view(), {}, dx.view()};
                       if (masked) a.mask = y.view();
                       CONVOY_INVOKE(ex, max_pool_backward, a);
                     });
  }
}

// Few values, so that most windows hold a tie.
TEST(MaxPool, ExactWithTies) {
  for_every_dtype([](DType dtype) {
    for (const PoolShape& s : kShapes) test_max(s, as(dtype, whole_numbers(s.x(), 2, 1)));
  });
}
TEST(MaxPool, ExactWithoutTies) {
  for_every_dtype([](DType dtype) {
    for (const PoolShape& s : kShapes) test_max(s, as(dtype, normals(s.x(), 2)));
  });
}
TEST(MaxPool, NanAndInfinityWin) {
  for_every_dtype([](DType dtype) {
    for (const PoolShape& s : kShapes) {
      const Array x = as(dtype, whole_numbers(s.x(), 3, 3));
      for (int64_t i = 0; i < x.count(); i += 3) x.set(i, i % 2 == 0 ? NAN : -INFINITY);
      test_max(s, x);
    }
  });
}
TEST(MaxPool, NanGradientStaysWhereTheMaximumWas) {
  const PoolShape s{1, 4, 4, 17, 2, 2, 2, 2};
  const Array x = normals(s.x(), 4), dy = filled(s.y(), 1);
  dy[20] = NAN;
  Array index(DType::kU8, s.y()), dx(DType::kF32, s.x());
  const std::vector<Maximum> best = maxima(s, x);
  index.each([&](int64_t i) { return static_cast<double>(best[static_cast<size_t>(i)].tap); });
  Want want;
  want.values.resize(static_cast<size_t>(s.x().count()));
  each_tap(s, [&](int64_t to, int64_t from, int64_t tap) {
    if (best[static_cast<size_t>(from)].tap == tap) want.values[static_cast<size_t>(to)] = dy[from];
  });
  check_everywhere(name("max_pool_backward NaN", s), {{"dx", &dx, want}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, max_pool_backward, MaxPoolBackward{s, index.view(), dy.view(), {}, dx.view()});
  });
}

// Channels of whole vectors, at addresses that are not.
TEST(MaxPool, AnyAlignment) {
  for_every_dtype([](DType dtype) {
    const PoolShape s{2, 5, 6, 16, 3, 3, 2, 2, 1, 1};
    const Shape more_x{1 + s.x().count()}, more_y{1 + s.y().count()};
    const Array x = as(dtype, whole_numbers(more_x, 50, 1)), dy = as(dtype, whole_numbers(more_y, 9, 2));
    Array exact(dtype, s.x());
    exact.each([&](int64_t i) { return x.value(1 + i); });
    for (const int64_t skip : {0, 1}) {
      Array y(dtype, more_y), index(DType::kU8, more_y), dx(dtype, more_x);
      Want values, places, gradient;
      std::vector<Sum> sums(static_cast<size_t>(s.x().count()));
      const std::vector<Maximum> best = maxima(s, exact);
      for (const Maximum& m : best) values.exact(m.value), places.exact(static_cast<double>(m.tap));
      each_tap(s, [&](int64_t to, int64_t from, int64_t tap) {
        if (best[static_cast<size_t>(from)].tap == tap)
          sums[static_cast<size_t>(to)].add(dy.value(skip + from));
      });
      for (const Sum& sum : sums) gradient.exact(sum);
      // One element is not the pool's: the first, or the last.
      for (Want* w : {&values, &places, &gradient})
        w->values.insert(skip ? w->values.begin() : w->values.end(), 7);
      const auto sevens = [](const Array& a) { return Doubles(static_cast<size_t>(a.count()), 7); };
      check_everywhere(
          text("max_pool ", dtype_name(dtype), " behind ", skip),
          {{"y", &y, values, sevens(y)},
           {"index", &index, places, sevens(index)},
           {"dx", &dx, stored(dtype, gradient), sevens(dx)}},
          [&](Exec& ex) {
            const View indices = behind(index, skip, s.y());
            CONVOY_INVOKE(ex, max_pool_forward,
                          MaxPoolForward{s, behind(x, 1, s.x()), behind(y, skip, s.y()), indices});
            CONVOY_INVOKE(ex, max_pool_backward,
                          MaxPoolBackward{s, indices, behind(dy, skip, s.y()), {}, behind(dx, skip, s.x())});
          });
    }
  });
}

void test_average(const PoolShape& s, const Array& x, const Array& dy) {
  const DType dtype = x.dtype();
  Array y(dtype, s.y()), dx(dtype, s.x());
  std::vector<Sum> forward(static_cast<size_t>(s.y().count())), backward(static_cast<size_t>(s.x().count()));
  each_tap(s, [&](int64_t i, int64_t o, int64_t) {
    forward[static_cast<size_t>(o)].add(x.value(i));
    backward[static_cast<size_t>(i)].add(dy.value(o));
  });
  const double taps = static_cast<double>(s.R * s.S);
  // The sum of at most R·S terms, and the division.
  const auto want = [&](const std::vector<Sum>& sums) {
    Want w;
    for (const Sum& sum : sums) w.within(sum.value / taps, bound(taps + 1, sum.magnitude / taps));
    return stored(dtype, w);
  };
  check_everywhere(name("average_pool_forward", s), {{"y", &y, want(forward)}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, average_pool_forward, AveragePoolForward{s, x.view(), y.view()});
  });
  check_everywhere(name("average_pool_backward", s), {{"dx", &dx, want(backward)}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, average_pool_backward, AveragePoolBackward{s, dy.view(), dx.view()});
  });
}

TEST(AveragePool, WithinBounds) {
  for_every_dtype([](DType dtype) {
    for (const PoolShape& s : kShapes)
      test_average(s, as(dtype, normals(s.x(), 5)), as(dtype, normals(s.y(), 6)));
  });
}
// Multiples of R·S: every quotient is a whole number, and only those are right. Where taps have the dtype's digits.
TEST(AveragePool, Exact) {
  for_every_dtype([](DType dtype) {
    for (const PoolShape& s : kShapes) {
      const double taps = static_cast<double>(s.R * s.S);
      Array x = as(dtype, whole_numbers(s.x(), 7, 5));
      x.each([&](int64_t i) { return x.value(i) * taps; });
      Array y(dtype, s.y());
      std::vector<Sum> sums(static_cast<size_t>(s.y().count()));
      each_tap(s, [&](int64_t i, int64_t o, int64_t) { sums[static_cast<size_t>(o)].add(x.value(i)); });
      Want want;
      for (Sum& sum : sums) {
        sum.value /= taps;
        want.exact(sum);
      }
      check_everywhere(name("average_pool_forward exact", s), {{"y", &y, stored(dtype, want)}},
                       [&](Exec& ex) {
                         CONVOY_INVOKE(ex, average_pool_forward, AveragePoolForward{s, x.view(), y.view()});
                       });
    }
  });
}
TEST(AveragePool, NanPropagates) {
  for_every_dtype([](DType dtype) {
    for (const PoolShape& s : {kShapes[3], kShapes[6], kShapes[12]}) {
      const Array x = as(dtype, normals(s.x(), 5)), dy = as(dtype, normals(s.y(), 6));
      x.set(x.count() / 2, NAN);
      dy.set(dy.count() / 3, NAN);
      test_average(s, x, dy);
    }
  });
}

TEST(Pool, Errors) {
  const PoolShape s{2, 6, 6, 3, 2, 2, 2, 2};
  const Array x = filled(s.x(), 1), y = filled(s.y(), 1), index(DType::kU8, s.y()),
              wrong = filled({2, 3, 3, 4}, 1);
  const auto fails = [&](const char* part, const PoolShape& shape) {
    expect_error(part, [&](Exec& ex) {
      ex.backend->max_pool_forward(ex, {shape, x.view(), y.view(), index.view()});
    });
    expect_error(part, [&](Exec& ex) { ex.backend->average_pool_forward(ex, {shape, x.view(), y.view()}); });
    expect_error(part, [&](Exec& ex) { ex.backend->average_pool_backward(ex, {shape, y.view(), x.view()}); });
    expect_error(part, [&](Exec& ex) {
      ex.backend->max_pool_backward(ex, {shape, index.view(), y.view(), {}, x.view()});
    });
  };
  fails("expected", {2, 6, 8, 3, 2, 2, 2, 2});
  fails("stride 0", {2, 6, 6, 3, 2, 2, 0, 2});
  fails("pad 2", {2, 6, 6, 3, 2, 2, 2, 2, 2, 0});
  fails("exceeds", {2, 6, 6, 3, 7, 2, 2, 2});
  expect_error("expected 2x3x3x3", [&](Exec& ex) {
    ex.backend->max_pool_forward(ex, {s, x.view(), wrong.view(), index.view()});
  });
  expect_error("holds f32", [&](Exec& ex) {
    ex.backend->max_pool_forward(ex, {s, x.view(), y.view(), y.view()});
  });
  expect_error("expected 2x3x3x3", [&](Exec& ex) {
    ex.backend->max_pool_backward(ex, {s, index.view(), y.view(), wrong.view(), x.view()});
  });
  const PoolShape wide{1, 20, 20, 1, 17, 17, 1, 1};
  const Array wx = filled(wide.x(), 1), wy = filled(wide.y(), 1), wi(DType::kU8, wide.y());
  expect_error("256 taps", [&](Exec& ex) {
    ex.backend->max_pool_forward(ex, {wide, wx.view(), wy.view(), wi.view()});
  });
}

}  // namespace
}  // namespace convoy::reference
