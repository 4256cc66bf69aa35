// Names, shapes and orders of PyTorch.
#include <map>
#include <set>
#include <sstream>

#include "checkpoint_cases.h"

namespace convoy {
namespace {

const FileLayout& layout_of(const std::vector<FileLayout>& layouts, const std::string& name) {
  for (const FileLayout& layout : layouts) {
    if (layout.name == name) return layout;
  }
  throw Error(name + " is not there");
}

std::vector<float> whole_numbers(int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i);
  return values;
}

std::vector<float> in_file_order(const FileLayout& layout, const std::vector<float>& values) {
  std::vector<float> out(values.size());
  to_file_order(layout, values.data(), 0, static_cast<int64_t>(values.size()), out.data());
  return out;
}

TEST(CheckpointLayout, ConvolutionsAreKCRS) {
  const Net net = parse_net("input 9x8x3\na: conv 4 5x2\nb: fc 2\n", "net");
  const FileLayout layout = file_layouts(net)[0];
  EXPECT_EQ(layout.shape, (std::vector<int64_t>{4, 3, 5, 2}));
  const std::vector<float> file = in_file_order(layout, whole_numbers(4 * 5 * 2 * 3));
  for (int k = 0; k < 4; ++k) {
    for (int c = 0; c < 3; ++c) {
      for (int r = 0; r < 5; ++r) {
        for (int s = 0; s < 2; ++s) {
          ASSERT_EQ(file[static_cast<size_t>(((k * 3 + c) * 5 + r) * 2 + s)], ((k * 5 + r) * 2 + s) * 3 + c);
        }
      }
    }
  }
}

// Also behind layers that keep the image: an activation, a pool, dropout.
TEST(CheckpointLayout, TheFcLayerThatReadsAnImageIsCHW) {
  const Net net = parse_net(
      "input 8x4x3\na: conv 5 1x1\nb: relu\nc: maxpool 2\nd: dropout 0.5\ne: fc 6\nf: relu\ng: fc 7\n",
      "net");
  const std::vector<FileLayout> layouts = file_layouts(net);
  const FileLayout& e = layout_of(layouts, "e.weight");
  EXPECT_EQ(e.shape, (std::vector<int64_t>{6, 4 * 2 * 5}));
  const std::vector<float> file = in_file_order(e, whole_numbers(6 * 4 * 2 * 5));
  for (int f = 0; f < 6; ++f) {
    for (int c = 0; c < 5; ++c) {
      for (int h = 0; h < 4; ++h) {
        for (int w = 0; w < 2; ++w) {
          ASSERT_EQ(file[static_cast<size_t>(f * 40 + (c * 4 + h) * 2 + w)], f * 40 + (h * 2 + w) * 5 + c);
        }
      }
    }
  }
  for (const char* same : {"e.bias", "g.weight", "g.bias"}) {
    const FileLayout& layout = layout_of(layouts, same);
    int64_t count = 1;
    for (const int64_t extent : layout.shape) count *= extent;
    EXPECT_EQ(in_file_order(layout, whole_numbers(count)), whole_numbers(count)) << same;
  }
}

TEST(CheckpointLayout, AnFcLayerOnPixelsIsCHWToo) {
  const Net net = parse_net("input 2x2x3\na: fc 1\n", "net");
  const std::vector<float> want = {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11};
  EXPECT_EQ(in_file_order(file_layouts(net)[0], whole_numbers(12)), want);
}

// A file is written and read in parts that begin and end anywhere.
TEST(CheckpointLayout, AnyPartAndBackAgain) {
  const FileLayout layout{"t", {3, 4, 5}, 5, 4};
  const std::vector<float> values = whole_numbers(60);
  const std::vector<float> file = in_file_order(layout, values);
  for (int64_t first = 0; first <= 60; ++first) {
    for (int64_t count = 0; first + count <= 60; ++count) {
      std::vector<float> part(static_cast<size_t>(count));
      to_file_order(layout, values.data(), first, count, part.data());
      ASSERT_TRUE(std::equal(part.begin(), part.end(), file.begin() + first)) << first << "+" << count;
    }
    std::vector<float> back(60, -1.0f);
    from_file_order(layout, file.data(), 0, first, back.data());
    from_file_order(layout, file.data() + first, first, 60 - first, back.data());
    ASSERT_EQ(back, values) << first;
  }
}

// Names and shapes of torchvision's state dicts, listed by tests/fixtures/make_fixtures.py.
void expect_state_dict(const std::string& net_name) {
  std::istringstream list(
      read_bytes(text(CONVOY_SOURCE_DIR, "/tests/fixtures/torchvision_", net_name, ".txt")));
  std::set<std::string> want;
  for (std::string line; std::getline(list, line);) {
    if (line.empty() || line[0] == '#') continue;
    want.insert(line);
  }
  ASSERT_GT(want.size(), 10u) << net_name;
  const std::string file = text(CONVOY_SOURCE_DIR, "/src/models/", net_name, ".net");
  const Net net = parse_net(read_bytes(file), file);
  // No memory behind the tensors: nothing is filled in here.
  HostTensors nothing;
  nothing.values.resize(parameters(net).size(), nullptr);
  std::set<std::string> have;
  for (const TensorSource& source : checkpoint_tensors(net, nothing, small_record())) {
    std::string shape;
    for (const int64_t extent : source.shape) shape += text(shape.empty() ? "" : ",", extent);
    have.insert(text(source.name, " [", shape, "]"));
  }
  EXPECT_EQ(have, want) << net_name;
}

TEST(CheckpointLayout, AlexNetIsTorchvisions) {
  expect_state_dict("alexnet");
}
TEST(CheckpointLayout, Vgg16IsTorchvisions) {
  expect_state_dict("vgg16");
}
TEST(CheckpointLayout, ResNet18IsTorchvisions) {
  expect_state_dict("resnet18");
}

}  // namespace
}  // namespace convoy
