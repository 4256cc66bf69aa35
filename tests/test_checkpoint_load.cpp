// Loading weights: files of PyTorch, and files that do not fit.
#include <cmath>
#include <cstdlib>
#include <limits>

#include "checkpoint_cases.h"

namespace convoy {
namespace {

std::string fixture(const std::string& name) {
  return text(CONVOY_SOURCE_DIR, "/tests/fixtures/", name);
}

// The values of tests/fixtures/make_safetensors_fixture.py; `place` is the tensor's among all names, sorted.
std::vector<float> fixture_values(const FileLayout& layout, int64_t count, int64_t place) {
  std::vector<float> file(static_cast<size_t>(count)), values(file.size());
  for (int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>((37 * i + 101 * place) % 509 - 254) / 64;
    file[static_cast<size_t>(i)] =
        layout.name.find("running_var") == std::string::npos ? value : std::abs(value);
  }
  from_file_order(layout, file.data(), 0, count, values.data());
  return values;
}

std::vector<std::vector<float>> fixture_arrays(const Net& net) {
  const std::vector<ParameterSpec> specs = parameters(net);
  const std::vector<FileLayout> layouts = file_layouts(net);
  const std::vector<std::string> sorted = {"classifier.0.bias",
                                           "classifier.0.weight",
                                           "classifier.2.bias",
                                           "classifier.2.weight",
                                           "features.0.weight",
                                           "features.1.bias",
                                           "features.1.num_batches_tracked",
                                           "features.1.running_mean",
                                           "features.1.running_var",
                                           "features.1.weight"};
  std::vector<std::vector<float>> arrays;
  for (size_t i = 0; i < specs.size(); ++i) {
    const auto place = std::find(sorted.begin(), sorted.end(), specs[i].name) - sorted.begin();
    arrays.push_back(fixture_values(layouts[i], specs[i].shape.count(), place));
  }
  return arrays;
}

TEST(CheckpointLoad, FilesOfTheSafetensorsPackageInEveryDtype) {
  const Net net = small_net();
  for (const char* dtype : {"f32", "f64", "f16", "bf16"}) {
    const TensorFile file(fixture(text("state_dict_", dtype, ".safetensors")));
    EXPECT_FALSE(has_record(file));
    Memory loaded(net, {}, 9);
    load_parameters(file, net, loaded.tensors);
    EXPECT_EQ(loaded.arrays, fixture_arrays(net)) << dtype;
  }
}

TEST(CheckpointLoad, TheSafetensorsPackageReadsOurs) {
  const char* python = std::getenv("CONVOY_PYTHON");
  if (python == nullptr) GTEST_SKIP() << "CONVOY_PYTHON names no Python with torch and safetensors";
  const Folder folder;
  const Net net = small_net();
  Memory memory(net, {"momentum"}, 1);
  const std::vector<std::vector<float>> arrays = fixture_arrays(net);
  for (size_t i = 0; i < arrays.size(); ++i) {
    std::copy(arrays[i].begin(), arrays[i].end(), memory.tensors.values[i]);
  }
  const TrainingRecord record = small_record();
  write_safetensors(folder / "c", checkpoint_tensors(net, memory.tensors, record), record_metadata(record));
  const std::string command =
      text("'", python, "' '", fixture("make_safetensors_fixture.py"), "' --check '", folder / "c", "'");
  EXPECT_EQ(std::system(command.c_str()), 0) << command;
}

// Half precision: the values that need care, against their definition.
TEST(CheckpointLoad, HalfPrecisionBitByBit) {
  const Folder folder;
  const Net net = parse_net("input 1x1x1\na: fc 4\n", "net");
  const auto load = [&](const char* dtype, const std::vector<uint16_t>& bits) {
    const auto fill = [&](int64_t first, int64_t count, char* to) {
      std::memcpy(to, &bits[static_cast<size_t>(first)], static_cast<size_t>(count) * 2);
    };
    write_safetensors(folder / "h", {{"a.weight", dtype, {4, 1}, fill}, {"a.bias", dtype, {4}, fill}});
    Memory memory(net, {}, 0);
    load_parameters(TensorFile(folder / "h"), net, memory.tensors);
    return memory.arrays[0];
  };
  EXPECT_EQ(load("F16", {0x0001, 0x83ff, 0x0400, 0x7bff}),
            (std::vector<float>{0x1p-24f, -0x1.ff8p-15f, 0x1p-14f, 65504.0f}));
  EXPECT_TRUE(std::signbit(load("F16", {0x8000, 0, 0, 0})[0]));
  EXPECT_EQ(load("BF16", {0x0001, 0xff7f, 0x3f80, 0x0080}),
            (std::vector<float>{0x1p-133f, -0x1.fep127f, 1.0f, 0x1p-126f}));
}

// One tensor of the small net's file replaced, left out, or added.
struct Change {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::vector<double> values;  // repeated
  bool remove = false;
};

std::string element_bytes(const std::string& dtype, double value) {
  const auto bits = [](auto v) { return std::string(reinterpret_cast<const char*>(&v), sizeof v); };
  if (dtype == "F64") return bits(value);
  if (dtype == "F32") return bits(static_cast<float>(value));
  if (dtype == "I32") return bits(static_cast<int32_t>(value));
  if (dtype == "I64") return bits(static_cast<int64_t>(value));
  if (dtype == "U8") return bits(static_cast<uint8_t>(value));
  return bits(static_cast<uint16_t>(value));  // F16, BF16: the bits themselves
}

void write_changed(const std::string& file, const Change& change,
                   const std::vector<std::string>& kinds = {}) {
  const Net net = small_net();
  const Memory memory(net, kinds, 1);
  std::vector<TensorSource> sources = checkpoint_tensors(net, memory.tensors, small_record());
  sources.erase(std::remove_if(sources.begin(), sources.end(),
                               [&](const TensorSource& source) { return source.name == change.name; }),
                sources.end());
  if (!change.remove) {
    sources.push_back(
        {change.name, change.dtype, change.shape, [&change](int64_t first, int64_t count, char* to) {
           for (int64_t i = first; i < first + count; ++i) {
             const size_t place = static_cast<size_t>(i) % change.values.size();
             const std::string bytes = element_bytes(change.dtype, change.values[place]);
             to = std::copy(bytes.begin(), bytes.end(), to);
           }
         }});
  }
  write_safetensors(file, sources);
}

struct BadWeights {
  Change change;
  const char* says;
};

TEST(CheckpointLoad, WhatDoesNotFitIsNamed) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::string conv = "features.0.weight", bias = "classifier.0.bias",
                    variance = "features.1.running_var";
  const std::vector<BadWeights> cases = {
      {{conv, "", {}, {}, true}, "missing: 'features.0.weight'"},
      {{variance, "", {}, {}, true}, "missing: 'features.1.running_var'"},
      {{"features.9.weight", "F32", {1}, {1}}, "the net does not have: 'features.9.weight'"},
      {{"extra", "U8", {1}, {1}}, "the net does not have: 'extra'"},
      {{conv, "F32", {4, 3, 3, 2}, {1}}, "'features.0.weight' is [4,3,3,2], the net 'small' needs [4,3,3,3]"},
      {{conv, "F32", {4, 3, 3}, {1}}, "is [4,3,3]"},
      {{conv, "F32", {4, 27}, {1}}, "is [4,27]"},
      {{conv, "F32", {4, 3, 3, 3, 1}, {1}}, "is [4,3,3,3,1]"},
      {{conv, "F32", {108}, {1}}, "is [108]"},
      {{conv, "F32", {}, {1}}, "is [], the net 'small' needs [4,3,3,3]"},
      {{conv, "F32", {0}, {1}}, "is [0]"},
      {{"classifier.2.weight", "F32", {6, 7}, {1}},
       "'classifier.2.weight' is [6,7], the net 'small' needs [5,7]"},
      {{bias, "F32", {7, 1}, {1}}, "'classifier.0.bias' is [7,1], the net 'small' needs [7]"},
      {{bias, "I32", {7}, {1}}, "'classifier.0.bias' is I32"},
      {{bias, "I64", {7}, {1}}, "'classifier.0.bias' is I64"},
      {{bias, "U8", {7}, {1}}, "'classifier.0.bias' is U8"},
      {{bias, "F32", {7}, {1, 1, kNan, 1, 1, 1, 1}}, "'classifier.0.bias' holds nan at [2]"},
      {{bias, "F32", {7}, {1, 1, 1, 1, 1, 1, kInf}}, "'classifier.0.bias' holds inf at [6]"},
      {{bias, "F32", {7}, {-kInf}}, "holds -inf at [0]"},
      {{bias, "F64", {7}, {1, kNan}}, "holds nan at [1]"},
      {{bias, "F64", {7}, {1, 1e39}}, "at [1]"},
      {{bias, "F16", {7}, {0x3c00, 0x7c00}}, "holds inf at [1]"},
      {{bias, "F16", {7}, {0x3c00, 0xfc01}}, "nan at [1]"},
      {{bias, "BF16", {7}, {0x3f80, 0x7f80}}, "holds inf at [1]"},
      {{variance, "F32", {4}, {1, -0.5, 1, 1}}, "'features.1.running_var' holds -0.5 at [1]: a variance"},
      {{variance, "F32", {4}, {1, kNan, 1, 1}}, "holds nan at [1]"},
  };
  const Folder folder;
  const std::string file = folder / "bad.safetensors";
  Net net = small_net();
  net.name = "small";
  for (const BadWeights& bad : cases) {
    SCOPED_TRACE(bad.says);
    write_changed(file, bad.change);
    Memory memory(net, {}, 2);
    EXPECT_SAYS(refusal(file, [&] { load_parameters(TensorFile(file), net, memory.tensors); }), bad.says);
  }
}

TEST(CheckpointLoad, APlaceIsGivenInPyTorchsOrder) {
  const Folder folder;
  const std::string file = folder / "bad.safetensors";
  const Net net = small_net();
  std::vector<double> values(7 * 24, 1.0);
  values[2 * 24 + 17] = std::nan("");
  write_changed(file, {"classifier.0.weight", "F32", {7, 24}, values});
  Memory memory(net, {}, 2);
  EXPECT_SAYS(refusal(file, [&] { load_parameters(TensorFile(file), net, memory.tensors); }),
              "holds nan at [2,17]");
}

TEST(CheckpointLoad, ManyNamesAreShortened) {
  const Folder folder;
  const std::string file = folder / "c.safetensors";
  save_small(file);
  const Net other = parse_net("input 6x4x3\na: fc 2\nb: fc 2\nc: fc 2\n", "other.net");
  Memory memory(other, {}, 2);
  const std::string message =
      refusal(file, [&] { load_parameters(TensorFile(file), other, memory.tensors); });
  EXPECT_SAYS(message, "'a.bias', 'a.weight', 'b.bias' and 3 more");
  EXPECT_SAYS(message, "'classifier.0.bias', 'classifier.0.weight', 'classifier.2.bias' and 6 more");
}

// Nothing is written before names, shapes and dtypes are known to fit.
TEST(CheckpointLoad, AFileThatDoesNotFitChangesNothing) {
  const Folder folder;
  const std::string file = folder / "bad.safetensors";
  const Net net = small_net();
  write_changed(file, {"features.1.weight", "I32", {4}, {1}});
  Memory memory(net, {}, 2);
  const Memory before(net, {}, 2);
  refusal(file, [&] { load_parameters(TensorFile(file), net, memory.tensors); });
  EXPECT_EQ(memory.arrays, before.arrays);
}

TEST(CheckpointLoad, OptimizerStateIsThereOrMissing) {
  const Folder folder;
  const std::string file = folder / "c.safetensors";
  const Net net = small_net();
  save_small(file, 1, {"momentum"});
  Memory weights(net, {}, 2);
  load_parameters(TensorFile(file), net, weights.tensors);  // state that nobody wants is passed over
  Memory adamw(net, {"m", "v"}, 2);
  EXPECT_SAYS(refusal(file, [&] { load_parameters(TensorFile(file), net, adamw.tensors); }),
              "missing: 'optimizer.m.classifier.0.bias'");
  write_changed(file, {"optimizer.v.classifier.0.bias", "F32", {7}, {1, -1}}, {"m", "v"});
  EXPECT_SAYS(refusal(file, [&] { load_parameters(TensorFile(file), net, adamw.tensors); }),
              "holds -1 at [1]");
}

TEST(CheckpointLoad, OtherClassesKeepTheLastLayerOnlyWhenAllowed) {
  const Folder folder;
  const std::string file = folder / "c.safetensors";
  save_small(file);
  const Net net = small_net(9);
  Memory memory(net, {}, 2);
  const Memory before(net, {}, 2), saved(small_net(), {}, 1);
  EXPECT_SAYS(refusal(file, [&] { load_parameters(TensorFile(file), net, memory.tensors); }),
              "'classifier.2.bias' is [5]");
  LoadOptions options;
  options.other_classes = true;
  EXPECT_TRUE(load_parameters(TensorFile(file), net, memory.tensors, options).last_layer_kept);
  const size_t last = memory.arrays.size() - 2;
  for (size_t i = 0; i < memory.arrays.size(); ++i) {
    EXPECT_EQ(memory.arrays[i], i < last ? saved.arrays[i] : before.arrays[i]) << i;
  }
  // Equal class counts: everything is loaded. Another number of features: refused all the same.
  Memory same(small_net(), {}, 2);
  EXPECT_FALSE(load_parameters(TensorFile(file), small_net(), same.tensors, options).last_layer_kept);
  EXPECT_EQ(same.arrays, saved.arrays);
  write_changed(file, {"classifier.2.weight", "F32", {5, 8}, {1}});
  EXPECT_SAYS(refusal(file, [&] { load_parameters(TensorFile(file), net, memory.tensors, options); }),
              "classifier.2.");
}

}  // namespace
}  // namespace convoy
