// Small data files for tests, the fuzz corpus and the benchmark: IDX, gzip, CIFAR records, JPEG, PNG.
#pragma once
#include <png.h>
#include <zlib.h>

#include <cstddef>
#include <cstdio>
// jpeglib.h needs the two above
#include <jpeglib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace convoy_test {

using ByteVector = std::vector<uint8_t>;

// A folder of its own that goes away with everything in it.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "convoy-test-XXXXXX").string();
    if (!mkdtemp(pattern.data())) throw std::runtime_error("mkdtemp " + pattern);
    path_ = pattern;
  }
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline void write_file(const std::string& path, const ByteVector& bytes) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream out(path, std::ios::binary);
  out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) throw std::runtime_error("writing " + path);
}

// Zeros without taking disk space, then some bytes at an offset.
inline void write_sparse(const std::string& path, int64_t bytes, int64_t offset = 0,
                         const ByteVector& content = {}) {
  write_file(path, {});
  std::filesystem::resize_file(path, static_cast<uintmax_t>(bytes));
  std::fstream out(path, std::ios::binary | std::ios::in | std::ios::out);
  out.seekp(offset);
  out.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
  if (!out.flush()) throw std::runtime_error("writing " + path);
}

inline void append_word(ByteVector& bytes, int64_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<uint8_t>(value >> shift & 255));
}

// An IDX file: the header as told, then `elements` bytes 0, 1, 2, ... mod `modulus`.
inline ByteVector make_idx(int64_t magic, const std::vector<int64_t>& extents, int64_t elements,
                           int64_t modulus = 10) {
  ByteVector bytes;
  append_word(bytes, magic);
  for (const int64_t extent : extents) append_word(bytes, extent);
  for (int64_t i = 0; i < elements; ++i) bytes.push_back(static_cast<uint8_t>(i % modulus));
  return bytes;
}

inline ByteVector gzip(const ByteVector& bytes) {
  z_stream z{};
  if (deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
    throw std::runtime_error("zlib");
  ByteVector out(deflateBound(&z, bytes.size()) + 64);
  z.next_in = const_cast<Bytef*>(bytes.data());
  z.avail_in = static_cast<uInt>(bytes.size());
  z.next_out = out.data();
  z.avail_out = static_cast<uInt>(out.size());
  if (deflate(&z, Z_FINISH) != Z_STREAM_END) throw std::runtime_error("deflate");
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

struct JpegKind {
  J_COLOR_SPACE from = JCS_RGB, stored = JCS_YCbCr;
  bool progressive = false;
  int quality = 95;
};

inline int channels_of(J_COLOR_SPACE space) {
  return space == JCS_GRAYSCALE ? 1 : space == JCS_CMYK ? 4 : 3;
}

// pixels [h,w,channels of kind.from]
inline ByteVector make_jpeg(int h, int w, const ByteVector& pixels, const JpegKind& kind = {}) {
  jpeg_compress_struct info;
  jpeg_error_mgr error;
  info.err = jpeg_std_error(&error);
  jpeg_create_compress(&info);
  unsigned char* memory = nullptr;
  unsigned long bytes = 0;
  jpeg_mem_dest(&info, &memory, &bytes);
  info.image_width = static_cast<JDIMENSION>(w);
  info.image_height = static_cast<JDIMENSION>(h);
  info.input_components = channels_of(kind.from);
  info.in_color_space = kind.from;
  jpeg_set_defaults(&info);
  jpeg_set_colorspace(&info, kind.stored);
  jpeg_set_quality(&info, kind.quality, TRUE);
  if (kind.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  const size_t row_bytes = static_cast<size_t>(w * info.input_components);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = const_cast<uint8_t*>(pixels.data()) + info.next_scanline * row_bytes;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  ByteVector out(memory, memory + bytes);
  jpeg_destroy_compress(&info);
  std::free(memory);
  return out;
}

struct PngKind {
  int color_type = PNG_COLOR_TYPE_RGB;
  int bits = 8;
  bool interlaced = false;
  bool transparency = false;  // a tRNS chunk
  std::vector<png_color> palette;
};

// rows: h rows as PNG stores them (16-bit values big-endian, small ones packed).
inline ByteVector make_png(int h, int w, const ByteVector& rows, const PngKind& kind = {}) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  ByteVector out;
  png_set_write_fn(
      png, &out,
      [](png_structp p, png_bytep data, size_t count) {
        auto* bytes = static_cast<ByteVector*>(png_get_io_ptr(p));
        bytes->insert(bytes->end(), data, data + count);
      },
      [](png_structp) {});
  png_set_IHDR(png, info, static_cast<png_uint_32>(w), static_cast<png_uint_32>(h), kind.bits,
               kind.color_type, kind.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!kind.palette.empty())
    png_set_PLTE(png, info, kind.palette.data(), static_cast<int>(kind.palette.size()));
  const png_byte alphas[1] = {0};
  png_color_16 clear{};
  if (kind.transparency) png_set_tRNS(png, info, alphas, 1, kind.palette.empty() ? &clear : nullptr);
  png_set_check_for_invalid_index(png, 0);  // tests write broken files too
  std::vector<png_bytep> row_pointers;
  const size_t row_bytes = rows.size() / static_cast<size_t>(h);
  for (int y = 0; y < h; ++y)
    row_pointers.push_back(const_cast<uint8_t*>(rows.data()) + static_cast<size_t>(y) * row_bytes);
  png_set_rows(png, info, row_pointers.data());
  png_write_png(png, info, PNG_TRANSFORM_IDENTITY, nullptr);
  png_destroy_write_struct(&png, &info);
  return out;
}

// A picture with detail: [h,w,channels], every channel a ramp of its own.
inline ByteVector ramp(int h, int w, int channels) {
  ByteVector pixels;
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x)
      for (int c = 0; c < channels; ++c)
        pixels.push_back(static_cast<uint8_t>(c == 0   ? 255 * x / w
                                              : c == 1 ? 255 * y / h
                                                       : 255 * (x + y) / (w + h)));
  return pixels;
}

// Where the real data are, or "" when they are not here.
inline std::string real_data(const std::string& what) {
  const char* root = std::getenv("CONVOY_TEST_DATA");
  const std::string path = (root ? std::string(root) : CONVOY_SOURCE_DIR "/../shared/data") + "/" + what;
  return std::filesystem::is_directory(path) ? path : "";
}

}  // namespace convoy_test
