#include "convoy/philox.h"
#include "kernels/normalize.h"
#include "reference.h"

namespace convoy::reference {
namespace {

const std::vector<Shape> kShapes = {{3, 28, 28, 1}, {5, 32, 32, 3}, {2, 5, 9, 4}, {2, 3, 7, 40}, {1, 1, 1, 3},
                                    {2, 2, 300, 3}, {1, 2, 3, 600}, {0, 8, 8, 3}, {4, 64, 64, 3}};

Array pixels_of(const Shape& shape) {
  Random random(1);
  Array p(DType::kU8, shape);
  p.each([&](int64_t) { return static_cast<double>(random.whole(0, 255)); });
  return p;
}
struct Constants {
  Array mean, stddev;
  explicit Constants(int64_t C) : mean(DType::kF32, {C}), stddev(DType::kF32, {C}) {
    mean.each([](int64_t c) { return 0.3 + 0.01 * static_cast<double>(c % 20); });
    stddev.each([](int64_t c) { return 0.2 + 0.01 * static_cast<double>(c % 7); });
  }
};

void test(DType dtype, const Shape& shape, const Augmentation& augmentation, const StepScalars* scalars) {
  const int64_t H = shape[1], W = shape[2], C = shape[3];
  const Array pixels = pixels_of(shape);
  const Constants constants(C);
  Array index(DType::kI32, {shape[0]}), y(dtype, shape);
  index.each([](int64_t n) { return 12345.0 + 7 * static_cast<double>(n); });
  Want want;
  for (int64_t i = 0; i < shape.count(); ++i) {
    const int64_t c = i % C, w = i / C % W, h = i / C / W % H, n = i / C / W / H;
    int64_t from_h = h, from_w = w;
    if (scalars != nullptr) {
      const Philox4 v = philox(augmentation.seed, 0, static_cast<uint32_t>(index.at<int32_t>(n)),
                               static_cast<uint32_t>(scalars->epoch), kAugmentStream);
      const int64_t places = 2 * augmentation.pad + 1;
      const bool flipped = augmentation.flip && v.v[2] % 2 == 1;
      from_h = h + v.v[0] % places - augmentation.pad;
      from_w = (flipped ? W - 1 - w : w) + v.v[1] % places - augmentation.pad;
    }
    if (from_h < 0 || from_h >= H || from_w < 0 || from_w >= W) {
      want.within(0, 0);
      continue;
    }
    Sum s;
    s.add(pixels.value(((n * H + from_h) * W + from_w) * C + c) / 255 / constants.stddev[c]);
    s.add(-double{constants.mean[c]} / constants.stddev[c]);
    want.within(s.value,
                bound(4, s.magnitude));  // the factor (2) and its product or the shift, the difference
  }
  check_everywhere(text("normalize ", dtype_name(dtype), " ", shape, " pad ", augmentation.pad,
                        augmentation.flip ? " flip" : ""),
                   {{"y", &y, stored(dtype, want)}}, [&](Exec& ex) {
                     NormalizeArgs a{scalars, augmentation,          pixels.view(),
                                     {},      constants.mean.view(), constants.stddev.view(),
                                     y.view()};
                     if (scalars != nullptr) a.index = index.view();
                     CONVOY_INVOKE(ex, normalize, a);
                   });
}

TEST(Normalize, Plain) {
  for_every_dtype([](DType dtype) {
    for (const Shape& s : kShapes) test(dtype, s, {}, nullptr);
  });
}
TEST(Normalize, Augmented) {
  for_every_dtype([](DType dtype) {
    for (const int64_t epoch : {0, 3}) {
      const Scalars scalars;
      scalars.get()->epoch = epoch;
      for (const Shape& s : kShapes)
        for (const int64_t pad : {0, 2, 4})
          for (const bool flip : {false, true})
            if (pad > 0 || flip) test(dtype, s, {pad, flip, 99}, scalars.get());
    }
  });
}

TEST(Normalize, Errors) {
  const Shape shape{2, 4, 4, 3};
  const Array pixels = pixels_of(shape), y(DType::kF32, shape), c2 = filled({2}, 1),
              index = labels_of({1, 2});
  const Constants c(3);
  const StepScalars scalars;
  const auto fails = [&](const char* part, const NormalizeArgs& a) {
    expect_error(part, [&](Exec& ex) { ex.backend->normalize(ex, a); });
  };
  const In m = c.mean.view(), s = c.stddev.view();
  fails("mean is 2", {nullptr, {}, pixels.view(), {}, c2.view(), s, y.view()});
  fails("stddev is 2", {nullptr, {}, pixels.view(), {}, m, c2.view(), y.view()});
  fails("holds f32", {nullptr, {}, y.view(), {}, m, s, y.view()});
  fails("y is 3", {nullptr, {}, pixels.view(), {}, m, s, c.mean.view()});
  fails("without scalars", {nullptr, {4, true, 1}, pixels.view(), index.view(), m, s, y.view()});
  fails("index is", {&scalars, {4, true, 1}, pixels.view(), {}, m, s, y.view()});
  fails("index is 3", {&scalars, {4, true, 1}, pixels.view(), labels_of({1, 2, 3}).view(), m, s, y.view()});
  fails("pad -1", {&scalars, {-1, true, 1}, pixels.view(), index.view(), m, s, y.view()});
}

}  // namespace
}  // namespace convoy::reference
