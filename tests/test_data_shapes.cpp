#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "bad_input.h"
#include "convoy/data.h"
#include "data_files.h"

namespace convoy {
namespace {

const DataSets& shapes() {
  static const DataSets sets = load_data({});
  return sets;
}

std::vector<uint8_t> read(const DataSet& set, int64_t index) {
  std::vector<uint8_t> pixels(static_cast<size_t>(set.image.h * set.image.w * set.image.c));
  set.read(index, pixels.data());
  return pixels;
}

TEST(Shapes, HasTheExtentsItSays) {
  EXPECT_EQ(shapes().train.count(), 8000);
  EXPECT_EQ(shapes().test.count(), 2000);
  for (const DataSet* set : {&shapes().train, &shapes().test}) {
    EXPECT_EQ(set->image.h, 32);
    EXPECT_EQ(set->image.w, 32);
    EXPECT_EQ(set->image.c, 3);
    EXPECT_EQ(set->classes, 10);
    EXPECT_EQ(std::set<std::string>(set->class_names.begin(), set->class_names.end()).size(), 10u);
    for (int32_t c = 0; c < 10; ++c)
      EXPECT_EQ(std::count(set->labels.begin(), set->labels.end(), c), set->count() / 10);
  }
}

// The bytes themselves: whoever changes the generator changes every accuracy that was ever written down.
TEST(Shapes, IsTheSameEverywhere) {
  uint64_t hash = 14695981039346656037u;  // FNV-1a
  for (int64_t i = 0; i < 200; ++i)
    for (const uint8_t byte : read(shapes().train, i)) hash = (hash ^ byte) * 1099511628211u;
  EXPECT_EQ(hash, 9356426606938216375u) << "of the first 200 training images";
}

TEST(Shapes, ImagesDifferBySeedIndexAndPart) {
  std::set<std::vector<uint8_t>> images;
  for (int64_t i = 0; i < 100; ++i) {
    images.insert(read(shapes().train, i));
    images.insert(read(shapes().test, i));
  }
  EXPECT_EQ(images.size(), 200u);
  DataOptions other;
  other.seed = 1;
  EXPECT_NE(read(load_data(other).train, 0), read(shapes().train, 0));
}

TEST(Shapes, NormalizationIsOfTheTrainingImages) {
  const DataSet& set = shapes().train;
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < set.count(); ++i) {
      const std::vector<uint8_t> pixels = read(set, i);
      for (size_t p = c; p < pixels.size(); p += 3) {
        sum += pixels[p] / 255.0;
        squares += pixels[p] / 255.0 * (pixels[p] / 255.0);
      }
    }
    const double count = static_cast<double>(set.count()) * 1024, mean = sum / count;
    // Rounded to float once: half a unit in the last place of a number below 1. The sums in double err by
    // less.
    EXPECT_NEAR(shapes().normalization.mean[c], mean, 1e-7);
    EXPECT_NEAR(shapes().normalization.stddev[c], std::sqrt(squares / count - mean * mean), 1e-7);
  }
}

TEST(Synthetic, ReadsItsName) {
  DataOptions options;
  options.name = "synthetic:6x5x2:7";
  const DataSets sets = load_data(options);
  EXPECT_EQ(sets.train.image.h, 6);
  EXPECT_EQ(sets.train.image.w, 5);
  EXPECT_EQ(sets.train.image.c, 2);
  EXPECT_EQ(sets.train.classes, 7);
  EXPECT_EQ(sets.train.class_names[6], "class_6");
  EXPECT_EQ(sets.normalization.mean.size(), 2u);
  std::vector<int64_t> counts(7);
  for (const int32_t label : sets.train.labels) ++counts.at(static_cast<size_t>(label));
  for (const int64_t count : counts) EXPECT_GT(count, 0);
  EXPECT_NE(read(sets.train, 0), read(sets.train, 1));
  EXPECT_NE(read(sets.train, 0), read(sets.test, 0));
  EXPECT_EQ(read(sets.train, 5), read(load_data(options).train, 5));
  for (int64_t i = 0; i < sets.train.count(); ++i)
    read(sets.train, i);  // every window lies inside (sanitizer)
}

TEST(Synthetic, RefusesOtherSpellings) {
  for (const std::string rest :
       {"", "32", "32x32", "32x32x3", "32x32x3:", "x32x3:10", "32x32x3:10x", "0x32x3:10", "32x0x3:10",
        "32x32x0:10", "32x32x3:0", "-1x32x3:10", "32x32x3:1.5", "99999999999x1x1:2",
        "1000000x1000000x1000000:2", "8192x8192x2:2", "32X32x3:10", " 32x32x3:10"}) {
    DataOptions options;
    options.name = "synthetic:" + rest;
    convoy_test::expect_input_error([&] { load_data(options); }, options.name,
                                    "want synthetic:HxWxC:classes");
  }
}

TEST(LoadData, NamesWhatThereIs) {
  DataOptions options;
  options.name = "no/such/thing";
  convoy_test::expect_input_error([&] { load_data(options); }, options.name,
                                  "shapes, mnist, cifar10, cifar100, synthetic");
  for (const char* name : {"mnist", "cifar10", "cifar100"}) {
    options.name = name;
    options.dir = "no/such/folder";
    convoy_test::expect_input_error([&] { load_data(options); }, "no/such/folder", "jobs/download_data.sh");
    options.dir = convoy_test::TempFolder().path();  // gone by now
    convoy_test::expect_input_error([&] { load_data(options); }, options.dir, "no folder");
    const convoy_test::TempFolder empty;
    options.dir = empty.path();
    convoy_test::expect_input_error([&] { load_data(options); }, options.dir, "holds no ");
  }
}

}  // namespace
}  // namespace convoy
