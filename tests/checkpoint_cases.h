// What the tests of checkpoints share: a folder that goes away, files made by hand, a small net with known
// values.
#pragma once
#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "convoy/checkpoint.h"

namespace convoy {

class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "convoy-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw Error("mkdtemp");
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_bytes(const std::string& file, const std::string& bytes) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(out.flush().good()) << file;
}

inline std::string read_bytes(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// Header length, header, data.
inline std::string tensor_file(const std::string& header, const std::string& data) {
  std::string out(8, '\0');
  const uint64_t bytes = header.size();
  std::memcpy(out.data(), &bytes, 8);
  return out + header + data;
}

// The message of the InputError that `run` throws. It must be one line and name `file`.
template <class Run>
std::string refusal(const std::string& file, const Run& run) {
  try {
    run();
  } catch (const InputError& error) {
    const std::string message = error.what();
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_NE(message.find(file), std::string::npos) << message << " does not name " << file;
    EXPECT_LT(message.size(), 1000u) << message;
    return message;
  }
  ADD_FAILURE() << file << " was accepted";
  return "";
}

#define EXPECT_SAYS(message, part) \
  EXPECT_NE((message).find(part), std::string::npos) << "\"" << (message) << "\" lacks \"" << (part) << "\""

// Convolutions, batch norm, an fc layer that reads a 3x2 image with 4 channels, and one that reads features.
inline Net small_net(int64_t classes = 5) {
  return parse_net(text("input 6x4x3\n"
                        "features.0: conv 4 3x3 pad 1 nobias\n"
                        "features.1: bn\n"
                        "features.2: relu\n"
                        "features.3: maxpool 2\n"
                        "classifier.0: fc 7\n"
                        "classifier.1: relu\n"
                        "classifier.2: fc ",
                        classes, "\n"),
                   "small.net");
}

// Memory for a net's tensors and their optimizer state; values differ everywhere and depend on `salt`.
struct Memory {
  std::vector<std::vector<float>> arrays;
  HostTensors tensors;

  Memory(const Net& net, const std::vector<std::string>& kinds, int salt) {
    const std::vector<ParameterSpec> specs = parameters(net);
    arrays.reserve(specs.size() * (1 + kinds.size()));
    for (const ParameterSpec& spec : specs) tensors.values.push_back(make(spec, salt));
    for (const std::string& kind : kinds) {
      tensors.state.push_back({kind, {}});
      for (const ParameterSpec& spec : specs) {
        tensors.state.back().values.push_back(spec.buffer() ? nullptr : make(spec, salt));
      }
    }
  }
  float* make(const ParameterSpec& spec, int salt) {
    std::vector<float> values(static_cast<size_t>(spec.shape.count()));
    for (float& value : values) value = static_cast<float>(++made) / 64.0f + static_cast<float>(salt) * 1e3f;
    arrays.push_back(values);
    return arrays.back().data();
  }
  int made = 0;
};

inline TrainingRecord small_record(int64_t step = 12) {
  TrainingRecord record;
  record.net_name = "small";
  record.net_text = small_net().text;
  record.input = {6, 4, 3};
  record.class_names = {"a", "b \"quoted\"", "c\nnew line", "d,e", "\xc3\xa9"};
  record.normalization = {{0.1f, 0.2f, 0.3f}, {0.4f, 0.5f, 0.6f}};
  record.optimizer = OptimizerKind::kAdamw;
  record.seed = UINT64_MAX;
  record.world = 3;
  record.step = step;
  record.fc_updates = 3 * step;
  record.loss_scale.scale = 256;
  record.loss_scale.good_steps = 7;
  record.epoch = 2;
  record.batch_in_epoch = 7;
  record.epoch_so_far = {1.0 / 3.0, 40, 64};
  record.best_accuracy = 0.7;
  record.settings = {{"lr", "0.05"}, {"out", "runs/a b"}, {"empty", ""}};
  return record;
}

inline void save_small(const std::string& file, int salt = 1,
                       const std::vector<std::string>& kinds = {"m", "v"}) {
  const Net net = small_net();
  const Memory memory(net, kinds, salt);
  const TrainingRecord record = small_record();
  write_safetensors(file, checkpoint_tensors(net, memory.tensors, record), record_metadata(record));
}

}  // namespace convoy
