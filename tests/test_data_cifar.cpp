#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "bad_input.h"
#include "convoy/data.h"
#include "data_files.h"

namespace convoy {
namespace {

using namespace convoy_test;

constexpr int64_t kRecord10 = 3073, kRecord100 = 3074;

DataSets load(const std::string& name, const std::string& dir) {
  DataOptions options;
  options.name = name;
  options.dir = dir;
  return load_data(options);
}

// Full size, zeros but for one record; zeros take no space on the disk.
void write_cifar10(const std::string& dir) {
  for (const char* file :
       {"data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"})
    write_sparse(dir + "/" + file + ".bin", 10000 * kRecord10);
}
void write_cifar100(const std::string& dir) {
  write_sparse(dir + "/train.bin", 50000 * kRecord100);
  write_sparse(dir + "/test.bin", 10000 * kRecord100);
}

// A record whose red plane is 0, 1, 2, ..., green 100 more, blue 200 more (mod 256).
ByteVector record(const ByteVector& labels) {
  ByteVector bytes = labels;
  for (int c = 0; c < 3; ++c)
    for (int p = 0; p < 1024; ++p) bytes.push_back(static_cast<uint8_t>(p + 100 * c));
  return bytes;
}

void expect_ramp(const DataSet& set, int64_t index) {
  ByteVector pixels(3072);
  set.read(index, pixels.data());
  for (size_t p = 0; p < 1024; ++p)
    for (size_t c = 0; c < 3; ++c) ASSERT_EQ(pixels[3 * p + c], (p + 100 * c) % 256);
}

TEST(Cifar10, ReadsRecords) {
  const TempFolder folder;
  const std::string dir = folder / "cifar-10-batches-bin";  // the archive's folder is looked into
  write_cifar10(dir);
  write_sparse(dir + "/data_batch_3.bin", 10000 * kRecord10, 7 * kRecord10, record({9}));
  write_sparse(dir + "/test_batch.bin", 10000 * kRecord10, 9999 * kRecord10, record({4}));
  const DataSets sets = load("cifar10", folder.path());
  EXPECT_EQ(sets.train.count(), 50000);
  EXPECT_EQ(sets.test.count(), 10000);
  EXPECT_EQ(sets.train.class_names[9], "truck");
  EXPECT_EQ(sets.train.labels[20007], 9);
  EXPECT_EQ(std::count(sets.train.labels.begin(), sets.train.labels.end(), 0), 49999);
  EXPECT_EQ(sets.test.labels[9999], 4);
  expect_ramp(sets.train, 20007);
  expect_ramp(sets.test, 9999);
  EXPECT_TRUE(sets.augment_flip);
  EXPECT_EQ(sets.augment_pad, 4);
}

TEST(Cifar100, ReadsRecordsAndNames) {
  const TempFolder folder;
  write_cifar100(folder.path());
  write_sparse(folder / "train.bin", 50000 * kRecord100, 49999 * kRecord100, record({19, 99}));
  DataSets sets = load("cifar100", folder.path());
  EXPECT_EQ(sets.train.count(), 50000);
  EXPECT_EQ(sets.train.classes, 100);
  EXPECT_EQ(sets.train.labels[49999], 99);
  EXPECT_EQ(sets.train.class_names[99], "class_99");
  expect_ramp(sets.train, 49999);

  std::string names;
  for (int i = 0; i < 100; ++i) names += "animal" + std::to_string(i) + "\r\n";
  write_file(folder / "fine_label_names.txt", ByteVector(names.begin(), names.end()));
  EXPECT_EQ(load("cifar100", folder.path()).test.class_names[42], "animal42");
  names.resize(names.size() - 10);
  write_file(folder / "fine_label_names.txt", ByteVector(names.begin(), names.end()));
  expect_input_error([&] { load("cifar100", folder.path()); }, folder / "fine_label_names.txt",
                     "holds 99 class names");
}

TEST(BadCifar, WrongSizes) {
  const TempFolder folder;
  write_cifar10(folder.path());
  const std::string file = folder / "test_batch.bin";
  for (const int64_t bytes :
       {int64_t{1}, int64_t{3072}, int64_t{3073}, 9999 * kRecord10, 10000 * kRecord10 - 1,
        10000 * kRecord10 + 1, 10001 * kRecord10, int64_t{1} << 40}) {
    write_sparse(file, bytes);
    expect_input_error([&] { load("cifar10", folder.path()); }, file,
                       bytes > 10000 * kRecord10 ? "more than the 30730000" : "want exactly 30730000");
  }
  write_file(file, {});
  expect_input_error([&] { load("cifar10", folder.path()); }, file, "is empty");
  std::filesystem::remove(file);
  expect_input_error([&] { load("cifar10", folder.path()); }, file, "No such file");
  std::filesystem::create_directory(file);
  expect_input_error([&] { load("cifar10", folder.path()); }, file, "is a folder");
}

TEST(BadCifar, LabelsOutOfRange) {
  const TempFolder folder;
  write_cifar10(folder / "ten");
  const std::string file = folder / "ten/test_batch.bin";
  for (const uint8_t label : {uint8_t{10}, uint8_t{255}}) {
    write_sparse(file, 10000 * kRecord10, 1234 * kRecord10, {label});
    expect_input_error([&] { load("cifar10", folder / "ten"); }, file,
                       "record 1234 (offset 3792082): label " + std::to_string(label) + ", want 0 to 9");
  }
  write_cifar100(folder / "hundred");
  const std::string fine = folder / "hundred/test.bin";
  write_sparse(fine, 10000 * kRecord100, 3 * kRecord100, {0, 100});
  expect_input_error([&] { load("cifar100", folder / "hundred"); }, fine,
                     "record 3 (offset 9223): label 100, want 0 to 99");
}

TEST(BadCifar, AnotherVersionOfTheData) {
  const TempFolder folder;
  write_cifar10(folder.path());
  expect_input_error([&] { load("cifar100", folder.path()); }, folder.path(), "holds no train.bin");
}

TEST(Cifar10, RealData) {
  const std::string dir = real_data("cifar10");
  if (dir.empty()) GTEST_SKIP() << "no real data here; set CONVOY_TEST_DATA";
  const DataSets sets = load("cifar10", dir);
  EXPECT_EQ(sets.train.count(), 50000);
  EXPECT_EQ(std::vector<int32_t>(sets.train.labels.begin(), sets.train.labels.begin() + 6),
            (std::vector<int32_t>{6, 9, 9, 4, 1, 1}));
  for (int32_t c = 0; c < 10; ++c)
    EXPECT_EQ(std::count(sets.train.labels.begin(), sets.train.labels.end(), c), 5000);
  double sum[3] = {}, squares[3] = {};
  ByteVector pixels(3072);
  for (int64_t i = 0; i < sets.train.count(); ++i) {
    sets.train.read(i, pixels.data());
    for (size_t p = 0; p < 3072; ++p) {
      sum[p % 3] += pixels[p];
      squares[p % 3] += double{1} * pixels[p] * pixels[p];
    }
  }
  const double count = 50000 * 1024.0;
  for (size_t c = 0; c < 3; ++c) {  // the constants have four digits; green's mean 0.48216 is known as .4822
    EXPECT_NEAR(sum[c] / count / 255, static_cast<double>(sets.normalization.mean[c]), 0.0001);
    EXPECT_NEAR(std::sqrt(squares[c] / count - sum[c] / count * sum[c] / count) / 255,
                static_cast<double>(sets.normalization.stddev[c]), 0.0001);
  }
}

}  // namespace
}  // namespace convoy
