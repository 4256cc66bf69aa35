// How Hopper's convolutions are cut: kernels/conv_hopper_plan.h.
#include <gtest/gtest.h>

#include <tuple>

#include "kernels/conv_hopper_plan.h"

namespace convoy::cuda {
namespace {

constexpr int64_t kH200 = 132;

// A 3x3 convolution of so many images of side x side pixels.
HopperShape layer(int64_t images, int64_t side, int64_t channels, int64_t filters) {
  const int64_t patches = (side + kPatchSide - 1) / kPatchSide;
  return {images * side * side, filters, 9 * hopper_blocks(channels), false, images * patches * patches, 3};
}
// Tiles' share of the rounds that all multiprocessors take.
double fill(const HopperShape& s, const HopperPlan& p) {
  const int64_t tiles = (s.rows + p.rows - 1) / p.rows * ((s.columns + p.columns - 1) / p.columns) * p.chunks;
  return static_cast<double>(tiles) / static_cast<double>((tiles + kH200 - 1) / kH200 * kH200);
}

TEST(ConvHopperPlan, ChunksCoverTheDepth) {
  for (const int64_t rows : {1, 127, 128, 1024, 12544, 200704, 1 << 29})
    for (const int64_t columns : {1, 64, 72, 512})
      for (const int64_t steps : {1, 2, 7, 9, 36, 72, 1000})
        for (const bool pooled : {false, true})
          for (const bool patches : {false, true}) {
            const HopperShape s{rows, columns, steps, pooled, patches ? (rows + 63) / 64 : 0, 3};
            const HopperPlan p = plan_hopper(s, kH200);
            EXPECT_TRUE((p.rows == 256 || (p.rows == 128 && !pooled)) &&
                        (p.columns == 128 || p.columns == 64));
            EXPECT_LT((p.chunks - 1) * p.chunk_steps, steps);
            EXPECT_GE(p.chunks * p.chunk_steps, steps);
            EXPECT_TRUE(p.chunks == 1 || (p.chunk_steps >= 4 && !p.patches));
            EXPECT_TRUE(patches || !p.patches);
            // The same sums on every device, in the scratch memory that the query asks for.
            for (const int64_t multiprocessors : {1, 4, 78, 114}) {
              const HopperPlan other = plan_hopper(s, multiprocessors);
              EXPECT_EQ(other.chunks, p.chunks);
              EXPECT_EQ(other.chunk_steps, p.chunk_steps);
              EXPECT_EQ(other.patches, p.patches);
            }
            EXPECT_EQ(hopper_scratch(s), p.chunks == 1 ? 0 : p.chunks * rows * columns * 4);
          }
  for (const HopperShape& nothing : {HopperShape{0, 64, 9}, HopperShape{64, 0, 9}, HopperShape{64, 64, 0}})
    EXPECT_EQ(hopper_scratch(nothing), 0);
}

// 256 images of 224x224: layers with many tiles take the largest, which read their operands least often, and patches
// where they fit the image.
TEST(ConvHopperPlan, Vgg16) {
  for (const auto& [side, channels, filters] :
       {std::tuple{224, 64, 64}, std::tuple{112, 64, 128}, std::tuple{112, 128, 128},
        std::tuple{56, 256, 256}, std::tuple{28, 512, 512}, std::tuple{14, 512, 512}}) {
    const HopperShape s = layer(256, side, channels, filters);
    const HopperPlan p = plan_hopper(s, kH200);
    EXPECT_EQ(p.rows, 256) << side;
    EXPECT_EQ(p.columns, filters == 64 ? 64 : 128) << side;
    EXPECT_EQ(p.chunks, 1) << side;
    EXPECT_EQ(p.patches, side % kPatchSide == 0) << side;
    EXPECT_GE(fill(s, p), 0.9) << side;
  }
}

TEST(ConvHopperPlan, FewTiles) {
  // The last layers of ResNet-18, 256 images of 7x7 pixels: parts would cost more than they save.
  EXPECT_EQ(plan_hopper(layer(256, 7, 512, 512), kH200).chunks, 1);
  // Those of VGG-16 with 256 images of 32x32: 2x2 pixels each.
  const HopperShape small = layer(256, 2, 512, 512);
  const HopperPlan p = plan_hopper(small, kH200);
  EXPECT_GT(p.chunks, 1);
  EXPECT_GE(fill(small, p), 0.9);
}

// What part of a depth's steps is channels.
TEST(ConvHopperPlan, Channels) {
  for (const int channels : {40, 48, 64, 80, 104, 128, 136, 192, 256})
    EXPECT_TRUE(hopper_fills_steps(channels)) << channels;
  for (const int channels : {8, 16, 32, 72}) EXPECT_FALSE(hopper_fills_steps(channels)) << channels;
}

}  // namespace
}  // namespace convoy::cuda
