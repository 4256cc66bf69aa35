// Networks as data: shapes, parameters and their PyTorch names, operation counts, adaptation to other data.
#include <gtest/gtest.h>

#include <fstream>

#include "convoy/net.h"

namespace convoy {
namespace {

TEST(BuiltinNets, HaveExactlyTheirParameters) {
  const std::vector<std::pair<const char*, int64_t>> expected = {{"mlp", 784 * 512 + 512 + 512 * 10 + 10},
                                                                 {"mnist_cnn", 1199882},
                                                                 {"cifar_cnn", 1070794},
                                                                 {"lenet5", 61706},
                                                                 {"alexnet", 61100840},
                                                                 {"vgg16", 138357544},
                                                                 {"vgg16_bn", 138365992},
                                                                 {"resnet18", 11689512}};
  for (const auto& [name, count] : expected) EXPECT_EQ(parameter_count(load_net(name)), count) << name;
  EXPECT_EQ(expected.size(), builtin_nets().size());
}

TEST(BuiltinNets, SayTheirNameAndLogits) {
  for (const std::string& name : builtin_nets()) {
    const Net net = load_net(name);
    EXPECT_EQ(net.name, name);
    const Shape logits = output_shapes(net, 7).back();
    EXPECT_EQ(logits, (Shape{7, net.input().h == 224 ? 1000 : 10})) << name;
  }
}

TEST(OutputShapes, FollowTheLayers) {
  const Net net = parse_net(
      "input 23x40x3\nconv 16 5x3 stride 2x3 pad 2x1\nmaxpool 3 stride 2\navgpool 2x5\nlrn 5\navgpool "
      "global\nfc 7\nbn\nfc 2\n",
      "x.net");
  EXPECT_EQ(output_shapes(net, 5), (std::vector<Shape>{{5, 23, 40, 3},
                                                       {5, 12, 14, 16},
                                                       {5, 5, 6, 16},
                                                       {5, 2, 1, 16},
                                                       {5, 2, 1, 16},
                                                       {5, 1, 1, 16},
                                                       {5, 7},
                                                       {5, 7},
                                                       {5, 2}}));
  EXPECT_EQ(output_shapes(net, 0).back(), (Shape{0, 2}));
}

TEST(OutputShapes, OfALayerWithoutItsInputsShape) {
  Net net = load_net("lenet5");
  std::get<Conv>(net.layers[1].spec).r = 99;  // a net that no parser gave
  EXPECT_THROW(output_shapes(net, 1), Error);
}

TEST(Parameters, NameShapeRoleAndFanIn) {
  const Net net = parse_net(
      "input 6x5x3\na: conv 4 3x2\nb: bn\nc: conv 2 1x1 nobias\nd: fc 7\ne: fc 2 nobias\n", "x.net");
  struct Row {
    const char* name;
    Shape shape;
    int layer;
    ParameterSpec::Role role;
    int64_t fan_in;
  };
  const std::vector<Row> expected = {{"a.weight", {4, 3, 2, 3}, 1, ParameterSpec::kWeight, 18},
                                     {"a.bias", {4}, 1, ParameterSpec::kBias, 18},
                                     {"b.weight", {4}, 2, ParameterSpec::kGamma, 0},
                                     {"b.bias", {4}, 2, ParameterSpec::kBeta, 0},
                                     {"b.running_mean", {4}, 2, ParameterSpec::kRunningMean, 0},
                                     {"b.running_var", {4}, 2, ParameterSpec::kRunningVar, 0},
                                     {"c.weight", {2, 1, 1, 4}, 3, ParameterSpec::kWeight, 4},
                                     {"d.weight", {7, 32}, 4, ParameterSpec::kWeight, 32},
                                     {"d.bias", {7}, 4, ParameterSpec::kBias, 32},
                                     {"e.weight", {2, 7}, 5, ParameterSpec::kWeight, 7}};
  const std::vector<ParameterSpec> specs = parameters(net);
  ASSERT_EQ(specs.size(), expected.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    EXPECT_EQ(specs[i].name, expected[i].name);
    EXPECT_EQ(specs[i].shape, expected[i].shape) << specs[i].name;
    EXPECT_EQ(specs[i].layer, expected[i].layer) << specs[i].name;
    EXPECT_EQ(specs[i].role, expected[i].role) << specs[i].name;
    EXPECT_EQ(specs[i].fan_in, expected[i].fan_in) << specs[i].name;
    EXPECT_EQ(specs[i].buffer(), specs[i].name.find("running") != std::string::npos);
  }
  EXPECT_EQ(parameter_count(net), 72 + 4 + 4 + 4 + 8 + 224 + 7 + 14);
}

// "name [extents]" in PyTorch's layout, as the fixtures list torchvision's state dicts.
std::string pytorch_entry(const ParameterSpec& spec) {
  const Shape& s = spec.shape;
  if (s.rank == 4) return text(spec.name, " [", s[0], ",", s[3], ",", s[1], ",", s[2], "]");
  if (s.rank == 2) return text(spec.name, " [", s[0], ",", s[1], "]");
  return text(spec.name, " [", s[0], "]");
}

class Torchvision : public ::testing::TestWithParam<const char*> {};

TEST_P(Torchvision, HasTheSameStateDict) {
  std::vector<std::string> expected;
  std::ifstream in(text(CONVOY_SOURCE_DIR, "/tests/fixtures/torchvision_", GetParam(), ".txt"));
  ASSERT_TRUE(in.good());
  for (std::string line; std::getline(in, line);) {
    // A counter of steps, which the optimizer's state has in Convoy.
    if (line[0] != '#' && line.find("num_batches_tracked") == std::string::npos) expected.push_back(line);
  }
  std::vector<std::string> found;
  for (const ParameterSpec& spec : parameters(load_net(GetParam()))) found.push_back(pytorch_entry(spec));
  EXPECT_EQ(found, expected);
}

INSTANTIATE_TEST_SUITE_P(Nets, Torchvision, ::testing::Values("alexnet", "vgg16", "resnet18"),
                         [](const auto& test) { return std::string(test.param); });

// Multiply-accumulates counted one output place at a time, from the filters as the literature lists them.
struct Counter {
  int64_t h, w, c, macs = 0;
  void conv(int64_t filters, int64_t window, int64_t stride, int64_t pad) {
    int64_t rows = 0, columns = 0;
    for (int64_t top = -pad; top + window <= h + pad; top += stride) ++rows;
    for (int64_t left = -pad; left + window <= w + pad; left += stride) ++columns;
    for (int64_t p = 0; p < rows; ++p)
      for (int64_t q = 0; q < columns; ++q) macs += filters * window * window * c;
    h = rows;
    w = columns;
    c = filters;
  }
  void pool(int64_t window, int64_t stride, int64_t pad) {
    const int64_t channels = c, before = macs;
    conv(c, window, stride, pad);
    c = channels;
    macs = before;
  }
  void fc(int64_t outputs) {
    macs += outputs * h * w * c;
    h = w = 1;
    c = outputs;
  }
};

int64_t total_macs(const Net& net) {
  int64_t total = 0;
  for (const int64_t macs : forward_macs(net)) total += macs;
  return total;
}

TEST(ForwardMacs, OfAlexnet) {
  Counter n{224, 224, 3};
  n.conv(64, 11, 4, 2);
  n.pool(3, 2, 0);
  n.conv(192, 5, 1, 2);
  n.pool(3, 2, 0);
  n.conv(384, 3, 1, 1);
  n.conv(256, 3, 1, 1);
  n.conv(256, 3, 1, 1);
  n.pool(3, 2, 0);
  for (const int outputs : {4096, 4096, 1000}) n.fc(outputs);
  EXPECT_EQ(total_macs(load_net("alexnet")), n.macs);
  EXPECT_EQ(n.macs, 714188480);  // 1,428 MFLOP
}

TEST(ForwardMacs, OfVgg16) {
  Counter n{224, 224, 3};
  for (const auto& [filters, layers] : {std::pair{64, 2}, {128, 2}, {256, 3}, {512, 3}, {512, 3}}) {
    for (int i = 0; i < layers; ++i) n.conv(filters, 3, 1, 1);
    n.pool(2, 2, 0);
  }
  for (const int outputs : {4096, 4096, 1000}) n.fc(outputs);
  EXPECT_EQ(total_macs(load_net("vgg16")), n.macs);
  EXPECT_EQ(total_macs(load_net("vgg16_bn")), n.macs);
  EXPECT_EQ(n.macs, 15470264320);  // 30,941 MFLOP
}

int64_t resnet18_macs(int64_t side, int64_t channels, bool small, int64_t classes) {
  Counter n{side, side, channels};
  if (small) {
    n.conv(64, 3, 1, 1);
  } else {
    n.conv(64, 7, 2, 3);
    n.pool(3, 2, 1);
  }
  for (const int filters : {64, 128, 256, 512}) {
    for (int block = 0; block < 2; ++block) {
      Counter shortcut = n;
      shortcut.macs = 0;
      const int stride = filters > 64 && block == 0 ? 2 : 1;
      n.conv(filters, 3, stride, 1);
      n.conv(filters, 3, 1, 1);
      if (stride == 2) shortcut.conv(filters, 1, 2, 0);
      n.macs += shortcut.macs;
    }
  }
  n.h = n.w = 1;  // global average pool
  n.fc(classes);
  return n.macs;
}

TEST(ForwardMacs, OfResnet18) {
  EXPECT_EQ(total_macs(load_net("resnet18")), resnet18_macs(224, 3, false, 1000));
  EXPECT_EQ(resnet18_macs(224, 3, false, 1000), 1814073344);  // 3,628 MFLOP
  EXPECT_EQ(total_macs(adapt_net(load_net("resnet18"), {28, 28, 1}, 10)), resnet18_macs(28, 1, true, 10));
}

TEST(AdaptNet, ChangesNothingThatFits) {
  const Net net = load_net("cifar_cnn");
  const Net same = adapt_net(net, {32, 32, 3}, 10);
  EXPECT_EQ(same.text, net.text);
  EXPECT_EQ(same.layers.size(), net.layers.size());
  // A net that says 7x7 for 32x32 images means it, whatever its name.
  const Net own =
      parse_net("input 32x32x3\nconv1: conv 8 7x7 stride 2\nmaxpool 2\nfc: fc 10\n", "resnet18.net");
  EXPECT_EQ(net_text(adapt_net(own, {32, 32, 3}, 100)),
            "input: input 32x32x3\nconv1: conv 8 7x7 stride 2\nmaxpool1: maxpool 2x2\nfc: fc 100\n");
}

TEST(AdaptNet, ReplacesInputAndOutputs) {
  const Net net = adapt_net(load_net("cifar_cnn"), {28, 30, 1}, 7);
  EXPECT_EQ(net.name, "cifar_cnn");
  EXPECT_EQ(output_shapes(net, 2).front(), (Shape{2, 28, 30, 1}));
  EXPECT_EQ(output_shapes(net, 2).back(), (Shape{2, 7}));
  EXPECT_EQ(parameters(net)[4].shape, (Shape{256, 7 * 7 * 64}));
  EXPECT_EQ(net.text, net_text(net));  // what a checkpoint carries gives this net again
  EXPECT_EQ(net_text(parse_net(net.text, "cifar_cnn")), net.text);
}

TEST(AdaptNet, Vgg16Follows) {
  const Net net = adapt_net(load_net("vgg16"), {32, 32, 3}, 10);
  EXPECT_EQ(parameter_count(net), 33638218);
}

TEST(AdaptNet, Resnet18GetsItsSmallStem) {
  for (const auto& image : {Input{32, 32, 3}, Input{28, 28, 1}, Input{64, 64, 3}}) {
    const Net net = adapt_net(load_net("resnet18"), image, 10);
    const std::vector<Shape> shapes = output_shapes(net, 1);
    EXPECT_EQ(parameters(net)[0].shape, (Shape{64, 3, 3, image.c}));
    EXPECT_EQ(shapes[1], (Shape{1, image.h, image.w, 64}));
    EXPECT_EQ(shapes.back(), (Shape{1, 10}));
    // 11,689,512 without the first filters and the last layer, with the new ones
    EXPECT_EQ(parameter_count(net), 11689512 - 64 * 49 * 3 - 513 * 1000 + 64 * 9 * image.c + 513 * 10);
    for (const Layer& layer : net.layers) EXPECT_FALSE(std::holds_alternative<MaxPool>(layer.spec));
  }
  const Net small = adapt_net(load_net("resnet18"), {28, 28, 1}, 10);
  const std::vector<Shape> shapes = output_shapes(small, 1);
  EXPECT_EQ(shapes[shapes.size() - 3], (Shape{1, 4, 4, 512}));  // 28, 14, 7, 4
  EXPECT_EQ(small.layers[9].name, "layer1.0.add");
  EXPECT_EQ(small.layers[9].inputs, (std::vector<int>{8, 3}));  // the ReLU of the stem in place of the pool

  for (const auto& image : {Input{65, 64, 3}, Input{64, 65, 3}})
    EXPECT_EQ(parameters(adapt_net(load_net("resnet18"), image, 10))[0].shape, (Shape{64, 7, 7, 3}));
}

std::string refusal(const char* net, const Input& image, int64_t classes) {
  try {
    adapt_net(load_net(net), image, classes);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

TEST(AdaptNet, RefusesWithBothShapes) {
  EXPECT_EQ(refusal("alexnet", {32, 32, 3}, 10),
            "net 'alexnet' is made for 224x224x3 images and 1000 classes and cannot take 32x32x3 images and "
            "10 classes: "
            "layer 'features.12' (maxpool 3x3 stride 2): window 3x3 is larger than the image 1x1; choose "
            "another net or "
            "image size");
  EXPECT_EQ(refusal("vgg16", {28, 28, 1}, 1),
            "net 'vgg16' is made for 224x224x3 images and 1000 classes and cannot take 28x28x1 images and 1 "
            "class: layer "
            "'features.30' (maxpool 2x2): window 2x2 is larger than the image 1x1; choose another net or "
            "image size");
  EXPECT_EQ(refusal("mlp", {28, 28, 1}, 0),
            "the data has 28x28x1 images and 0 classes: each number must be from 1 to 16777216");
  EXPECT_EQ(refusal("mlp", {28, -1, 1}, 10),
            "the data has 28x-1x1 images and 10 classes: each number must be from 1 to 16777216");
}

}  // namespace
}  // namespace convoy
