#include "kernels/fill.h"
#include "reference.h"

namespace convoy::reference {
namespace {

const std::vector<Shape> kShapes = {{0, 3}, {1}, {2, 3, 5, 7}, {8193}, {100, 331}};

TEST(Fill, Exact) {
  for (const Shape& s : kShapes)
    for (const double value : {0.0, -2.5, kNaN}) {
      Array y(DType::kF32, s);
      Want want;
      want.values.assign(static_cast<size_t>(s.count()), value);
      check_everywhere(text("fill ", s), {{"y", &y, want}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, fill, FillArgs{static_cast<float>(value), y.view()});
      });
    }
}

TEST(CountNonfinite, Exact) {
  for (const Shape& s : kShapes) {
    const Array x = normals(s, 1);
    Array out(DType::kI32, {1});
    double bad = 0;
    for (int64_t i = 0; i < x.count(); i += 11) {
      x[i] = i % 3 == 0 ? NAN : i % 3 == 1 ? INFINITY : -INFINITY;
      ++bad;
    }
    if (x.count() > 20) x[1] = FLT_MAX, x[2] = -FLT_MAX;
    Want want;
    want.exact(bad);
    check_everywhere(text("count_nonfinite ", s), {{"out", &out, want}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, count_nonfinite, CountNonfinite{x.view(), out.view()});
    });
  }
}

TEST(Fill, Errors) {
  const Array x = filled({4}, 1), bytes(DType::kU8, {4}), out(DType::kI32, {1}), wide(DType::kF32, {2, 3}, 5);
  expect_error("holds u8", [&](Exec& ex) { ex.backend->fill(ex, {0, bytes.view()}); });
  expect_error("rows 5 apart", [&](Exec& ex) { ex.backend->fill(ex, {0, wide.view()}); });
  expect_error("holds f32", [&](Exec& ex) {
    ex.backend->count_nonfinite(ex, {x.view(), x.view().slice_rows(0, 1)});
  });
  expect_error("expected 1", [&](Exec& ex) { ex.backend->count_nonfinite(ex, {x.view(), x.view()}); });
}

}  // namespace
}  // namespace convoy::reference
