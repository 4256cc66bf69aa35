#include "kernels/add.h"
#include "reference.h"

namespace convoy::reference {
namespace {

const std::vector<Shape> kShapes = {{0, 3}, {1}, {2, 3, 5, 7}, {8193}, {100, 331}};

Want sum(const Array& a, const Array& b, bool with_relu, bool whole) {
  Want want;
  for (int64_t i = 0; i < a.count(); ++i) {
    Sum s;
    s.add(a.value(i));
    s.add(b.value(i));
    if (with_relu) s.value = relu(s.value);
    want.add(s, 1, whole);
  }
  return stored(a.dtype(), want);
}
void test(const Array& a, const Array& b, bool whole) {
  Array y(a.dtype(), a.shape());
  for (const bool with_relu : {false, true}) {
    const Want want = sum(a, b, with_relu, whole);
    const std::string title = text("add ", dtype_name(a.dtype()), " ", a.shape(), with_relu ? " relu" : "");
    check_everywhere(title, {{"y", &y, want}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, add, AddArgs{a.view(), b.view(), y.view(), with_relu});
    });
    check_everywhere(title + " y is a", {{"y", &y, want, a.values()}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, add, AddArgs{y.view(), b.view(), y.view(), with_relu});
    });
    check_everywhere(title + " y is b", {{"y", &y, want, b.values()}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, add, AddArgs{a.view(), y.view(), y.view(), with_relu});
    });
  }
}

TEST(Add, Exact) {
  for_every_dtype([](DType dtype) {
    for (const Shape& s : kShapes)
      test(as(dtype, whole_numbers(s, 9, 1)), as(dtype, whole_numbers(s, 9, 2)), true);
  });
}
TEST(Add, Rounding) {
  for_every_dtype([](DType dtype) {
    for (const Shape& s : kShapes) test(as(dtype, normals(s, 1)), as(dtype, normals(s, 2)), false);
  });
}
TEST(Add, NanPropagates) {
  for_every_dtype([](DType dtype) {
    const Array a = as(dtype, whole_numbers({3, 40}, 9, 1)), b = as(dtype, whole_numbers({3, 40}, 9, 2));
    a.set(17, NAN);
    b.set(119, NAN);
    test(a, b, true);
  });
}
TEST(Add, Errors) {
  const Array a = filled({2, 3}, 1), b = filled({3, 2}, 1), bytes(DType::kU8, {2, 3});
  expect_error("expected 2x3", [&](Exec& ex) { ex.backend->add(ex, {a.view(), b.view(), a.view(), false}); });
  expect_error("expected 2x3", [&](Exec& ex) { ex.backend->add(ex, {a.view(), a.view(), b.view(), false}); });
  expect_error("holds u8", [&](Exec& ex) { ex.backend->add(ex, {a.view(), bytes.view(), a.view(), false}); });
}

}  // namespace
}  // namespace convoy::reference
