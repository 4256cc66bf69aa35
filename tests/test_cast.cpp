#include "kernels/cast.h"
#include "reference.h"

namespace convoy::reference {
namespace {

const std::vector<Shape> kShapes = {{0, 3}, {1}, {2, 3, 5, 7}, {8193}, {100, 331}};

// The CPU takes f32 alone, CUDA every pair.
void for_every_pair(const std::function<void(DType, DType)>& body) {
  for_every_dtype([&](DType from) {
    body(from, DType::kF32);
    if (!is_cuda(*test_backends().back())) return;
    if (from == DType::kF32) test_dtype() = DType::kBF16;
    body(from, DType::kBF16);
    body(from, DType::kF16);
  });
}
void test(const std::string& title, const Array& x, DType to) {
  Array y(to, x.shape());
  Want want;
  for (const double v : x.values()) want.exact(rounded_to(to, v));
  check_everywhere(text("cast ", dtype_name(x.dtype()), " to ", dtype_name(to), " ", title),
                   {{"y", &y, want}}, [&](Exec& ex) {
                     CONVOY_INVOKE(ex, cast, CastArgs{x.view(), y.view()});
                   });
}

TEST(Cast, RoundsToNearest) {
  for_every_pair([](DType from, DType to) {
    for (const Shape& s : kShapes) test(text(s), as(from, normals(s, 1, 100)), to);
  });
}

// Ties, what is too large or too small for f16, and what is no number. f32's own subnormals may become 0.
TEST(Cast, SpecialNumbers) {
  const Doubles special = {0,
                           -0.0,
                           1 + 0x1p-8,
                           1 + 3 * 0x1p-8,
                           1 + 0x1p-11,
                           1 + 3 * 0x1p-11,
                           65504,
                           65519.99,
                           65520,
                           -65520,
                           1e6,
                           FLT_MAX,
                           -1e30,
                           0x1p-14,
                           0x1.8p-15,
                           0x1p-24,
                           0x1p-25,
                           0x1.000002p-25,
                           FLT_MIN,
                           INFINITY,
                           -INFINITY,
                           kNaN,
                           1 + 0x1p-9 + 0x1p-23};
  for_every_pair([&](DType from, DType to) {
    Array x(from, {static_cast<int64_t>(special.size())});
    x.each([&](int64_t i) { return special[static_cast<size_t>(i)]; });
    test("special", x, to);
  });
}

TEST(Cast, AnyAlignment) {
  for_every_pair([](DType from, DType to) {
    constexpr int64_t kCount = 45;
    const Array x = as(from, normals({kCount + 1}, 1));
    Array y(to, {kCount + 3});
    Want want;
    for (int64_t i = 0; i < 3; ++i) want.exact(7);
    for (int64_t i = 0; i < kCount; ++i) want.exact(rounded_to(to, x.value(1 + i)));
    check_everywhere(
        text("cast ", dtype_name(from), " to ", dtype_name(to), " unaligned"), {{"y", &y, want, {7, 7, 7}}},
        [&](Exec& ex) {
          CONVOY_INVOKE(ex, cast, CastArgs{x.view().slice_rows(1, kCount), y.view().slice_rows(3, kCount)});
        });
  });
}

TEST(Cast, Errors) {
  const Array x = filled({2, 3}, 1), y = filled({3, 2}, 1), bytes(DType::kU8, {2, 3}),
              wide(DType::kF32, {2, 3}, 5);
  expect_error("expected 2x3", [&](Exec& ex) { ex.backend->cast(ex, {x.view(), y.view()}); });
  expect_error("holds u8", [&](Exec& ex) { ex.backend->cast(ex, {x.view(), bytes.view()}); });
  expect_error("holds u8", [&](Exec& ex) { ex.backend->cast(ex, {bytes.view(), x.view()}); });
  expect_error("rows 5 apart", [&](Exec& ex) { ex.backend->cast(ex, {x.view(), wide.view()}); });
}

}  // namespace
}  // namespace convoy::reference
