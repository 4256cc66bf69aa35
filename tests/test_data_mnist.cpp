#include <gtest/gtest.h>

#include <cmath>

#include "bad_input.h"
#include "convoy/data.h"
#include "data_files.h"

namespace convoy {
namespace {

using namespace convoy_test;

DataSets load(const std::string& dir) {
  DataOptions options;
  options.name = "mnist";
  options.dir = dir;
  return load_data(options);
}

// Six training images of 4x5 and three test images; names as asked for.
void write_all(const std::string& dir, const std::string& separator = "-", bool zipped = false) {
  const auto write = [&](const std::string& stem, const std::string& kind, const ByteVector& bytes) {
    write_file(dir + "/" + stem + separator + kind + (zipped ? ".gz" : ""), zipped ? gzip(bytes) : bytes);
  };
  write("train-images", "idx3-ubyte", make_idx(0x803, {6, 4, 5}, 120, 251));
  write("train-labels", "idx1-ubyte", make_idx(0x801, {6}, 6));
  write("t10k-images", "idx3-ubyte", make_idx(0x803, {3, 4, 5}, 60, 251));
  write("t10k-labels", "idx1-ubyte", make_idx(0x801, {3}, 3));
}

TEST(Mnist, ReadsEverySpelling) {
  for (const std::string separator : {"-", "."})
    for (const bool zipped : {false, true}) {
      const TempFolder folder;
      write_all(folder.path(), separator, zipped);
      const DataSets sets = load(folder.path());
      EXPECT_EQ(sets.train.count(), 6);
      EXPECT_EQ(sets.test.count(), 3);
      EXPECT_EQ(sets.train.image.h, 4);
      EXPECT_EQ(sets.train.image.w, 5);
      EXPECT_EQ(sets.train.image.c, 1);
      EXPECT_EQ(sets.train.classes, 10);
      EXPECT_EQ(sets.train.class_names[7], "7");
      EXPECT_EQ(sets.train.labels, (std::vector<int32_t>{0, 1, 2, 3, 4, 5}));
      EXPECT_FALSE(sets.augment_flip);
      EXPECT_EQ(sets.augment_pad, 2);
      uint8_t pixels[20];
      sets.train.read(5, pixels);
      for (int i = 0; i < 20; ++i) EXPECT_EQ(pixels[i], 100 + i);
    }
}

TEST(Mnist, FindsTorchvisionsFolder) {
  const TempFolder folder;
  write_all(folder / "MNIST/raw");
  EXPECT_EQ(load(folder.path()).test.count(), 3);
}

// One file of a good set is replaced by a bad one; the message names that file.
class BadMnist : public ::testing::Test {
 protected:
  void expect(const std::string& file, const ByteVector& bytes, const std::string& part) {
    const TempFolder folder;
    write_all(folder.path());
    write_file(folder / file, bytes);
    expect_input_error([&] { load(folder.path()); }, folder / file, part);
    if (bytes.empty()) return;
    // The same, zipped: nothing else may be found under the plain name.
    std::filesystem::remove(folder / file);
    write_file(folder / (file + ".gz"), gzip(bytes));
    expect_input_error([&] { load(folder.path()); }, folder / (file + ".gz"));
  }
  const std::string images_ = "train-images-idx3-ubyte", labels_ = "train-labels-idx1-ubyte";
};

TEST_F(BadMnist, TruncatedAtEveryHeaderByte) {
  const ByteVector images = make_idx(0x803, {6, 4, 5}, 120), labels = make_idx(0x801, {6}, 6);
  for (int64_t bytes = 0; bytes <= 16; ++bytes)
    expect(images_, ByteVector(images.begin(), images.begin() + bytes),
           bytes == 0   ? "is empty"
           : bytes < 16 ? "of its header of 16"
                        : "declares 136");
  for (int64_t bytes = 0; bytes <= 8; ++bytes)
    expect(labels_, ByteVector(labels.begin(), labels.begin() + bytes),
           bytes == 0  ? "is empty"
           : bytes < 8 ? "of its header of 8"
                       : "declares 14");
}

TEST_F(BadMnist, WrongHeaders) {
  expect(images_, make_idx(0x801, {6}, 20), "offset 0: the magic number is 2049, want 2051");
  expect(labels_, make_idx(0x803, {6, 4, 5}, 120), "offset 0: the magic number is 2051, want 2049");
  expect(images_, make_idx(0x30800, {6, 4, 5}, 120), "magic");
  expect(images_, ByteVector(200, 'a'), "magic");
  const std::string html = "<!DOCTYPE html><html><body>404 Not Found</body></html>";
  expect(labels_, ByteVector(html.begin(), html.end()), "magic");
  for (const int64_t count : {int64_t{0}, int64_t{0x80000000}, int64_t{0xffffffff}}) {
    expect(images_, make_idx(0x803, {count, 4, 5}, 120), "offset 4: declares");
    expect(labels_, make_idx(0x801, {count}, 6), "offset 4: declares");
  }
  for (const int64_t side : {int64_t{0}, int64_t{4097}, int64_t{0xffffffff}}) {
    expect(images_, make_idx(0x803, {6, side, 5}, 120), "offset 8: declares images of");
    expect(images_, make_idx(0x803, {6, 4, side}, 120), "offset 8: declares images of");
  }
  expect(images_, make_idx(0x803, {0x7fffffff, 4096, 4096}, 120), "declares 36028797002186768");
}

TEST_F(BadMnist, WrongSizes) {
  for (const int64_t off : {-1, 1}) {
    expect(images_, make_idx(0x803, {6, 4, 5}, 120 + off), "declares 136");
    expect(labels_, make_idx(0x801, {6}, 6 + off), "declares 14");
  }
  expect(labels_, make_idx(0x801, {5}, 5), "holds 5 labels");
  expect(labels_, make_idx(0x801, {7}, 7), "holds 7 labels");
}

TEST_F(BadMnist, LabelsOutOfRange) {
  ByteVector labels = make_idx(0x801, {6}, 6);
  for (const uint8_t bad : {uint8_t{10}, uint8_t{255}}) {
    labels[8 + 4] = bad;
    expect(labels_, labels, "label 4 (offset 12) is " + std::to_string(bad) + ", want 0 to 9");
  }
}

TEST_F(BadMnist, TestImagesOfOtherExtents) {
  const TempFolder folder;
  write_all(folder.path());
  write_file(folder / "t10k-images-idx3-ubyte", make_idx(0x803, {3, 5, 4}, 60));
  expect_input_error([&] { load(folder.path()); }, folder.path(), "4x5, test images 5x4");
}

TEST(Mnist, RefusesWhatIsNoReadableFile) {
  const TempFolder folder;
  write_all(folder.path());
  const std::string file = folder / "train-labels-idx1-ubyte";
  std::filesystem::remove(file);
  expect_input_error([&] { load(folder.path()); }, folder.path(), "holds no train-labels-idx1-ubyte");
  std::filesystem::create_directory(file);
  expect_input_error([&] { load(folder.path()); }, file, "is a folder");
  std::filesystem::remove(file);
  ASSERT_EQ(mkfifo(file.c_str(), 0600), 0);
  expect_input_error([&] { load(folder.path()); }, file,
                     "is not a regular file");  // and does not wait for a writer
  std::filesystem::remove(file);
  std::filesystem::create_symlink(folder / "nowhere", file);
  expect_input_error([&] { load(folder.path()); }, folder.path(), "holds no train-labels-idx1-ubyte");
  std::filesystem::remove(file);
  write_sparse(file, int64_t{3} << 30);
  expect_input_error([&] { load(folder.path()); }, file, "more than the 1073741824");
}

TEST(Mnist, RefusesAFileWithoutPermission) {
  const TempFolder folder;
  write_all(folder.path());
  const std::string file = folder / "train-labels-idx1-ubyte";
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  ASSERT_EQ(chmod(file.c_str(), 0), 0);
  const bool root = geteuid() == 0;  // may read everything, so be somebody else
  if (root && seteuid(65534) != 0) GTEST_SKIP() << "root cannot become another user here";
  expect_input_error([&] { load(folder.path()); }, file, "Permission denied");
  if (root) {
    ASSERT_EQ(seteuid(0), 0);
  }
}

TEST(MnistGzip, BrokenStreams) {
  const ByteVector images = make_idx(0x803, {6, 4, 5}, 120, 251), zipped = gzip(images);
  const auto expect = [&](const ByteVector& bytes, const std::string& part) {
    const TempFolder folder;
    write_all(folder.path(), "-", true);
    const std::string file = folder / "train-images-idx3-ubyte.gz";
    write_file(file, bytes);
    expect_input_error([&] { load(folder.path()); }, file, part);
  };
  for (size_t bytes = 2; bytes < zipped.size(); ++bytes)
    expect(ByteVector(zipped.begin(), zipped.begin() + static_cast<int64_t>(bytes)), "");
  for (size_t at = zipped.size() - 8; at < zipped.size(); ++at) {  // checksum and length
    ByteVector flipped = zipped;
    flipped[at] ^= 1;
    expect(flipped, "broken gzip data");
  }
  ByteVector twice = zipped;
  twice.insert(twice.end(), zipped.begin(), zipped.end());
  expect(twice, "follow the end of the gzip data");
}

TEST(MnistGzip, Bombs) {
  const TempFolder folder;
  write_all(folder.path(), "-", true);
  const std::string file = folder / "train-images-idx3-ubyte.gz";
  // 64 MiB of zeros behind a header that declares 120 bytes: stopped at the first byte too many.
  write_file(file, gzip(make_idx(0x803, {6, 4, 5}, 64 << 20, 1)));
  expect_input_error([&] { load(folder.path()); }, file, "holds more than the 136 bytes");
  // A header that declares 3 GiB in a file of a few bytes: refused before anything is allocated.
  write_file(file, gzip(make_idx(0x803, {200000, 128, 128}, 120)));
  expect_input_error([&] { load(folder.path()); }, file, "more than a gzip file of");
  // The data's bytes repeat without an end of the stream.
  ByteVector endless = gzip(make_idx(0x803, {6, 4, 5}, 1 << 20, 1));
  endless.resize(endless.size() / 2);
  write_file(file, endless);
  expect_input_error([&] { load(folder.path()); }, file, "holds more than the 136 bytes");
}

TEST(Mnist, RealData) {
  const std::string dir = real_data("mnist");
  if (dir.empty()) GTEST_SKIP() << "no real data here; set CONVOY_TEST_DATA";
  const DataSets sets = load(dir);
  EXPECT_EQ(sets.train.count(), 60000);
  EXPECT_EQ(sets.test.count(), 10000);
  EXPECT_EQ(sets.train.image.h, 28);
  const std::vector<int32_t> first(sets.train.labels.begin(), sets.train.labels.begin() + 8);
  EXPECT_EQ(first, (std::vector<int32_t>{5, 0, 4, 1, 9, 2, 1, 3}));
  double sum = 0, squares = 0;
  std::vector<uint8_t> pixels(784);
  for (int64_t i = 0; i < sets.train.count(); ++i) {
    sets.train.read(i, pixels.data());
    for (const uint8_t p : pixels) {
      sum += p;
      squares += double{1} * p * p;
    }
  }
  const double mean = sum / (60000 * 784.0);
  EXPECT_NEAR(mean / 255, static_cast<double>(sets.normalization.mean[0]), 0.00005);  // four digits are given
  EXPECT_NEAR(std::sqrt(squares / (60000 * 784.0) - mean * mean) / 255,
              static_cast<double>(sets.normalization.stddev[0]), 0.00005);
}

}  // namespace
}  // namespace convoy
