#include "convoy/philox.h"
#include "kernels/dropout.h"
#include "reference.h"

namespace convoy::reference {
namespace {

// The header's formula, one unit at a time.
bool kept(const DropoutKey& key, int64_t row, int64_t unit) {
  const int64_t u = key.first_unit + unit;
  const Philox4 v =
      philox(key.seed, static_cast<uint32_t>(u / 4), static_cast<uint32_t>(key.scalars->first_row + row),
             static_cast<uint32_t>(key.scalars->step), kDropoutStream + key.layer);
  return uniform_float(v.v[u % 4]) >= key.p;
}
// One rounding for 1 / (1 - p) each of its two operations, one for the product; none where p is 0 or 0.5.
Want want(const DropoutKey& key, const Array& x) {
  Want w;
  const int64_t units = x.shape().row();
  for (int64_t i = 0; i < x.count(); ++i) {
    const double v = x.value(i) * (kept(key, i / units, i % units) ? 1 / (1 - double{key.p}) : 0);
    key.p == 0 || key.p == 0.5f ? w.exact(v) : w.within(v, bound(3, std::abs(v)));
  }
  return stored(x.dtype(), w);
}
void test(const DropoutKey& key, const Array& x) {
  Array y(x.dtype(), x.shape());
  const Want expected = want(key, x);
  const std::string title =
      text(dtype_name(x.dtype()), " ", x.shape(), " p ", key.p, " first unit ", key.first_unit);
  check_everywhere("dropout_forward " + title, {{"y", &y, expected}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, dropout_forward, DropoutForward{key, x.view(), y.view()});
  });
  check_everywhere("dropout_backward in place " + title, {{"dx", &y, expected, x.values()}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, dropout_backward, DropoutBackward{key, y.view(), y.view()});
  });
}

const std::vector<Shape> kShapes = {{1, 1},     {3, 5},          {2, 3, 5, 7}, {64, 128},
                                    {33, 1000}, {5, 12, 12, 64}, {0, 10},      {2, 4099}};
StepScalars numbers_of_step() {
  StepScalars s;
  s.step = 41;
  s.first_row = 1000;
  return s;
}
const StepScalars* step_scalars() {
  static const Scalars scalars(numbers_of_step());
  return scalars.get();
}

TEST(Dropout, MaskIsTheFormula) {
  for_every_dtype([](DType dtype) {
    for (const Shape& s : kShapes)
      for (const float p : {0.0f, 0.5f, 0.3f, 0.999f})
        for (const int64_t first_unit : {0, 1, 256, 258})
          test({step_scalars(), 77, 3, first_unit, p}, as(dtype, normals(s, 1)));
  });
}

TEST(Dropout, AnyAlignment) {
  for_every_dtype([](DType dtype) {
    const Shape shape{4, 64};
    const DropoutKey key{step_scalars(), 77, 3, 0, 0.5f};
    const Array x = as(dtype, normals({257}, 1));
    Array own(dtype, shape);
    own.each([&](int64_t i) { return x.value(1 + i); });
    Want expected = want(key, own);
    expected.values.insert(expected.values.begin(), 7);
    Array y(dtype, {257});
    check_everywhere(
        text("dropout_forward ", dtype_name(dtype), " unaligned"), {{"y", &y, expected, {7}}}, [&](Exec& ex) {
          CONVOY_INVOKE(ex, dropout_forward, DropoutForward{key, behind(x, 1, shape), behind(y, 1, shape)});
        });
  });
}

TEST(Dropout, NanPropagates) {
  for_every_dtype([](DType dtype) {
    for (const float p : {0.0f, 0.5f}) {
      const Array x = as(dtype, whole_numbers({4, 100}, 5, 1));
      for (int64_t i = 0; i < x.count(); i += 9) x.set(i, NAN);  // dropped or not
      test({step_scalars(), 77, 3, 0, p}, x);
    }
  });
}

// Rows [a, b) of a batch, on a worker of their own, get what they get in the whole; so do columns.
TEST(Dropout, PartsEqualTheWhole) {
  const Array x = normals({20, 301}, 2), whole(DType::kF32, {20, 301});
  const DropoutKey key{step_scalars(), 5, 9, 0, 0.4f};
  for_every_table([&](Exec& ex) {
    ex.backend->dropout_forward(ex, {key, x.view(), whole.view()});
    for (const auto& [first, last] : {std::pair<int64_t, int64_t>{0, 7}, {7, 8}, {8, 20}}) {
      const Scalars scalars(numbers_of_step());
      scalars.get()->first_row += first;
      DropoutKey part = key;
      part.scalars = scalars.get();
      const Array y(DType::kF32, {last - first, 301});
      ex.backend->dropout_forward(ex, {part, x.view().slice_rows(first, last - first), y.view()});
      ex.backend->synchronize(ex);
      EXPECT_EQ(0, std::memcmp(y.data(), whole.data() + first * 301, static_cast<size_t>(y.view().bytes())))
          << ex.backend->name << " rows " << first << " to " << last;
    }
    for (int64_t first = 0; first < 301; first += 43) {
      DropoutKey part = key;
      part.first_unit = first;
      Array columns(DType::kF32, {20, 43}), y(DType::kF32, {20, 43});
      columns.each([&](int64_t i) { return x[i / 43 * 301 + first + i % 43]; });
      ex.backend->dropout_forward(ex, {part, columns.view(), y.view()});
      ex.backend->synchronize(ex);
      for (int64_t i = 0; i < y.count(); ++i)
        ASSERT_EQ(y[i], whole[i / 43 * 301 + first + i % 43]) << ex.backend->name << " first unit " << first;
    }
  });
}

// Columns [first_unit, first_unit + columns) of every pixel's channels, for rows in any order, on workers of
// their own: what they get in the whole.
void test_splits(DType dtype) {
  struct Split {
    Shape whole;
    std::vector<int64_t> widths;
  };
  for (const Split& split : std::vector<Split>{{{7, 13}, {5, 0, 7, 1}},
                                               {{3, 1030}, {257, 516, 257}},
                                               {{4, 5, 3, 11}, {4, 4, 3}},
                                               {{3, 6, 6, 64}, {21, 21, 22}},
                                               {{2, 2, 3, 600}, {253, 252, 94, 1}},
                                               {{2, 9, 9, 4}, {1, 1, 1, 1}},
                                               {{3, 4, 4, 64}, {16, 32, 16}},
                                               {{9, 16, 16, 10}, {3, 7}},
                                               {{0, 4, 4, 6}, {3, 3}}}) {
    const Array x = as(DType::kF32, as(dtype, normals(split.whole, 3))), whole(DType::kF32, split.whole);
    const int64_t N = split.whole[0], units = split.whole.row(), C = split.whole[split.whole.rank - 1];
    Random random(4);
    Array order(DType::kI32, {N});
    order.each([](int64_t i) { return i; });
    for (int64_t i = N - 1; i > 0; --i)
      std::swap(order.at<int32_t>(i), order.at<int32_t>(random.whole(0, i)));
    Array numbers(DType::kI32, {N});
    numbers.each([&](int64_t i) { return step_scalars()->first_row + order.at<int32_t>(i); });
    DropoutKey key{step_scalars(), 5, 9, 0, 0.4f};
    Exec plain = cpu_exec(cpu_backend("auto"), 1);
    plain.backend->dropout_forward(plain, {key, x.view(), whole.view()});
    key.unsplit_columns = C;
    for (const bool permuted : {false, true}) {
      key.rows = permuted ? In(numbers.view()) : In();
      key.first_unit = 0;
      for (const int64_t width : split.widths) {
        key.columns = width;
        Shape shape = split.whole;
        shape.dim[static_cast<size_t>(shape.rank - 1)] = width;
        Array part(dtype, shape), y(dtype, shape);
        Want expected;
        const auto source = [&](int64_t i) {
          const int64_t n = i / shape.row(), e = i % shape.row();
          return (permuted ? order.at<int32_t>(n) : n) * units + e / width * C + key.first_unit + e % width;
        };
        part.each([&](int64_t i) { return x[source(i)]; });
        for (int64_t i = 0; i < part.count(); ++i) expected.exact(whole[source(i)]);
        check_everywhere(text("dropout ", dtype_name(dtype), " ", shape, " first unit ", key.first_unit,
                              permuted ? " permuted" : ""),
                         {{"y", &y, stored(dtype, expected)}}, [&](Exec& ex) {
                           CONVOY_INVOKE(ex, dropout_forward, DropoutForward{key, part.view(), y.view()});
                         });
        key.first_unit += width;
      }
    }
    // Rows in another order without a split.
    key = {step_scalars(), 5, 9, 0, 0.4f, numbers.view()};
    Array mixed(dtype, split.whole), dx(dtype, split.whole);
    mixed.each([&](int64_t i) { return x[order.at<int32_t>(i / units) * units + i % units]; });
    Want expected;
    for (int64_t i = 0; i < x.count(); ++i)
      expected.exact(whole[order.at<int32_t>(i / units) * units + i % units]);
    check_everywhere(text("dropout_backward permuted ", split.whole), {{"dx", &dx, stored(dtype, expected)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, dropout_backward, DropoutBackward{key, mixed.view(), dx.view()});
                     });
  }
}
TEST(Dropout, SplitViewsEqualTheWhole) {
  for_every_dtype(test_splits);
}

// Other steps, layers and seeds drop other units.
TEST(Dropout, KeysSeparate) {
  const Scalars next(numbers_of_step());
  next.get()->step += 1;
  const StepScalars* now = step_scalars();
  const DropoutKey a{now, 5, 9, 0, 0.5f}, step{next.get(), 5, 9, 0, 0.5f}, layer{now, 5, 8, 0, 0.5f},
      seed{now, 6, 9, 0, 0.5f};
  const Array x = filled({10, 1000}, 1);
  const auto masks = [&](const DropoutKey& key) {
    const Array y(DType::kF32, x.shape());
    Exec ex = cpu_exec(cpu_backend("auto"), 1);
    ex.backend->dropout_forward(ex, {key, x.view(), y.view()});
    return y.values();
  };
  for (const DropoutKey* other : {&step, &layer, &seed}) {
    const Doubles u = masks(a), v = masks(*other);
    int64_t equal = 0;
    for (size_t i = 0; i < u.size(); ++i) equal += u[i] == v[i];
    // 10,000 fair coins: 6 standard deviations of 50.
    EXPECT_NEAR(static_cast<double>(equal), 5000, 300);
  }
}

TEST(Dropout, Errors) {
  const Array x = filled({2, 3}, 1), y = filled({3, 2}, 1);
  const auto fails = [&](const char* part, const DropoutKey& key, const View& out) {
    expect_error(part, [&](Exec& ex) { ex.backend->dropout_forward(ex, {key, x.view(), out}); });
    expect_error(part, [&](Exec& ex) { ex.backend->dropout_backward(ex, {key, x.view(), out}); });
  };
  fails("expected 2x3", {step_scalars(), 1, 0, 0, 0.5f}, y.view());
  fails("not in [0, 1)", {step_scalars(), 1, 0, 0, 1.0f}, x.view());
  fails("not in [0, 1)", {step_scalars(), 1, 0, 0, NAN}, x.view());
  fails("no scalars", {nullptr, 1, 0, 0, 0.5f}, x.view());
  const Array rows3 = labels_of({1, 2, 3});
  fails("rows is 3", {step_scalars(), 1, 0, 0, 0.5f, rows3.view()}, x.view());
  fails("holds f32", {step_scalars(), 1, 0, 0, 0.5f, filled({2}, 1).view()}, x.view());
  fails("columns 0+2 of 4", {step_scalars(), 1, 0, 0, 0.5f, {}, 2, 4}, x.view());
  fails("columns 2+3 of 4", {step_scalars(), 1, 0, 2, 0.5f, {}, 3, 4}, x.view());
}

}  // namespace
}  // namespace convoy::reference
