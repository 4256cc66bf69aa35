// JPEG and PNG files as u8 pixels.
//
// JPEG: baseline and progressive; gray, YCbCr, RGB, and CMYK/YCCK (converted without a colour profile).
// PNG: every colour type and depth; 16 bits are scaled to 8, alpha is dropped (as PyTorch's loaders do).
// Orientation tags are not applied. Truncated or damaged files are errors, also where a decoder would go on
// with a warning. Images above kMaxPixels, and those that declare more pixels than their bytes can encode,
// are refused before their memory is allocated. Every error is an InputError of one line that starts with the
// file's name.
#pragma once
#include "data_file.h"

namespace convoy {

constexpr int64_t kMaxPixels = int64_t{64} << 20;
constexpr int64_t kMaxImageFileBytes = int64_t{256} << 20;

struct Pixels {
  int64_t h = 0, w = 0, c = 0;  // c is 1 or 3
  std::vector<uint8_t> data;    // [h,w,c]
};

// A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size when both sides stay at least twice `enough` (0:
// never).
Pixels decode_image(const Bytes& file, const Input& enough = {});
Pixels decode_jpeg(const Bytes& file, const Input& enough);
Pixels decode_png(const Bytes& file);

// The image that a net sees. One that has exactly the wanted extents is taken as it is. Else it is resized,
// keeping its proportions, until it covers 256/224 of them (for a square: the shorter side becomes
// side·256/224), and the middle is cut out. Bilinear with antialiasing in whole numbers: the same bytes on
// every machine. Gray and RGB are converted.
void fit_image(const Pixels& from, const Input& image, uint8_t* out);

// read_file, decode_image and fit_image.
void read_image(const std::string& path, const Input& image, uint8_t* out);

}  // namespace convoy
