#include "kernels/fill.h"
#include "reference.h"

namespace convoy::reference {
namespace {

const std::vector<Shape> kShapes = {{0, 3}, {1}, {2, 3, 5, 7}, {8193}, {100, 331}};

TEST(Fill, Exact) {
  for_every_dtype([](DType dtype) {
    for (const Shape& s : kShapes)
      for (const double value : {0.0, -2.5, kNaN}) {
        Array y(dtype, s);
        Want want;
        want.values.assign(static_cast<size_t>(s.count()), value);
        check_everywhere(text("fill ", dtype_name(dtype), " ", s), {{"y", &y, want}}, [&](Exec& ex) {
          CONVOY_INVOKE(ex, fill, FillArgs{static_cast<float>(value), y.view()});
        });
      }
  });
}

TEST(Scale, OneRounding) {
  for_every_dtype([](DType dtype) {
    for (const Shape& s : kShapes)
      for (const float factor : {0.5f, -0.3f}) {
        const Array x = as(dtype, normals(s, 2));
        if (x.count() > 1) x.set(1, NAN);
        Array y(dtype, s);
        Want want;
        for (const double v : x.values()) want.within(v * factor, bound(1, std::abs(v * factor)));
        check_everywhere(text("scale ", dtype_name(dtype), " ", s, " by ", factor),
                         {{"y", &y, stored(dtype, want), x.values()}}, [&](Exec& ex) {
                           CONVOY_INVOKE(ex, scale, ScaleArgs{factor, y.view()});
                         });
      }
  });
}

TEST(CountNonfinite, Exact) {
  for_every_dtype([](DType dtype) {
    const double largest =
        dtype == DType::kF32 ? FLT_MAX : from_half(dtype, dtype == DType::kF16 ? 0x7bff : 0x7f7f);
    for (const Shape& s : kShapes) {
      const Array x = as(dtype, normals(s, 1));
      Array out(DType::kI32, {1});
      double bad = 0;
      for (int64_t i = 0; i < x.count(); i += 11) {
        x.set(i, i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY);
        ++bad;
      }
      if (x.count() > 20) x.set(1, largest), x.set(2, -largest);
      Want want;
      want.exact(bad);
      check_everywhere(text("count_nonfinite ", dtype_name(dtype), " ", s), {{"out", &out, want}},
                       [&](Exec& ex) {
                         CONVOY_INVOKE(ex, count_nonfinite, CountNonfinite{x.view(), out.view()});
                       });
    }
  });
}
// At no multiple of 16 bytes, over whatever the result held before.
TEST(CountNonfinite, AnyAlignment) {
  for_every_dtype([](DType dtype) {
    const Array x = as(dtype, normals({100}, 1));
    for (const int64_t i : {0, 1, 2, 60, 98, 99}) x.set(i, INFINITY);
    for (const int64_t first : {1, 2, 5}) {
      Array out(DType::kI32, {1});
      Want want;
      want.exact(first == 1 ? 4 : first == 2 ? 3 : 2);
      check_everywhere(text("count_nonfinite ", dtype_name(dtype), " from ", first),
                       {{"out", &out, want, {77}}}, [&](Exec& ex) {
                         CONVOY_INVOKE(ex, count_nonfinite,
                                       CountNonfinite{x.view().slice_rows(first, 99 - first), out.view()});
                       });
    }
  });
}

TEST(Fill, Errors) {
  const Array x = filled({4}, 1), bytes(DType::kU8, {4}), out(DType::kI32, {1}), wide(DType::kF32, {2, 3}, 5);
  expect_error("holds u8", [&](Exec& ex) { ex.backend->fill(ex, {0, bytes.view()}); });
  expect_error("rows 5 apart", [&](Exec& ex) { ex.backend->fill(ex, {0, wide.view()}); });
  expect_error("holds u8", [&](Exec& ex) { ex.backend->scale(ex, {2, bytes.view()}); });
  expect_error("rows 5 apart", [&](Exec& ex) { ex.backend->scale(ex, {2, wide.view()}); });
  expect_error("holds f32", [&](Exec& ex) {
    ex.backend->count_nonfinite(ex, {x.view(), x.view().slice_rows(0, 1)});
  });
  expect_error("expected 1", [&](Exec& ex) { ex.backend->count_nonfinite(ex, {x.view(), x.view()}); });
}

}  // namespace
}  // namespace convoy::reference
