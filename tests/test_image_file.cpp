#include <gtest/gtest.h>

#include <cmath>

#include "data_files.h"
#include "image_file.h"

namespace convoy {
namespace {

using namespace convoy_test;

// JPEG at quality 95 of a smooth ramp: every value within a few steps. The bound is the largest quantiser
// step of its tables (12 at quality 95) rather than a taste.
constexpr int kJpegBound = 12;

Pixels decode(const ByteVector& file) {
  return decode_image(bytes_of(file, "image"));
}

void expect_close(const Pixels& got, const ByteVector& want, int bound, const std::string& what) {
  ASSERT_EQ(got.data.size(), want.size()) << what;
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_LE(std::abs(int{got.data[i]} - int{want[i]}), bound) << what << " value " << i;
}

TEST(ImageFile, JpegOfEveryColourSpace) {
  const ByteVector rgb = ramp(40, 56, 3), gray = ramp(40, 56, 1);
  expect_close(decode(make_jpeg(40, 56, rgb)), rgb, kJpegBound, "YCbCr");
  expect_close(decode(make_jpeg(40, 56, rgb, {JCS_RGB, JCS_RGB})), rgb, kJpegBound, "RGB");
  expect_close(decode(make_jpeg(40, 56, rgb, {JCS_RGB, JCS_YCbCr, true})), rgb, kJpegBound, "progressive");
  const Pixels one = decode(make_jpeg(40, 56, gray, {JCS_GRAYSCALE, JCS_GRAYSCALE}));
  EXPECT_EQ(one.c, 1);
  expect_close(one, gray, kJpegBound, "gray");
}

TEST(ImageFile, InksBecomeRgb) {
  // libjpeg writes an Adobe marker, so 255 is no ink. Without the key ink, RGB is what is left of each
  // colour.
  ByteVector inks, rgb;
  const ByteVector base = ramp(40, 56, 3);
  for (size_t i = 0; i < base.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) {
      inks.push_back(base[i + c]);
      rgb.push_back(static_cast<uint8_t>((base[i + c] * 128 + 127) / 255));
    }
    inks.push_back(128);
  }
  for (const J_COLOR_SPACE stored : {JCS_CMYK, JCS_YCCK}) {
    const Pixels got = decode(make_jpeg(40, 56, inks, {JCS_CMYK, stored}));
    EXPECT_EQ(got.c, 3);
    expect_close(got, rgb, kJpegBound, stored == JCS_CMYK ? "CMYK" : "YCCK");
  }
}

TEST(ImageFile, LargeJpegsAreDecodedSmaller) {
  const ByteVector rgb = ramp(400, 640, 3);
  const ByteVector file = make_jpeg(400, 640, rgb);
  const Pixels whole = decode_image(bytes_of(file, "image"));
  EXPECT_EQ(whole.h, 400);
  const Pixels half = decode_image(bytes_of(file, "image"), Input{100, 100, 3});
  EXPECT_EQ(half.h, 200);
  EXPECT_EQ(half.w, 320);
  const Pixels eighth = decode_image(bytes_of(file, "image"), Input{20, 20, 3});
  EXPECT_EQ(eighth.h, 50);
}

TEST(ImageFile, PngIsExact) {
  const ByteVector rgb = ramp(9, 13, 3), gray = ramp(9, 13, 1);
  EXPECT_EQ(decode(make_png(9, 13, rgb)).data, rgb);
  PngKind interlaced;
  interlaced.interlaced = true;
  EXPECT_EQ(decode(make_png(9, 13, rgb, interlaced)).data, rgb);
  const Pixels one = decode(make_png(9, 13, gray, {PNG_COLOR_TYPE_GRAY, 8, false, false, {}}));
  EXPECT_EQ(one.c, 1);
  EXPECT_EQ(one.data, gray);
}

TEST(ImageFile, PngOfOtherDepthsAndAlpha) {
  // 16 bits: v * 257 is v exactly.
  ByteVector deep;
  for (const uint8_t v : ramp(5, 6, 3)) deep.insert(deep.end(), {v, v});
  EXPECT_EQ(decode(make_png(5, 6, deep, {PNG_COLOR_TYPE_RGB, 16, false, false, {}})).data, ramp(5, 6, 3));
  // 1 bit: 10110000 is white, black, white, white.
  const Pixels bits = decode(make_png(1, 4, {0xb0}, {PNG_COLOR_TYPE_GRAY, 1, false, false, {}}));
  EXPECT_EQ(bits.data, (ByteVector{255, 0, 255, 255}));
  // Palette, with and without a transparent entry.
  const std::vector<png_color> palette = {{1, 2, 3}, {250, 120, 7}};
  for (const bool transparent : {false, true}) {
    const Pixels got =
        decode(make_png(1, 2, {1, 0}, {PNG_COLOR_TYPE_PALETTE, 8, false, transparent, palette}));
    EXPECT_EQ(got.data, (ByteVector{250, 120, 7, 1, 2, 3})) << transparent;
  }
  // Alpha is dropped: the colour stays.
  EXPECT_EQ(
      decode(make_png(1, 2, {9, 8, 7, 0, 6, 5, 4, 255}, {PNG_COLOR_TYPE_RGB_ALPHA, 8, false, false, {}}))
          .data,
      (ByteVector{9, 8, 7, 6, 5, 4}));
  EXPECT_EQ(decode(make_png(1, 2, {9, 0, 6, 255}, {PNG_COLOR_TYPE_GRAY_ALPHA, 8, false, false, {}})).data,
            (ByteVector{9, 6}));
}

TEST(FitImage, TheWantedExtentsAreTakenAsTheyAre) {
  const Pixels from{5, 7, 3, ramp(5, 7, 3)};
  ByteVector out(from.data.size());
  fit_image(from, Input{5, 7, 3}, out.data());
  EXPECT_EQ(out, from.data);
}

// The definition, in double and without cutting anything short: resize the whole image, then crop.
std::vector<double> reference_fit(const Pixels& from, int64_t rh, int64_t rw, int64_t side) {
  const auto weight = [](int64_t in, int64_t out, int64_t i, int64_t x) {
    const double scale = static_cast<double>(in) / static_cast<double>(out), support = std::max(1.0, scale);
    return std::max(
        0.0, 1 - std::abs((static_cast<double>(x) + 0.5) - (static_cast<double>(i) + 0.5) * scale) / support);
  };
  std::vector<double> result;
  for (int64_t y = (rh - side) / 2; y < (rh - side) / 2 + side; ++y)
    for (int64_t x = (rw - side) / 2; x < (rw - side) / 2 + side; ++x)
      for (int64_t c = 0; c < from.c; ++c) {
        double sum = 0, total = 0;
        for (int64_t v = 0; v < from.h; ++v)
          for (int64_t u = 0; u < from.w; ++u) {
            const double w = weight(from.h, rh, y, v) * weight(from.w, rw, x, u);
            sum += w * from.data[static_cast<size_t>((v * from.w + u) * from.c + c)];
            total += w;
          }
        result.push_back(sum / total);
      }
  return result;
}

TEST(FitImage, IsTheTriangleFilter) {
  struct Case {
    int64_t h, w, side, rh, rw;
  };
  // Down, up, tall, wide, hardly at all; one channel and three.
  const Case cases[] = {{50, 70, 14, 16, 22},
                        {10, 12, 28, 32, 38},
                        {60, 31, 14, 30, 16},
                        {9, 90, 7, 8, 80},
                        {16, 16, 14, 16, 16}};
  for (const Case& k : cases)
    for (const int channels : {1, 3}) {
      Pixels from{k.h, k.w, channels, {}};
      for (int64_t i = 0; i < k.h * k.w * channels; ++i)
        from.data.push_back(static_cast<uint8_t>(i * i * 31 % 251));
      ByteVector got(static_cast<size_t>(k.side * k.side * channels));
      fit_image(from, Input{k.side, k.side, channels}, got.data());
      const std::vector<double> want = reference_fit(from, k.rh, k.rw, k.side);
      // Each of the two passes rounds to a whole number: at most 1/2 each, and the second averages the
      // first's errors.
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_LE(std::abs(got[i] - want[i]), 1.001)
            << k.h << "x" << k.w << " to " << k.side << ", value " << i;
    }
}

TEST(FitImage, ConvertsGrayAndRgb) {
  const Pixels gray{2, 2, 1, {1, 2, 3, 4}};
  ByteVector rgb(12);
  fit_image(gray, Input{2, 2, 3}, rgb.data());
  EXPECT_EQ(rgb, (ByteVector{1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4}));
  const Pixels color{1, 2, 3, {255, 0, 0, 10, 10, 10}};
  ByteVector one(2);
  fit_image(color, Input{1, 2, 1}, one.data());
  EXPECT_EQ(one, (ByteVector{76, 10}));
}

TEST(FitImage, OneByManyPixels) {
  const Pixels line{1, 5000, 1, ByteVector(5000, 77)};
  ByteVector out(32 * 32 * 3);
  fit_image(line, Input{32, 32, 3}, out.data());
  EXPECT_EQ(out, ByteVector(out.size(), 77));
}

}  // namespace
}  // namespace convoy
