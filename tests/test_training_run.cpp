// Runs, stopped and resumed: the same final weights, bit for bit, wherever a run was stopped.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "data_files.h"
#include "training_run.h"

namespace convoy {
namespace {

using convoy_test::TempFolder;

constexpr int64_t kSteps = 60;
constexpr int64_t kImages = 330, kBatch = 16;  // 21 steps an epoch, the last one of 10 rows

constexpr const char* kNet =
    "input 8x8x1\nconv 6 3x3 pad 1 nobias\nbn\nrelu\nmaxpool 2\ndropout 0.25\nfc 16\nrelu\ndropout 0.5\nfc "
    "10\n";

void write_text(const std::string& path, const std::string& content) {
  convoy_test::write_file(path, convoy_test::ByteVector(content.begin(), content.end()));
}

// An MNIST of 8x8 images, and the settings of a run with everything that is random.
Settings make_run(const TempFolder& folder) {
  for (const auto& [name, count] : {std::pair<std::string, int64_t>{"train", kImages}, {"t10k", 50}}) {
    convoy_test::write_file(folder / "data/" + name + "-images-idx3-ubyte",
                            convoy_test::make_idx(0x803, {count, 8, 8}, count * 64, 251));
    convoy_test::write_file(folder / "data/" + name + "-labels-idx1-ubyte",
                            convoy_test::make_idx(0x801, {count}, count));
  }
  write_text(folder / "small.net", kNet);
  Settings s;
  s.model = folder / "small.net";
  s.data = "mnist";
  s.data_dir = folder / "data";
  s.augment = "standard";
  s.batch_size = kBatch;
  s.lr = 0.02;
  s.weight_decay = 1e-3;
  s.clip_norm = 1;
  s.threads = 2;
  s.checkpoint_every = "0";
  s.log_every = 7;
  return s;
}

void train(Settings s, int64_t steps, const std::string& out, const std::string& resume = "") {
  s.steps = steps;
  s.out = out;
  s.resume = resume;
  Given given{"steps", "out", "lr", "data", "model"};
  resolve(s, given);
  ASSERT_EQ(command_train(s), 0);
}

// Everything in a checkpoint that a run goes on from: all tensors, and where it is.
std::string state_of_run(const std::string& file) {
  const TensorFile content(file);
  std::ostringstream state;
  for (const StoredTensor& tensor : content.tensors()) {
    state << tensor.name << ' ';
    content.read(tensor, [&](const char* data, int64_t bytes) { state.write(data, bytes); });
  }
  const TrainingRecord record = read_record(content);
  state << ' ' << record.step << ' ' << record.epoch << ' ' << record.batch_in_epoch << ' '
        << record.epoch_so_far.rows << ' ' << record.epoch_so_far.correct << ' ' << std::hexfloat
        << record.epoch_so_far.loss;
  return state.str();
}

class Resume : public ::testing::TestWithParam<const char*> {};

TEST_P(Resume, SixtyOfSixtyStopsGiveTheSameBits) {
  TempFolder folder;
  Settings s = make_run(folder);
  s.optimizer = GetParam();
  train(s, kSteps, folder / "whole");
  const std::string want = state_of_run(checkpoint_path(folder / "whole", kSteps));
  int64_t same = 0;
  for (int64_t stop = 1; stop <= kSteps; ++stop) {
    const std::string out = folder / ("stopped-" + std::to_string(stop));
    train(s, stop, out);
    if (stop < kSteps) train(s, kSteps, "", out);
    const bool equal = state_of_run(checkpoint_path(out, kSteps)) == want;
    EXPECT_TRUE(equal) << "stopped after step " << stop;
    same += equal;
    std::filesystem::remove_all(out);
  }
  EXPECT_EQ(same, kSteps);
}

INSTANTIATE_TEST_SUITE_P(Optimizers, Resume, ::testing::Values("sgd", "adamw"),
                         [](const auto& p) { return std::string(p.param); });

TEST(TrainingRun, AnotherSeedGivesOtherWeights) {  // or the test above could not fail
  TempFolder folder;
  Settings s = make_run(folder);
  train(s, 5, folder / "a");
  s.seed = 1;
  train(s, 5, folder / "b");
  EXPECT_NE(state_of_run(checkpoint_path(folder / "a", 5)), state_of_run(checkpoint_path(folder / "b", 5)));
}

TEST(TrainingRun, KeepsTheLastAndTheBest) {
  TempFolder folder;
  Settings s = make_run(folder);
  s.checkpoint_every = "10";
  s.keep = 2;
  train(s, kSteps, folder / "run");
  EXPECT_EQ(
      checkpoint_files(folder / "run"),
      (std::vector<std::string>{checkpoint_path(folder / "run", 60), checkpoint_path(folder / "run", 50)}));
  EXPECT_TRUE(std::filesystem::exists(folder / "run/best.safetensors"));
  for (const char* file : {"config.toml", "metrics.jsonl", "summary.json", "latest"})
    EXPECT_TRUE(std::filesystem::exists(folder / "run/" + file)) << file;
}

TEST(TrainingRun, DivergenceKeepsTheLastGoodCheckpoint) {
  TempFolder folder;
  Settings s = make_run(folder);
  s.checkpoint_every = "2";
  s.clip_norm = 0;
  s.lr = 1e30;
  s.steps = kSteps;
  s.out = folder / "run";
  resolve(s, {"steps", "out", "lr", "data", "model"});
  try {
    command_train(s);
    FAIL() << "a learning rate of 1e30 went well";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("not finite at step"), std::string::npos) << message;
    const FoundCheckpoint found = find_latest(folder / "run");
    EXPECT_EQ(found.file.empty(), message.find("last good checkpoint is " + found.file) == std::string::npos)
        << message;
    EXPECT_EQ(found.file.empty(), message.find("no checkpoint was due") != std::string::npos) << message;
  }
}

TEST(TrainingRun, RefusesToResumeSomethingElse) {
  TempFolder folder;
  Settings s = make_run(folder);
  train(s, 3, folder / "run");
  const auto message = [&](const std::function<void(Settings&)>& change) -> std::string {
    Settings other = s;
    other.steps = 5;
    other.resume = folder / "run";
    change(other);
    resolve(other, {"steps", "resume", "data", "model", "lr"});
    try {
      command_train(other);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no error";
  };
  write_text(folder / "other.net", "input 8x8x1\nfc 10\n");
  EXPECT_NE(message([&](Settings& o) { o.model = folder / "other.net"; }).find("another net"),
            std::string::npos);
  EXPECT_NE(message([&](Settings& o) { o.optimizer = "adamw"; }).find("another optimizer"),
            std::string::npos);
  EXPECT_NE(message([&](Settings& o) { o.resume = folder / "nothing"; }), "no error");
  EXPECT_NE(message([&](Settings& o) { o.batch_size = 330; }).find("--batch-size"), std::string::npos);
  EXPECT_EQ(message([](Settings&) {}), "no error");
}

}  // namespace
}  // namespace convoy
