// How Hopper's backward weights is cut: on the host, without a GPU.
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "kernels/conv_hopper_weights.h"

namespace convoy::cuda {
namespace {

struct Layer {
  std::string name;
  ConvShape shape;
};
// At 256 images.
std::vector<Layer> layers() {
  const auto square = [](int64_t extent, int64_t C, int64_t K, int64_t taps, int64_t stride, int64_t pad) {
    return ConvShape{256, extent, extent, C, K, taps, taps, stride, stride, pad, pad};
  };
  return {
      {"vgg conv1_2", square(224, 64, 64, 3, 1, 1)},    {"vgg conv2_1", square(112, 64, 128, 3, 1, 1)},
      {"vgg conv2_2", square(112, 128, 128, 3, 1, 1)},  {"vgg conv3_1", square(56, 128, 256, 3, 1, 1)},
      {"vgg conv3_2", square(56, 256, 256, 3, 1, 1)},   {"vgg conv4_1", square(28, 256, 512, 3, 1, 1)},
      {"vgg conv4_2", square(28, 512, 512, 3, 1, 1)},   {"vgg conv5_1", square(14, 512, 512, 3, 1, 1)},
      {"alexnet conv2", square(27, 64, 192, 5, 1, 2)},  {"alexnet conv3", square(13, 192, 384, 3, 1, 1)},
      {"alexnet conv4", square(13, 384, 256, 3, 1, 1)}, {"alexnet conv5", square(13, 256, 256, 3, 1, 1)},
      {"resnet l1", square(56, 64, 64, 3, 1, 1)},       {"resnet l2.0.c1", square(56, 64, 128, 3, 2, 1)},
      {"resnet l2", square(28, 128, 128, 3, 1, 1)},     {"resnet l2.ds", square(56, 64, 128, 1, 2, 0)},
      {"resnet l3", square(14, 256, 256, 3, 1, 1)},     {"resnet l4", square(7, 512, 512, 3, 1, 1)},
      {"cifar conv5_1", square(2, 512, 512, 3, 1, 1)},
  };
}

// Every step of every tile is done by one block, whose parts have places of their own.
void check(const std::string& name, const ConvShape& s) {
  SCOPED_TRACE(name);
  ASSERT_TRUE(hopper_takes_weights(s));
  const HopperWeightsPlan p = plan_hopper_weights(s);
  const HopperWeightsTile& t = p.shape();
  EXPECT_GE(p.across * t.columns(), s.R * s.S * s.C);
  EXPECT_GE(p.tiles / p.across * t.filters(), s.K);
  EXPECT_TRUE(t.takes(s));
  EXPECT_GE(p.steps * t.depth(), s.N * s.P() * s.Q());
  EXPECT_LT((p.steps - 1) * t.depth(), s.N * s.P() * s.Q());
  const int64_t work = p.tiles * p.steps;
  EXPECT_LE(p.blocks, HopperWeightsCost::kMultiprocessors);
  EXPECT_GE(p.blocks * p.share, work);
  EXPECT_LT((p.blocks - 1) * p.share, work);
  std::set<int64_t> places;
  for (int64_t tile = 0; tile < p.tiles; ++tile) {
    EXPECT_LE(p.first_block(tile) * p.share, tile * p.steps);
    EXPECT_GE((p.last_block(tile) + 1) * p.share, (tile + 1) * p.steps);
    EXPECT_GT((p.first_block(tile) + 1) * p.share, tile * p.steps);
    EXPECT_LT(p.last_block(tile) * p.share, (tile + 1) * p.steps);
    for (int64_t block = p.first_block(tile); block <= p.last_block(tile); ++block) {
      EXPECT_LT(tile + block, p.places());
      EXPECT_TRUE(places.insert(tile + block).second);
    }
  }
  EXPECT_EQ(hopper_weights_scratch(s), 4 * p.floats());
  EXPECT_LE(p.floats(), (p.tiles + p.blocks) * t.filters() * (t.columns() + 1));
}

TEST(HopperWeightsPlan, SharesCoverTheWork) {
  for (const Layer& layer : layers()) {
    for (const int64_t images : {1, 2, 32, 256, 1000}) {
      ConvShape s = layer.shape;
      s.N = images;
      check(layer.name + " of " + std::to_string(images), s);
    }
  }
}

// What the blocks multiply of what the GPU could in the time of the slowest: tiles' tails, and blocks without work.
TEST(HopperWeightsPlan, LargeLayersFillTheGpu) {
  for (const Layer& layer : layers()) {
    const ConvShape& s = layer.shape;
    const HopperWeightsPlan p = plan_hopper_weights(s);
    const double wanted = static_cast<double>(s.N * s.P() * s.Q() * s.K * s.R * s.S * s.C);
    const double possible = static_cast<double>(p.share * HopperWeightsCost::kMultiprocessors *
                                                p.tile_floats() * p.shape().depth());
    std::printf("%-16s %3dx%3d%s, %3d tiles of %5d steps, %3d blocks of %5d: %.2f\n", layer.name.c_str(),
                p.shape().filters(), p.shape().columns(), p.shape().patches ? " patches" : "",
                static_cast<int>(p.tiles), static_cast<int>(p.steps), static_cast<int>(p.blocks),
                static_cast<int>(p.share), wanted / possible);
    const double least = s.R > 1 && s.N * s.P() * s.Q() > 10000 ? 0.85 : 0.3;
    EXPECT_GE(wanted / possible, least) << layer.name;
  }
}

TEST(HopperWeightsPlan, LayersOf64ChannelsReadDyOnce) {
  for (const int64_t extent : {56, 224}) {
    const HopperWeightsPlan p = plan_hopper_weights({256, extent, extent, 64, 64, 3, 3, 1, 1, 1, 1});
    EXPECT_EQ(p.tiles, 1);
    EXPECT_EQ(p.shape().columns(), 576);
    EXPECT_TRUE(p.shape().patches);
  }
}

TEST(HopperWeightsPlan, Stages) {
  for (const HopperWeightsTile& t : kHopperWeightsTiles) {
    EXPECT_GE(t.stages(), 4) << t.filters() << "x" << t.columns();
    EXPECT_LE(t.stages() * t.stage_bytes(), 200 << 10);
    EXPECT_LE(t.groups(), 3);
    EXPECT_LE(t.group_columns, t.groups() == 3 ? 192 : 256) << "registers";
  }
}

TEST(HopperWeightsPlan, LeavesOthersToThePortableKernels) {
  const ConvShape good{2, 16, 16, 64, 64, 3, 3, 1, 1, 1, 1};
  EXPECT_TRUE(hopper_takes_weights(good));
  const auto refuses = [&](auto change) {
    ConvShape s = good;
    change(s);
    return !hopper_takes_weights(s) && hopper_weights_scratch(s) == 0;
  };
  EXPECT_TRUE(refuses([](ConvShape& s) { s.N = 0; }));
  EXPECT_TRUE(refuses([](ConvShape& s) { s.K = 0; }));
  EXPECT_TRUE(refuses([](ConvShape& s) { s.C = 3; }));
  EXPECT_TRUE(refuses([](ConvShape& s) { s.C = 60; }));
  EXPECT_TRUE(refuses([](ConvShape& s) { s.C = 32; }));
  EXPECT_TRUE(refuses([](ConvShape& s) { s.K = 12; }));
  EXPECT_TRUE(refuses([](ConvShape& s) { s.stride_h = 9; }));
  EXPECT_TRUE(refuses([](ConvShape& s) { s.stride_w = 9; }));
  EXPECT_TRUE(refuses([](ConvShape& s) { s.H = s.R = 129; }));
}

}  // namespace
}  // namespace convoy::cuda
