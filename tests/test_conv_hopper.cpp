// Backward weights on Hopper, and first layers.
#include "conv_passes.h"
#include "kernels/conv_fold.h"
#include "kernels/conv_hopper_weights.h"

namespace convoy::reference {
namespace {

// What Hopper's kernel tells apart: tails of filters, channels, runs of taps, pixels; several blocks with parts of a
// tile; padding, strides.
const std::vector<ConvShape> kHopperWeights = {
    {1, 8, 8, 64, 64, 1, 1},
    {9, 6, 6, 40, 8, 1, 1},
    {3, 9, 7, 64, 136, 1, 1, 2, 2},
    {2, 7, 9, 64, 40, 3, 3, 1, 1, 1, 1},
    {1, 13, 9, 112, 72, 3, 3, 2, 2, 1, 1},
    {1, 6, 7, 64, 64, 5, 5, 1, 1, 2, 2},
    {1, 13, 11, 40, 24, 7, 7, 2, 2, 3, 3},
    {4, 11, 3, 192, 192, 2, 1, 3, 1, 1, 0},
};
TEST(Conv, HopperBackwardWeights) {
  if (!may_be_hopper()) GTEST_SKIP() << "not of compute capability 9.0";
  const auto test = [](const ConvShape& s, bool whole) {
    const Operands o(s, whole);
    test_backward_weights(s, o.x, o.dy, whole);
  };
  for_every(DType::kBF16, kHopperWeights, 0, [&](const ConvShape& s) { test(s, true); });
  for_every(DType::kF16, kHopperWeights, 0, [&](const ConvShape& s) { test(s, false); });
  for_every(DType::kBF16, {{1, 23, 21, 40, 8, 11, 11, 4, 4, 2, 2}}, 0,
            [&](const ConvShape& s) { test(s, true); });
  // The largest tiles; not emulated.
  for_every(DType::kBF16,
            {{16, 56, 56, 64, 64, 3, 3, 1, 1, 1, 1},
             {8, 56, 56, 64, 128, 3, 3, 1, 1, 1, 1},
             {8, 28, 28, 128, 128, 3, 3, 1, 1, 1, 1},
             {8, 14, 14, 256, 256, 3, 3, 1, 1, 1, 1},
             {8, 13, 13, 192, 384, 3, 3, 1, 1, 1, 1}},
            4, [&](const ConvShape& s) { test(s, true); });
}

#ifdef CONVOY_TEST_EMULATED
// Each tile, with two and with all steps a block.
TEST(Conv, HopperWeightTiles) {
  if (!may_be_hopper()) GTEST_SKIP() << "not of compute capability 9.0";
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (int tile = 0; tile < cuda::kHopperWeightsTileCount; ++tile)
      for (const bool all : {false, true}) {
        if (all && dtype == DType::kF16) continue;
        const ConvShape s = cuda::kHopperWeightsTiles[tile].patches
                                ? ConvShape{1, 8, 15, 72, 72, 3, 2, 1, 1, 1, 1}
                                : ConvShape{3, 7, 8, 64, 72, 5, 1, 1, 1, 2, 0};
        ASSERT_TRUE(cuda::kHopperWeightsTiles[tile].takes(s));
        for_every(dtype, {s}, 0, [&](const ConvShape&) {
          const Operands o(s, true);
          Array dw(DType::kF32, s.w()), db(DType::kF32, {s.K});
          Want weights, biases;
          for (const Sum& sum : products(s, s.w(), o.x, o.dy, 2)) weights.exact(sum);
          std::vector<Sum> sums(static_cast<size_t>(s.K));
          for (int64_t i = 0; i < o.dy.count(); ++i) sums[static_cast<size_t>(i % s.K)].add(o.dy.value(i));
          for (const Sum& sum : sums) biases.exact(sum);
          cuda::HopperWeightsPlan plan = cuda::hopper_weights_plan(s, tile, 2);
          if (all) plan = cuda::hopper_weights_plan(s, tile, plan.tiles * plan.steps);
          Array scratch(DType::kF32, {plan.floats()});
          check_everywhere(text("hopper_backward_weights tile ", tile, all ? " one block" : " steps by two"),
                           {{"dw", &dw, weights}, {"db", &db, biases}}, [&](Exec& ex) {
                             scratch.poison();
                             ex.scratch = View(scratch.view().data, DType::kU8, {plan.floats() * 4});
                             cuda::hopper_backward_weights(
                                 ex, {s, o.x.view(), o.dy.view(), dw.view(), db.view(), true}, plan);
                             ex.backend->synchronize(ex);
                             ex.scratch = View();
                             EXPECT_TRUE(scratch.guards_intact());
                           });
        });
      }
}
#endif

// Few channels at a stride, folded: images whose last pixels no window reaches, filters that end within a stride, a
// shape that is not folded backward.
TEST(Conv, HopperFolds) {
  if (!may_be_hopper()) GTEST_SKIP() << "not of compute capability 9.0";
  const std::vector<ConvShape> shapes = {
      {1, 19, 22, 3, 16, 11, 11, 4, 4, 2, 2}, {2, 13, 10, 4, 40, 5, 4, 3, 3, 1, 2},
      {1, 24, 17, 7, 8, 4, 4, 4, 2, 1, 0},    {3, 16, 16, 1, 24, 8, 8, 8, 8},
      {1, 9, 12, 5, 12, 4, 3, 3, 3, 2, 1},
  };
  const auto test = [](const ConvShape& s, bool whole) {
    ASSERT_TRUE(cuda::folds(s));
    const Operands o(s, whole);
    test_forward(s, o.x, o.w, whole);
    test_backward_weights(s, o.x, o.dy, whole);
  };
  for_every(DType::kBF16, shapes, 0, [&](const ConvShape& s) { test(s, true); });
  for_every(DType::kF16, shapes, 0, [&](const ConvShape& s) { test(s, false); });
  for_every(DType::kF16, {shapes[1]}, 0, [&](const ConvShape& s) {
    test_fused_pool(s, operand(s.x(), true, 1, 1), operand(s.w(), true, 1, 2));
  });
}

// Tails of pixels and channels are zeros beside a NaN.
TEST(Conv, HopperNanPropagates) {
  if (!may_be_hopper()) GTEST_SKIP() << "not of compute capability 9.0";
  for_every(DType::kBF16, {{2, 7, 9, 64, 40, 3, 3, 1, 1, 1, 1}, {1, 5, 5, 40, 8, 1, 1}}, 0,
            [](const ConvShape& s) {
              const Operands o(s, true);
              o.x.set(o.x.count() / 3, NAN);
              test_backward_weights(s, o.x, o.dy, true);
            });
}

}  // namespace
}  // namespace convoy::reference
