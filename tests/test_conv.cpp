#include "conv_passes.h"

namespace convoy::reference {
namespace {

// N, H, W, C, K, R, S, stride h and w, pad h and w.
const std::vector<ConvShape> kShapes = {
    {1, 1, 1, 1, 1, 1, 1},
    {2, 5, 5, 3, 4, 1, 1},
    {3, 4, 7, 17, 5, 1, 1},
    {2, 8, 8, 64, 32, 1, 1},
    {4, 9, 9, 16, 33, 1, 1, 2, 2},
    {2, 7, 7, 48, 64, 1, 1, 2, 2},
    {1, 3, 3, 1, 1, 3, 3},
    {1, 3, 3, 1, 2, 3, 3, 1, 1, 1, 1},
    {2, 28, 28, 1, 32, 3, 3},
    {1, 32, 32, 3, 32, 3, 3, 1, 1, 1, 1},
    {5, 16, 16, 3, 31, 3, 3, 1, 1, 1, 1},
    {2, 16, 16, 32, 64, 3, 3, 1, 1, 1, 1},
    {9, 8, 8, 16, 32, 3, 3, 1, 1, 1, 1},
    {8, 4, 4, 64, 48, 3, 3, 1, 1, 1, 1},
    {7, 2, 2, 33, 65, 3, 3, 1, 1, 1, 1},
    {6, 1, 1, 17, 16, 3, 3, 1, 1, 1, 1},
    {3, 6, 5, 5, 7, 3, 3, 1, 1, 1, 1},
    {2, 13, 11, 17, 33, 3, 3, 1, 1, 1, 1},
    {2, 11, 13, 33, 17, 3, 3},
    {1, 24, 26, 32, 1, 3, 3},
    {1, 17, 9, 1, 100, 3, 3, 1, 1, 1, 1},
    {4, 16, 16, 16, 32, 3, 3, 2, 2, 1, 1},
    {3, 9, 10, 5, 33, 3, 3, 2, 2, 1, 1},
    {2, 7, 15, 3, 8, 3, 3, 2, 1, 1, 0},
    {2, 12, 12, 6, 16, 5, 5},
    {1, 14, 14, 17, 20, 5, 5, 1, 1, 2, 2},
    {3, 27, 27, 16, 24, 5, 5, 1, 1, 2, 2},
    {1, 32, 32, 3, 16, 7, 7, 2, 2, 3, 3},
    {2, 21, 19, 3, 17, 7, 7, 2, 2, 3, 3},
    {1, 35, 35, 3, 64, 11, 11, 4, 4, 2, 2},
    {2, 23, 27, 3, 9, 11, 11, 4, 4, 2, 2},
    {2, 9, 8, 4, 6, 1, 7, 1, 1, 0, 3},
    {2, 8, 9, 5, 16, 7, 1, 1, 1, 3, 0},
    {3, 10, 7, 3, 5, 2, 4, 3, 2, 1, 2},
    {2, 5, 40, 16, 16, 5, 3, 1, 1, 0, 1},
    {2, 40, 3, 8, 16, 3, 3, 1, 1, 1, 0},
    {4, 3, 3, 20, 30, 2, 2, 1, 1, 1, 1},
    {2, 8, 8, 3, 5, 2, 2, 3, 3},
    {1, 6, 6, 130, 70, 3, 3, 1, 1, 1, 1},
    {13, 8, 8, 5, 9, 3, 3, 1, 1, 1, 1},
    {1, 64, 64, 3, 12, 3, 3, 1, 1, 1, 1},
    {0, 8, 8, 4, 8, 3, 3, 1, 1, 1, 1},
};
// What the GPU's kernels tell apart. Whole pieces of 8 channels: tails, several depths, strides, chunks of pixels in
// backward weights, and (the last) the largest tiles of each pass.
const std::vector<ConvShape> kAligned = {
    {1, 5, 5, 8, 8, 1, 1},
    {2, 5, 7, 24, 16, 3, 3, 1, 1, 1, 1},
    {1, 5, 5, 64, 32, 3, 3, 1, 1, 1, 1},
    {3, 7, 7, 16, 24, 3, 3, 2, 2, 1, 1},
    {2, 8, 8, 8, 72, 1, 1, 2, 2},
    {1, 9, 11, 8, 8, 5, 3, 2, 3, 2, 1},
    {2, 16, 15, 8, 16, 1, 1},
    {4, 10, 13, 8, 8, 1, 1},
    {2, 16, 16, 104, 72, 1, 1},
};
// Other channels: images of three, odd ones, one of the two aligned.
const std::vector<ConvShape> kGathered = {
    {1, 1, 1, 1, 1, 1, 1},
    {1, 7, 8, 3, 16, 3, 3, 1, 1, 1, 1},
    {1, 14, 14, 3, 8, 7, 7, 2, 2, 3, 3},
    {1, 15, 13, 3, 9, 11, 11, 4, 4, 2, 2},
    {2, 5, 6, 5, 7, 3, 3, 1, 1, 1, 1},
    {1, 5, 7, 8, 65, 3, 2, 1, 1, 1, 1},
    {1, 6, 5, 33, 16, 3, 3, 2, 2, 1, 1},
    {2, 16, 16, 3, 12, 1, 1},
    {2, 16, 15, 4, 10, 1, 1},
    {2, 4, 4, 12, 20, 2, 2, 3, 3},
    {0, 8, 8, 8, 8, 3, 3, 1, 1, 1, 1},
    {2, 4, 4, 8, 0, 3, 3, 1, 1, 1, 1},
};

// What Hopper's kernels tell apart: several tiles a block, tiles over rows and images, tails in every dimension, strides
// and phases, many taps, sums of several chunks of the depth.
const std::vector<ConvShape> kHopper = {
    {1, 12, 12, 64, 64, 3, 3, 1, 1, 1, 1},
    {3, 10, 11, 64, 128, 3, 3, 1, 1, 1, 1},
    {2, 17, 20, 64, 136, 1, 1},
    {5, 16, 16, 40, 40, 1, 1},
    {2, 9, 9, 128, 80, 3, 3, 2, 2, 1, 1},
    {1, 13, 10, 48, 40, 5, 5, 1, 1, 2, 2},
    {1, 18, 17, 64, 64, 11, 11, 4, 4, 2, 2},
    {2, 7, 7, 104, 256, 1, 1, 2, 2},
    {1, 9, 13, 40, 10, 3, 2, 1, 1, 0, 1},
    {1, 9, 10, 64, 48, 7, 7, 2, 2, 3, 3},
    {1, 5, 6, 256, 192, 3, 3, 1, 1, 1, 1},
    {2, 12, 8, 64, 64, 2, 4, 3, 2, 1, 2},
    {3, 1, 1, 64, 64, 3, 3, 1, 1, 1, 1},
    {2, 40, 3, 64, 64, 3, 1, 8, 1, 1, 0},
    {1, 20, 4, 64, 64, 1, 1, 9, 1},
};

template <class Body>
void for_every_shape(bool whole, const Body& body) {
  for (const auto* shapes : {&kShapes, &kAligned, &kGathered}) for_every(DType::kF32, *shapes, 4, body);
  for_every(DType::kBF16, kAligned, whole ? 0 : 4, body);
  for_every(DType::kBF16, kGathered, 4, body);
  for_every(DType::kF16, kAligned, 4, body);
  for_every(DType::kF16, kGathered, whole ? 0 : 4, body);
  if (may_be_hopper()) for_every(whole ? DType::kBF16 : DType::kF16, kHopper, 0, body);
}

TEST(Conv, ForwardExact) {
  for_every_shape(
      true, [](const ConvShape& s) { test_forward(s, Operands(s, true).x, Operands(s, true).w, true); });
}
TEST(Conv, ForwardRounding) {
  for_every_shape(
      false, [](const ConvShape& s) { test_forward(s, Operands(s, false).x, Operands(s, false).w, false); });
}
TEST(Conv, FusedPoolExact) {
  const auto test = [](const ConvShape& s) {
    // Few values: most windows hold ties.
    const Array x = operand(s.x(), true, 1, 1), w = operand(s.w(), true, 1, 2);
    test_fused_pool(s, x, w);
    if (x.count() > 0) x.set(x.count() / 2, NAN);
    test_fused_pool(s, x, w);
  };
  for_every(DType::kF32, kShapes, 4, test);
  for (const DType half : {DType::kBF16, DType::kF16}) {
    for_every(half, kAligned, 1, test);
    for_every(half, kGathered, 2, test);
  }
  if (may_be_hopper())
    for_every(DType::kBF16,
              {{3, 5, 7, 64, 40, 3, 3, 1, 1, 1, 1},
               {1, 20, 17, 48, 136, 1, 1},
               {2, 9, 12, 40, 10, 2, 2, 2, 3},
               {1, 4, 4, 320, 64, 3, 3, 1, 1, 1, 1}},
              0, test);
}
// Operands that are aligned to no more than their elements give what others give.
TEST(Conv, UnalignedExact) {
  const auto test = [](const ConvShape& s) {
    const Operands o(s, true);
    // The same one element further on.
    const auto moved = [](const Array& a) {
      Array to(test_dtype(), {a.count() + 1});
      for (int64_t i = 0; i < a.count(); ++i) to.set(i + 1, a.value(i));
      return to;
    };
    const auto view = [](const Array& a, const Shape& shape) {
      const View v = a.view();
      return View(v.data + dtype_bytes(v.dtype), v.dtype, shape);
    };
    const Array x = moved(o.x), w = moved(o.w), dy = moved(o.dy);
    const Array y(test_dtype(), s.y()), dx(test_dtype(), s.x()), dw(DType::kF32, s.w());
    const Array y1 = moved(y), dx1 = moved(dx), dw1(DType::kF32, {dw.count() + 1});
    for_every_table([&](Exec& ex) {
      CONVOY_INVOKE(ex, conv_forward, ConvForward{s, o.x.view(), o.w.view(), {}, y.view(), {}});
      CONVOY_INVOKE(ex, conv_backward_data,
                    ConvBackwardData{s, o.dy.view(), o.w.view(), dx.view(), o.x.view()});
      CONVOY_INVOKE(ex, conv_backward_weights,
                    ConvBackwardWeights{s, o.x.view(), o.dy.view(), dw.view(), {}, true});
      CONVOY_INVOKE(ex, conv_forward,
                    ConvForward{s, view(x, s.x()), view(w, s.w()), {}, view(y1, s.y()), {}});
      CONVOY_INVOKE(ex, conv_backward_data,
                    ConvBackwardData{s, view(dy, s.y()), view(w, s.w()), view(dx1, s.x()), view(x, s.x())});
      CONVOY_INVOKE(ex, conv_backward_weights,
                    ConvBackwardWeights{s, view(x, s.x()), view(dy, s.y()), view(dw1, s.w()), {}, true});
      const auto same = [&](const char* what, const Array& want, const Array& got) {
        for (int64_t i = 0; i < want.count(); ++i)
          ASSERT_EQ(want.value(i), got.value(i + 1)) << ex.backend->name << " " << name(what, s) << " " << i;
      };
      same("y", y, y1);
      same("dx", dx, dx1);
      same("dw", dw, dw1);
    });
  };
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for_every(dtype, {{1, 5, 6, 16, 8, 3, 3, 1, 1, 1, 1}}, 0, test);
}
TEST(Conv, BackwardDataExact) {
  for_every_shape(true, [](const ConvShape& s) {
    const Operands o(s, true);
    test_backward_data(s, o.dy, o.w, o.x, true);
  });
}
TEST(Conv, BackwardDataRounding) {
  for_every_shape(false, [](const ConvShape& s) {
    const Operands o(s, false);
    test_backward_data(s, o.dy, o.w, o.x, false);
  });
}
TEST(Conv, BackwardWeightsExact) {
  for_every_shape(true, [](const ConvShape& s) {
    const Operands o(s, true);
    test_backward_weights(s, o.x, o.dy, true);
  });
}
TEST(Conv, BackwardWeightsRounding) {
  for_every_shape(false, [](const ConvShape& s) {
    const Operands o(s, false);
    test_backward_weights(s, o.x, o.dy, false);
  });
}

// A NaN reaches exactly the results that its element is a term of.
TEST(Conv, NanPropagates) {
  const auto test = [](const ConvShape& s) {
    Operands o(s, true);
    o.x.set(o.x.count() / 3, NAN);
    test_forward(s, o.x, o.w, true);
    test_backward_weights(s, o.x, o.dy, true);
    o.dy.set(o.dy.count() / 2, NAN);
    test_backward_data(s, o.dy, o.w, Operands(s, true).x, true);
  };
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for_every(dtype,
              {{1, 7, 9, 5, 18, 3, 3, 1, 1, 1, 1},
               {3, 4, 4, 8, 32, 3, 3, 1, 1, 1, 1},
               {2, 9, 9, 3, 8, 3, 3, 2, 2, 1, 1},
               {1, 6, 6, 32, 64, 1, 1}},
              2, test);
  if (may_be_hopper())
    for_every(DType::kBF16, {{1, 6, 7, 64, 40, 3, 3, 1, 1, 1, 1}, {2, 9, 9, 48, 64, 3, 3, 2, 2, 1, 1}}, 0,
              test);
}

// A NaN in the mask is not <= 0.
TEST(Conv, NanInTheMask) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for_every(dtype, {{1, 6, 6, 17, 16, 3, 3, 1, 1, 1, 1}, {2, 6, 6, 16, 8, 1, 1}}, 0,
              [](const ConvShape& s) {
                const Operands o(s, true);
                const Array mask = operand(s.x(), true, 2, 9);
                mask.set(40, NAN);
                test_backward_data(s, o.dy, o.w, mask, true);
              });
}

TEST(Conv, AdjointsExact) {
  const auto adjoints = [](const ConvShape& s) {
    const Operands o(s, true);
    Array y(DType::kF32, s.y()), dx(DType::kF32, s.x()), dw(DType::kF32, s.w());
    for_every_table([&](Exec& ex) {
      CONVOY_INVOKE(ex, conv_forward, ConvForward{s, o.x.view(), o.w.view(), {}, y.view(), {}});
      CONVOY_INVOKE(ex, conv_backward_data, ConvBackwardData{s, o.dy.view(), o.w.view(), dx.view(), {}});
      CONVOY_INVOKE(ex, conv_backward_weights,
                    ConvBackwardWeights{s, o.x.view(), o.dy.view(), dw.view(), {}, true});
      const double dy_y = dot(o.dy, y);
      EXPECT_EQ(dy_y, dot(dx, o.x)) << ex.backend->name << " " << name("<dy, y> against <dx, x>", s);
      EXPECT_EQ(dy_y, dot(dw, o.w)) << ex.backend->name << " " << name("<dy, y> against <dw, w>", s);
    });
  };
  for_every(DType::kF32, kShapes, 2, adjoints);
  for_every(DType::kF32, kAligned, 0, adjoints);
  for_every(DType::kF32, kGathered, 1, adjoints);
}

TEST(Conv, Errors) {
  const ConvShape s{2, 6, 6, 3, 4, 3, 3, 1, 1, 1, 1};
  const Array x = filled(s.x(), 1), w = filled(s.w(), 1), y = filled(s.y(), 1),
              wrong = filled({2, 6, 6, 5}, 1);
  const Array b = filled({4}, 1), b5 = filled({5}, 1), bytes(DType::kU8, s.x()),
              wide(DType::kF32, s.y(), 200);
  using F = ConvForward;
  using D = ConvBackwardData;
  using W = ConvBackwardWeights;
  const auto forward = [&](const F& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, conv_forward, a); });
  };
  const auto data = [&](const D& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, conv_backward_data, a); });
  };
  const auto weights = [&](const W& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, conv_backward_weights, a); });
  };
  forward(F{s, wrong.view(), w.view(), {}, y.view(), {}});
  forward(F{s, x.view(), wrong.view(), {}, y.view(), {}});
  forward(F{s, x.view(), w.view(), {}, wrong.view(), {}});
  forward(F{s, x.view(), w.view(), {b5.view(), false}, y.view(), {}});
  forward(F{s, bytes.view(), w.view(), {}, y.view(), {}});
  forward(F{s, x.view(), w.view(), {}, wide.view(), {}});
  const Array half(DType::kBF16, s.w()), half_bias(DType::kBF16, {4});
  forward(F{s, x.view(), half.view(), {}, y.view(), {}});
  forward(F{s, x.view(), w.view(), {half_bias.view(), false}, y.view(), {}});
  weights(W{s, x.view(), y.view(), half.view(), b.view(), true});
  data(D{s, wrong.view(), w.view(), x.view(), {}});
  data(D{s, y.view(), wrong.view(), x.view(), {}});
  data(D{s, y.view(), w.view(), wrong.view(), {}});
  data(D{s, y.view(), w.view(), x.view(), wrong.view()});
  weights(W{s, wrong.view(), y.view(), w.view(), b.view(), true});
  weights(W{s, x.view(), wrong.view(), w.view(), b.view(), true});
  weights(W{s, x.view(), y.view(), wrong.view(), b.view(), true});
  weights(W{s, x.view(), y.view(), w.view(), b5.view(), true});
}

}  // namespace
}  // namespace convoy::reference
