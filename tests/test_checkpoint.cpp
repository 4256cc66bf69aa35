// Checkpoints: what is saved comes back bit by bit; the training record.
#include <cmath>
#include <limits>

#include "checkpoint_cases.h"

namespace convoy {
namespace {

TEST(Checkpoint, EveryTensorComesBack) {
  const Folder folder;
  const std::string file = folder / "c.safetensors";
  const Net net = small_net();
  for (const std::vector<std::string>& kinds : {std::vector<std::string>{}, {"momentum"}, {"m", "v"}}) {
    save_small(file, 3, kinds);
    const Memory saved(net, kinds, 3);
    Memory loaded(net, kinds, 4);
    ASSERT_NE(loaded.arrays, saved.arrays);
    EXPECT_FALSE(load_parameters(TensorFile(file), net, loaded.tensors).last_layer_kept);
    EXPECT_EQ(loaded.arrays, saved.arrays);
  }
}

TEST(Checkpoint, NamesShapesAndCounterAreThoseOfPyTorch) {
  const Folder folder;
  save_small(folder / "c", 1, {"momentum"});
  const TensorFile file(folder / "c");
  std::map<std::string, std::vector<int64_t>> shapes;
  for (const StoredTensor& tensor : file.tensors()) shapes[tensor.name] = tensor.shape;
  const std::map<std::string, std::vector<int64_t>> want = {
      {"features.0.weight", {4, 3, 3, 3}},
      {"features.1.weight", {4}},
      {"features.1.bias", {4}},
      {"features.1.running_mean", {4}},
      {"features.1.running_var", {4}},
      {"features.1.num_batches_tracked", {}},
      {"classifier.0.weight", {7, 24}},
      {"classifier.0.bias", {7}},
      {"classifier.2.weight", {5, 7}},
      {"classifier.2.bias", {5}},
      {"optimizer.momentum.features.0.weight", {4, 3, 3, 3}},
      {"optimizer.momentum.features.1.weight", {4}},
      {"optimizer.momentum.features.1.bias", {4}},
      {"optimizer.momentum.classifier.0.weight", {7, 24}},
      {"optimizer.momentum.classifier.0.bias", {7}},
      {"optimizer.momentum.classifier.2.weight", {5, 7}},
      {"optimizer.momentum.classifier.2.bias", {5}}};
  EXPECT_EQ(shapes, want);
  const StoredTensor& count = *file.find("features.1.num_batches_tracked");
  EXPECT_EQ(count.dtype, "I64");
  file.read(count, [](const char* data, int64_t bytes) {
    int64_t steps = 0;
    ASSERT_EQ(bytes, 8);
    std::memcpy(&steps, data, 8);
    EXPECT_EQ(steps, small_record().step);
  });
}

void expect_equal(const TrainingRecord& a, const TrainingRecord& b) {
  EXPECT_EQ(a.net_name, b.net_name);
  EXPECT_EQ(a.net_text, b.net_text);
  EXPECT_EQ(a.input.h, b.input.h);
  EXPECT_EQ(a.input.w, b.input.w);
  EXPECT_EQ(a.input.c, b.input.c);
  EXPECT_EQ(a.class_names, b.class_names);
  EXPECT_EQ(a.normalization.mean, b.normalization.mean);
  EXPECT_EQ(a.normalization.stddev, b.normalization.stddev);
  EXPECT_EQ(a.optimizer, b.optimizer);
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.world, b.world);
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.fc_updates, b.fc_updates);
  EXPECT_EQ(a.loss_scale.scale, b.loss_scale.scale);
  EXPECT_EQ(a.loss_scale.good_steps, b.loss_scale.good_steps);
  EXPECT_EQ(a.epoch, b.epoch);
  EXPECT_EQ(a.batch_in_epoch, b.batch_in_epoch);
  EXPECT_EQ(a.epoch_so_far.loss, b.epoch_so_far.loss);
  EXPECT_EQ(a.epoch_so_far.correct, b.epoch_so_far.correct);
  EXPECT_EQ(a.epoch_so_far.rows, b.epoch_so_far.rows);
  EXPECT_EQ(a.best_accuracy, b.best_accuracy);
  EXPECT_EQ(a.settings, b.settings);
}

TrainingRecord through_file(const std::map<std::string, std::string>& metadata) {
  const Folder folder;
  write_safetensors(folder / "r", {}, metadata);
  return read_record(TensorFile(folder / "r"));
}

TEST(Checkpoint, TheRecordComesBackExactly) {
  expect_equal(through_file(record_metadata(small_record())), small_record());
  TrainingRecord plain;  // nothing known yet
  plain.input = {1, 1, 1};
  expect_equal(through_file(record_metadata(plain)), plain);

  TrainingRecord record = small_record();
  record.optimizer = OptimizerKind::kSgd;
  record.step = record.fc_updates = record.epoch = record.batch_in_epoch = INT64_MAX;
  record.epoch_so_far = {0, INT64_MAX, INT64_MAX};
  record.normalization.mean = {-std::numeric_limits<float>::denorm_min(), 0, 1e38f};
  for (const double loss : {0.1, -0.0, 1e300, 5e-324, 12345.678, std::nextafter(2.0, 3.0)}) {
    for (const double accuracy : {-1.0, 0.0, 1.0, 0.1 + 0.2}) {
      record.epoch_so_far.loss = loss;
      record.best_accuracy = accuracy;
      expect_equal(through_file(record_metadata(record)), record);
    }
  }
}

TEST(Checkpoint, ARecordOfAVersionForOneWorkerHasAnUpdateAStep) {
  std::map<std::string, std::string> metadata = record_metadata(small_record(12));
  ASSERT_EQ(metadata.erase("convoy.fc_updates"), 1u);
  EXPECT_EQ(through_file(metadata).fc_updates, 12);
}

struct BadField {
  const char *field, *value, *says;  // value null: the field is missing
};

const std::vector<BadField> kBadFields = {
    {"convoy.format", nullptr, "format is missing"},
    {"convoy.format", "2", "written by a newer Convoy (format 2"},
    {"convoy.format", "0", "format is 0, not from 1"},
    {"convoy.format", "one", "not a whole number"},
    {"convoy.net", nullptr, "net is missing"},
    {"convoy.net_text", nullptr, "net_text is missing"},
    {"convoy.input_h", nullptr, "input_h is missing"},
    {"convoy.input_h", "0", "input_h is 0, not from 1 to 1048576"},
    {"convoy.input_w", "-4", "input_w is -4"},
    {"convoy.input_c", "1048577", "input_c is 1048577"},
    {"convoy.classes", nullptr, "classes is missing"},
    {"convoy.classes", "", "not a list of texts"},
    {"convoy.classes", "a,b", "not a list of texts"},
    {"convoy.classes", "\"a\"", "not a list of texts"},
    {"convoy.classes", "{\"a\":\"b\"}", "not a list of texts"},
    {"convoy.classes", "[1]", "not a list of texts"},
    {"convoy.classes", "[\"a\",[\"b\"]]", "not a list of texts"},
    {"convoy.classes", "[{\"a\":\"b\"}]", "not a list of texts"},
    {"convoy.classes", "[\"a\"", "not a list of texts"},
    {"convoy.classes", "[\"a\"]]", "not a list of texts"},
    {"convoy.mean", nullptr, "mean is missing"},
    {"convoy.mean", "0x1p+0 0x1p+0", "mean has 2 numbers for 3 channels"},
    {"convoy.mean", "", "stddev does not fit mean"},
    {"convoy.mean", "0x1p+0 nan 0x1p+0", "not a finite number: 'nan'"},
    {"convoy.mean", "0x1p+0 -inf 0x1p+0", "not a finite number: '-inf'"},
    {"convoy.mean", "0x1p+0  0x1p+0", "not a finite number: ''"},
    {"convoy.mean", "1 2 x", "not a finite number: 'x'"},
    {"convoy.mean", "1 2 3x", "not a finite number: '3x'"},
    {"convoy.mean", "1 2 1e39", "mean is out of range"},
    {"convoy.stddev", nullptr, "stddev is missing"},
    {"convoy.stddev", "1 0 1", "stddev is 0, not positive"},
    {"convoy.stddev", "1 -1 1", "stddev is -1, not positive"},
    {"convoy.stddev", "1 1e-60 1", "stddev is 0, not positive"},
    {"convoy.optimizer", nullptr, "optimizer is missing"},
    {"convoy.optimizer", "lion", "optimizer is 'lion', not sgd or adamw"},
    {"convoy.seed", nullptr, "seed is missing"},
    {"convoy.seed", "-1", "not a whole number: '-1'"},
    {"convoy.seed", "18446744073709551616", "seed is out of range"},
    {"convoy.world", nullptr, "world is missing"},
    {"convoy.world", "0", "world is 0, not from 1"},
    {"convoy.step", nullptr, "step is missing"},
    {"convoy.step", "", "not a whole number: ''"},
    {"convoy.step", "1.5", "not a whole number: '1.5'"},
    {"convoy.step", " 1", "not a whole number: ' 1'"},
    {"convoy.step", "1 ", "not a whole number: '1 '"},
    {"convoy.step", "+1", "not a whole number: '+1'"},
    {"convoy.step", "0x10", "not a whole number: '0x10'"},
    {"convoy.step", "-1", "step is -1, not from 0"},
    {"convoy.step", "9223372036854775808", "step is out of range"},
    {"convoy.fc_updates", "", "not a whole number: ''"},
    {"convoy.loss_scale", "0x1p+30", "loss_scale is out of range"},
    {"convoy.loss_scale", "nan", "loss_scale is not a finite number"},
    {"convoy.loss_scale_steps", "2000", "loss_scale_steps is 2000, not from 0 to 1999"},
    {"convoy.fc_updates", "-1", "fc_updates is -1, not from 0"},
    {"convoy.fc_updates", "9223372036854775808", "fc_updates is out of range"},
    {"convoy.epoch", nullptr, "epoch is missing"},
    {"convoy.epoch", "-1", "epoch is -1"},
    {"convoy.batch_in_epoch", nullptr, "batch_in_epoch is missing"},
    {"convoy.batch_in_epoch", "-1", "batch_in_epoch is -1"},
    {"convoy.epoch_loss", nullptr, "epoch_loss is missing"},
    {"convoy.epoch_loss", "inf", "not a finite number: 'inf'"},
    {"convoy.epoch_loss", "1e999", "not a finite number: '1e999'"},
    {"convoy.epoch_loss", " 1", "not a finite number: ' 1'"},
    {"convoy.epoch_rows", nullptr, "epoch_rows is missing"},
    {"convoy.epoch_rows", "-1", "epoch_rows is -1"},
    {"convoy.epoch_correct", "65", "epoch_correct is 65, not from 0 to 64"},
    {"convoy.best_accuracy", nullptr, "best_accuracy is missing"},
    {"convoy.best_accuracy", "nan", "not a finite number: 'nan'"},
    {"convoy.best_accuracy", "1.5", "best_accuracy is 1.5, not a fraction"},
    {"convoy.best_accuracy", "-0.5", "best_accuracy is -0.5, not a fraction"},
};

TEST(Checkpoint, EveryBadFieldOfTheRecordIsNamed) {
  const Folder folder;
  const std::string file = folder / "bad.safetensors";
  for (const BadField& bad : kBadFields) {
    SCOPED_TRACE(text(bad.field, " = ", bad.value ? bad.value : "(missing)"));
    std::map<std::string, std::string> metadata = record_metadata(small_record());
    ASSERT_EQ(metadata.erase(bad.field), 1u);
    if (bad.value) metadata[bad.field] = bad.value;
    write_safetensors(file, {}, metadata);
    EXPECT_SAYS(refusal(file, [&] { read_record(TensorFile(file)); }), bad.says);
  }
  EXPECT_GE(kBadFields.size(), 60u);
}

TEST(Checkpoint, AFileWithoutARecordIsNotACheckpoint) {
  const Folder folder;
  write_bytes(folder / "w", tensor_file("{\"__metadata__\":{\"format\":\"pt\"}}", ""));
  const TensorFile file(folder / "w");
  EXPECT_FALSE(has_record(file));
  EXPECT_SAYS(refusal(folder / "w", [&] { read_record(file); }), "no training record");
  write_safetensors(folder / "c", {}, record_metadata(small_record()));
  EXPECT_TRUE(has_record(TensorFile(folder / "c")));
}

TEST(Checkpoint, ARecordWithoutItsChecksumIsDamaged) {
  const Folder folder;
  write_bytes(folder / "w", tensor_file("{\"__metadata__\":{\"convoy.format\":\"1\"}}", ""));
  EXPECT_SAYS(refusal(folder / "w", [&] { read_record(TensorFile(folder / "w")); }), "checksum is missing");
}

}  // namespace
}  // namespace convoy
