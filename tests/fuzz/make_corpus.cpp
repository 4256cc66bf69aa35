// Writes the seed corpus of the data readers; by hand, when a reader learns something new:
//   g++ -std=c++17 tests/fuzz/make_corpus.cpp -ljpeg -lpng -lz -o make_corpus && ./make_corpus
//   tests/fuzz/corpus
#include <cstdio>

#include "../data_files.h"

int main(int argc, char** argv) try {
  using namespace convoy_test;
  if (argc != 2) {
    std::fprintf(stderr, "usage: make_corpus FOLDER\n");
    return 2;
  }
  const std::string root = std::string(argv[1]) + "/";
  const auto write = [&root](const std::string& name, const ByteVector& bytes) {
    write_file(root + name, bytes);
  };
  const auto with_first = [](uint8_t byte, ByteVector bytes) {
    bytes.insert(bytes.begin(), byte);
    return bytes;
  };
  const ByteVector images = make_idx(0x803, {2, 3, 4}, 24), labels = make_idx(0x801, {5}, 5);
  write("idx/images", with_first(0, images));
  write("idx/labels", with_first(1, labels));
  write("idx/images_gz", with_first(0, gzip(images)));
  write("idx/labels_gz", with_first(1, gzip(labels)));
  write("idx/bomb_gz", with_first(0, gzip(make_idx(0x803, {2, 3, 4}, 100000, 1))));
  write("idx/huge_gz", with_first(0, gzip(make_idx(0x803, {200000, 128, 128}, 24))));
  write("cifar/ten", with_first(0, ByteVector(3073, 7)));
  write("cifar/hundred", with_first(1, ByteVector(3074, 99)));
  write("cifar/two", with_first(2, ByteVector(2 * 3073, 3)));
  write("cifar/label", with_first(0, ByteVector(3073, 10)));

  const ByteVector rgb = ramp(9, 17, 3), gray = ramp(9, 17, 1), inks = ramp(9, 17, 4);
  write("jpeg/rgb", make_jpeg(9, 17, rgb, {JCS_RGB, JCS_RGB, false, 50}));
  write("jpeg/ycc", make_jpeg(9, 17, rgb, {JCS_RGB, JCS_YCbCr, false, 50}));
  write("jpeg/gray", make_jpeg(9, 17, gray, {JCS_GRAYSCALE, JCS_GRAYSCALE, false, 50}));
  write("jpeg/progressive", make_jpeg(9, 17, rgb, {JCS_RGB, JCS_YCbCr, true, 50}));
  write("jpeg/cmyk", make_jpeg(9, 17, inks, {JCS_CMYK, JCS_CMYK, false, 50}));
  write("jpeg/ycck", make_jpeg(9, 17, inks, {JCS_CMYK, JCS_YCCK, false, 50}));
  write("png/rgb", make_png(9, 17, rgb));
  write("png/interlaced", make_png(9, 17, rgb, {PNG_COLOR_TYPE_RGB, 8, true, false, {}}));
  write("png/transparent", make_png(9, 17, rgb, {PNG_COLOR_TYPE_RGB, 8, false, true, {}}));
  write("png/gray", make_png(9, 17, gray, {PNG_COLOR_TYPE_GRAY, 8, false, false, {}}));
  write("png/bits", make_png(4, 8, {0xaa, 0x55, 0xff, 0x00}, {PNG_COLOR_TYPE_GRAY, 1, false, false, {}}));
  write("png/deep", make_png(2, 2, ramp(2, 4, 3), {PNG_COLOR_TYPE_RGB, 16, false, false, {}}));
  write("png/alpha", make_png(9, 17, inks, {PNG_COLOR_TYPE_RGB_ALPHA, 8, false, false, {}}));
  write("png/palette",
        make_png(1, 4, {0, 1, 1, 2}, {PNG_COLOR_TYPE_PALETTE, 8, false, true, {{1, 2, 3}, {4, 5, 6}}}));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "make_corpus: %s\n", error.what());
  return 1;
}
