// Broken image files: each is an InputError of one line that names the file, without a word on stderr from
// the libraries.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>

#include "bad_input.h"
#include "data_files.h"
#include "image_file.h"

namespace convoy {
namespace {

using namespace convoy_test;

void expect_bad(const ByteVector& file, const std::string& part, const std::string& what = "") {
  SCOPED_TRACE(what);
  testing::internal::CaptureStderr();
  expect_input_error([&] { decode_image(bytes_of(file, "dir/picture.jpg")); }, "dir/picture.jpg: ", part);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

ByteVector first(const ByteVector& file, size_t bytes) {
  return {file.begin(), file.begin() + static_cast<int64_t>(bytes)};
}

size_t find(const ByteVector& file, const ByteVector& pattern) {
  const auto at = std::search(file.begin(), file.end(), pattern.begin(), pattern.end());
  if (at == file.end()) throw std::runtime_error("the file lacks the pattern");
  return static_cast<size_t>(at - file.begin());
}

// The size in the frame header of a JPEG.
ByteVector with_jpeg_size(ByteVector file, int h, int w) {
  const size_t frame = find(file, {0xff, 0xc0});
  file[frame + 5] = static_cast<uint8_t>(h >> 8);
  file[frame + 6] = static_cast<uint8_t>(h);
  file[frame + 7] = static_cast<uint8_t>(w >> 8);
  file[frame + 8] = static_cast<uint8_t>(w);
  return file;
}

void fix_png_crc(ByteVector& file, size_t chunk_type_at, size_t data_bytes) {
  const uLong crc = crc32(0, file.data() + chunk_type_at, static_cast<uInt>(4 + data_bytes));
  for (size_t i = 0; i < 4; ++i)
    file[chunk_type_at + 4 + data_bytes + i] = static_cast<uint8_t>(crc >> (24 - 8 * i));
}

ByteVector with_png_header(ByteVector file, const std::vector<std::pair<size_t, uint8_t>>& changes) {
  for (const auto& [at, value] : changes) file[16 + at] = value;  // 8 bytes of signature, 8 of chunk head
  fix_png_crc(file, 12, 13);
  return file;
}

const ByteVector kJpeg = make_jpeg(24, 32, ramp(24, 32, 3));
const ByteVector kPng = make_png(24, 32, ramp(24, 32, 3));

TEST(BadImage, WhatIsNeither) {
  const std::string html = "<html>not found</html>";
  expect_bad(ByteVector(html.begin(), html.end()), "is neither a JPEG nor a PNG file");
  expect_bad({'G', 'I', 'F', '8', '9', 'a', 0, 0}, "is neither");
  expect_bad({'R', 'I', 'F', 'F', 0, 0, 0, 0, 'W', 'E', 'B', 'P'}, "is neither");
  expect_bad({0xff}, "is neither");
  expect_bad(ByteVector(100, 0), "is neither");
}

TEST(BadImage, TruncatedAnywhere) {
  for (size_t bytes = 4; bytes < kPng.size(); ++bytes)
    expect_bad(first(kPng, bytes), "broken PNG", std::to_string(bytes));
  for (size_t bytes = 3; bytes < kJpeg.size(); ++bytes)
    expect_bad(first(kJpeg, bytes), "broken JPEG", std::to_string(bytes));
  const ByteVector progressive = make_jpeg(24, 32, ramp(24, 32, 3), {JCS_RGB, JCS_YCbCr, true});
  for (size_t bytes = 3; bytes < progressive.size(); ++bytes)
    expect_bad(first(progressive, bytes), "broken JPEG", std::to_string(bytes));
}

TEST(BadImage, JpegHeaders) {
  expect_bad(with_jpeg_size(kJpeg, 0, 32), "broken JPEG");
  expect_bad(with_jpeg_size(kJpeg, 24, 0), "broken JPEG");
  expect_bad(with_jpeg_size(kJpeg, 65500, 65500), "declares 65500x65500 pixels, more than");
  expect_bad(with_jpeg_size(kJpeg, 8000, 8000), "declares 8000x8000 pixels, too many for");
  expect_bad(with_jpeg_size(kJpeg, 65535, 65535), "broken JPEG");
  expect_bad(with_jpeg_size(kJpeg, 240, 32), "broken JPEG", "more rows than data");
  ByteVector marker = kJpeg;
  marker[find(kJpeg, {0xff, 0xc0}) + 1] = 0xc3;  // lossless
  expect_bad(marker, "broken JPEG");
  ByteVector sampling = kJpeg;
  sampling[find(kJpeg, {0xff, 0xc0}) + 11] = 0xff;
  expect_bad(sampling, "broken JPEG");
  ByteVector depth = kJpeg;
  depth[find(kJpeg, {0xff, 0xc0}) + 4] = 12;
  expect_bad(depth, "broken JPEG");
  ByteVector no_tables = kJpeg;
  no_tables[find(kJpeg, {0xff, 0xdb}) + 1] = 0xfe;  // quantisation tables become a comment
  expect_bad(no_tables, "broken JPEG");
}

TEST(BadImage, JpegOfTwoChannels) {
  ByteVector file = make_jpeg(8, 8, ramp(8, 8, 1), {JCS_GRAYSCALE, JCS_GRAYSCALE});
  // A second component in the frame header; the scan keeps one.
  const size_t frame = find(file, {0xff, 0xc0});
  file[frame + 3] = static_cast<uint8_t>(file[frame + 3] + 3);
  file[frame + 9] = 2;
  const ByteVector component = {2, 0x11, 0};
  file.insert(file.begin() + static_cast<int64_t>(frame) + 13, component.begin(), component.end());
  expect_bad(file, "a JPEG with 2 channels, want 1, 3 or 4");
}

TEST(BadImage, JpegWithThousandsOfScans) {
  const ByteVector base = make_jpeg(64, 64, ramp(64, 64, 1), {JCS_GRAYSCALE, JCS_GRAYSCALE, true});
  const size_t scan = find(base, {0xff, 0xda});
  ByteVector second(base.begin() + static_cast<int64_t>(scan), base.end());
  const size_t next =
      find(ByteVector(second.begin() + 2, second.end()), {0xff, 0xc4}) + 2;  // the scan after it
  const ByteVector one(second.begin(), second.begin() + static_cast<int64_t>(next));
  ByteVector file(base.begin(), base.begin() + static_cast<int64_t>(scan));
  for (int i = 0; i < 3000; ++i) file.insert(file.end(), one.begin(), one.end());
  file.insert(file.end(), {0xff, 0xd9});
  expect_bad(file, "broken JPEG");
}

TEST(BadImage, DamagedJpegData) {
  // Noise in the entropy-coded part. Huffman codes without gaps read on; what must not happen is a crash.
  const ByteVector sharp = make_jpeg(24, 32, ramp(24, 32, 3), {JCS_RGB, JCS_RGB});
  int errors = 0;
  for (size_t at = find(sharp, {0xff, 0xda}) + 14; at < sharp.size(); at += 3) {
    ByteVector file = sharp;
    file[at] ^= 0x55;
    try {
      decode_image(bytes_of(file, "picture"));
    } catch (const InputError& error) {
      ++errors;
      EXPECT_EQ(std::string(error.what()).rfind("picture: ", 0), 0u) << error.what();
    }
  }
  EXPECT_GT(errors, 0);
}

TEST(BadImage, PngChecksums) {
  for (size_t at = 12; at < kPng.size(); ++at) {  // any flipped bit behind the first length
    if (at >= 33 && at < 37) continue;            // a chunk's length is not under its checksum
    ByteVector file = kPng;
    file[at] ^= 1;
    expect_bad(file, "broken PNG", std::to_string(at));
  }
}

TEST(BadImage, PngHeaders) {
  expect_bad(with_png_header(kPng, {{3, 0}}), "broken PNG", "width 0");
  expect_bad(with_png_header(kPng, {{7, 0}}), "broken PNG", "height 0");
  expect_bad(with_png_header(kPng, {{0, 0x7f}, {4, 0x7f}}), "broken PNG", "sides of 2^31");
  expect_bad(with_png_header(kPng, {{1, 15}, {5, 15}}), "declares 983072x983064 pixels, more than");
  expect_bad(with_png_header(kPng, {{2, 0x1f}, {6, 0x1f}}), "declares 7968x7960 pixels, too many for");
  expect_bad(with_png_header(kPng, {{8, 3}}), "broken PNG", "depth 3");
  expect_bad(with_png_header(kPng, {{9, 1}}), "broken PNG", "colour type 1");
  expect_bad(with_png_header(kPng, {{9, 3}}), "broken PNG", "palette without one");
  expect_bad(with_png_header(kPng, {{10, 1}}), "broken PNG", "compression 1");
  expect_bad(with_png_header(kPng, {{11, 1}}), "broken PNG", "filter 1");
  expect_bad(with_png_header(kPng, {{12, 2}}), "broken PNG", "interlace 2");
  expect_bad(with_png_header(kPng, {{7, 240}}), "broken PNG", "more rows than data");
}

// A palette index past the palette: libpng reads it as black, and so do we; under a sanitizer this shows that
// nothing is read out of bounds.
TEST(BadImage, PngPaletteIndexOutOfRange) {
  const ByteVector file = make_png(1, 2, {200, 0}, {PNG_COLOR_TYPE_PALETTE, 8, false, false, {{1, 2, 3}}});
  EXPECT_EQ(decode_image(bytes_of(file, "picture")).data, (ByteVector{0, 0, 0, 1, 2, 3}));
}

TEST(BadImage, DeclaredSizesCostNoMemory) {
  struct rusage before {
  }, after{};
  getrusage(RUSAGE_SELF, &before);
  for (int i = 0; i < 20; ++i) {
    expect_bad(with_jpeg_size(kJpeg, 8000, 8000), "too many");
    expect_bad(with_png_header(kPng, {{2, 0x1f}, {6, 0x1f}}), "too many");
  }
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 16 << 10);  // kB; one such image takes 190 MB
}

TEST(BadImage, FilesThatCannotBeRead) {
  const TempFolder folder;
  uint8_t out[12];
  const auto expect = [&](const std::string& path, const std::string& part) {
    expect_input_error([&] { read_image(path, Input{2, 2, 3}, out); }, path, part);
  };
  expect(folder / "none.jpg", "No such file");
  expect(folder.path(), "is a folder");
  write_file(folder / "empty.png", {});
  expect(folder / "empty.png", "is empty");
  write_sparse(folder / "huge.jpg", int64_t{1} << 40);
  expect(folder / "huge.jpg", "more than the 268435456");
}

}  // namespace
}  // namespace convoy
