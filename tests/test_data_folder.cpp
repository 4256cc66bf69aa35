#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "bad_input.h"
#include "convoy/data.h"
#include "data_files.h"

namespace convoy {
namespace {

using namespace convoy_test;

DataSets load(const std::string& folder, int64_t side = 8) {
  DataOptions options;
  options.name = folder;
  options.image_size = side;
  return load_data(options);
}

ByteVector plain_png(uint8_t value) {
  return make_png(8, 8, ByteVector(192, value));
}

// Classes "b dog" and "cat": two and one training images, one test image each; every pixel of an image has
// one value.
void write_all(const TempFolder& folder, const std::string& test = "val") {
  write_file(folder / "train/cat/x.png", plain_png(10));
  write_file(folder / "train/b dog/2.PNG", plain_png(30));
  write_file(folder / "train/b dog/1.jpeg", make_jpeg(8, 8, ByteVector(192, 20)));
  write_file(folder / (test + "/cat/y.jpg"),
             make_jpeg(8, 8, ByteVector(64, 40), {JCS_GRAYSCALE, JCS_GRAYSCALE}));
  write_file(folder / (test + "/b dog/z.png"), plain_png(50));
}

int first_value(const DataSet& set, int64_t index) {
  ByteVector pixels(static_cast<size_t>(set.image.h * set.image.w * 3));
  set.read(index, pixels.data());
  EXPECT_EQ(pixels, ByteVector(pixels.size(), pixels[0]));
  return pixels[0];
}

TEST(Folder, SortsClassesAndFiles) {
  for (const std::string test : {"val", "test"}) {
    const TempFolder folder;
    write_all(folder, test);
    const DataSets sets = load(folder.path());
    EXPECT_EQ(sets.train.class_names, (std::vector<std::string>{"b dog", "cat"}));
    EXPECT_EQ(sets.train.labels, (std::vector<int32_t>{0, 0, 1}));
    EXPECT_EQ(sets.test.labels, (std::vector<int32_t>{0, 1}));
    for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(first_value(sets.train, i), i == 0 ? 20 : i == 1 ? 30 : 10);
    EXPECT_EQ(first_value(sets.test, 1), 40);
    EXPECT_TRUE(sets.augment_flip);
    EXPECT_EQ(sets.augment_pad, 0);
  }
}

TEST(Folder, SizesAre224UnlessTold) {
  const TempFolder folder;
  write_all(folder);
  EXPECT_EQ(load(folder.path(), 0).train.image.h, 224);
  const DataSets sets = load(folder.path(), 5);
  EXPECT_EQ(sets.train.image.w, 5);
  EXPECT_EQ(first_value(sets.train, 2), 10);
  for (const int64_t side : {-1, 4097})
    expect_input_error([&] { load(folder.path(), side); }, folder.path(), "want 1 to 4096");
}

TEST(Folder, LeavesOtherFilesAlone) {
  const TempFolder folder;
  write_all(folder);
  write_file(folder / "train/cat/notes.txt", {'x'});
  write_file(folder / "train/cat/.hidden.png", {'x'});
  write_file(folder / "train/.cache/x.png", {'x'});
  write_file(folder / "train/README", {'x'});
  write_file(folder / "train/cat/.png", {'x'});
  EXPECT_EQ(load(folder.path()).train.count(), 3);
}

TEST(Folder, FollowsLinks) {
  const TempFolder folder;
  write_all(folder);
  std::filesystem::create_symlink(folder / "train/cat/x.png", folder / "train/cat/again.png");
  std::filesystem::create_directory_symlink(folder / "train/cat", folder / "train/also");
  const DataSets sets = load(folder.path());
  EXPECT_EQ(sets.train.class_names, (std::vector<std::string>{"also", "b dog", "cat"}));
  EXPECT_EQ(sets.train.count(), 6);
  EXPECT_EQ(first_value(sets.train, 0), 10);
}

TEST(BadFolder, WhatIsMissing) {
  const TempFolder folder;
  const std::string root = folder.path();
  const auto expect = [&](const std::string& name, const std::string& part) {
    expect_input_error([&] { load(root); }, name, part);
  };
  expect(root, "has no train folder");
  write_file(folder / "train/x/1.png", plain_png(1));
  expect(root, "neither a val nor a test folder");
  std::filesystem::create_directory(folder / "val");
  expect(folder / "val", "holds no class folders");
  std::filesystem::create_directory(folder / "val/x");
  expect(folder / "val/x", "holds no .jpg, .jpeg or .png file");
  write_file(folder / "val/x/picture.gif", {'G'});
  expect(folder / "val/x", "(1 of other kinds)");
  write_file(folder / "val/x/2.png", plain_png(1));
  EXPECT_EQ(load(root).test.count(), 1);
  write_file(folder / "val/y/2.png", plain_png(1));
  expect(folder / "val/y", "this class has no folder among the training images");
  write_file(folder / "train/lost.jpg", plain_png(1));
  expect(folder / "train/lost.jpg", "lies outside of a class folder");
  std::filesystem::remove(folder / "train/lost.jpg");
  write_file(folder / "train/x/inner/3.png", plain_png(1));
  expect(folder / "train/x/inner", "is a folder inside a class folder");
  std::filesystem::remove_all(folder / "train/x");
  expect(folder / "train", "holds no class folders");
  std::filesystem::remove_all(folder / "train");
  write_file(folder / "train", {'x'});
  expect(root, "has no train folder");
}

// Images are decoded while the net trains: the error gives the path then.
TEST(BadFolder, BrokenImagesComeThroughTheLoader) {
  const TempFolder folder;
  write_all(folder);
  ByteVector cut = plain_png(1);
  cut.resize(cut.size() - 20);
  write_file(folder / "train/cat/w.png", cut);
  const DataSets sets = load(folder.path());
  Loader::Options options;
  options.batch = 2;
  options.shuffle = false;
  options.threads = 2;
  Loader loader(sets.train, options);
  loader.start(0);
  ASSERT_NE(loader.next(), nullptr);
  expect_input_error([&] { loader.next(); }, folder / "train/cat/w.png", "broken PNG: the file ends early");
}

TEST(Folder, RealPhotos) {
  for (const std::string name : {"imagefolder/hymenoptera_mini", "imagefolder/imagenette160"}) {
    const std::string dir = real_data(name);
    if (dir.empty()) GTEST_SKIP() << "no real data here; set CONVOY_TEST_DATA";
    const DataSets sets = load(dir, 64);
    EXPECT_EQ(sets.train.classes, name == "imagefolder/imagenette160" ? 10 : 2);
    ByteVector pixels(64 * 64 * 3);
    for (const DataSet* set : {&sets.train, &sets.test})
      for (int64_t i = 0; i < set->count(); i += 9) {
        set->read(i, pixels.data());
        EXPECT_NE(*std::min_element(pixels.begin(), pixels.end()),
                  *std::max_element(pixels.begin(), pixels.end()))
            << i;
      }
  }
}

}  // namespace
}  // namespace convoy
