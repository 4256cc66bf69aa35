#include <cstddef>
#include <cstdio>
// jpeglib.h needs the two above
#include <jerror.h>
#include <jpeglib.h>

#include <csetjmp>
#include <cstring>

#include "image_file.h"

namespace convoy {
namespace {

// libjpeg reports errors through a callback that must not return. longjmp skips destructors: so every
// function below that calls setjmp holds plain values only, and what owns memory lives outside of it.
struct ErrorManager {
  jpeg_error_mgr base;  // first: libjpeg hands it back
  jmp_buf jump;
  char message[JMSG_LENGTH_MAX];
};

[[noreturn]] void fail(j_common_ptr info) {
  auto* error = reinterpret_cast<ErrorManager*>(info->err);
  info->err->format_message(info, error->message);
  longjmp(error->jump, 1);
}

// Level -1 is damaged data that libjpeg would paper over with gray; some harmless oddities of real files
// pass.
void warn(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_NOT_SEQUENTIAL:
    case JWRN_TOO_MUCH_DATA:
      return;
    default:
      fail(info);
  }
}

void be_silent(j_common_ptr) {}

// A progressive file of a few kB can ask for thousands of passes over a large image.
void limit_scans(j_common_ptr info) {
  constexpr int kMaxScans = 64;
  auto* error = reinterpret_cast<ErrorManager*>(info->err);
  if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= kMaxScans) return;
  std::snprintf(error->message, sizeof(error->message), "more than %d scans", kMaxScans);
  longjmp(error->jump, 1);
}

class Decoder {
 public:
  explicit Decoder(const Bytes& file) : file_(file) {
    info.err = jpeg_std_error(&error_.base);
    error_.base.error_exit = fail;
    error_.base.emit_message = warn;
    error_.base.output_message = be_silent;
    progress_.progress_monitor = limit_scans;
  }
  ~Decoder() { jpeg_destroy_decompress(&info); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  void check(bool ok) const {
    if (!ok) input_error(file_.name, ": broken JPEG: ", error_.message);
  }
  bool read_header() {
    if (setjmp(error_.jump)) return false;
    jpeg_create_decompress(&info);
    info.progress = &progress_;
    jpeg_mem_src(&info, file_.data, static_cast<unsigned long>(file_.count));
    jpeg_read_header(&info, TRUE);
    return true;
  }
  bool start() {
    if (setjmp(error_.jump)) return false;
    jpeg_start_decompress(&info);
    return true;
  }
  bool read_rows(uint8_t* out, size_t row_bytes) {
    if (setjmp(error_.jump)) return false;
    while (info.output_scanline < info.output_height) {
      JSAMPROW row = out + info.output_scanline * row_bytes;
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);  // meets a missing end
    return true;
  }

  jpeg_decompress_struct info{};

 private:
  const Bytes& file_;
  ErrorManager error_{};
  jpeg_progress_mgr progress_{};
};

// Four inks to RGB. Adobe's files hold 255 minus the ink.
void cmyk_to_rgb(std::vector<uint8_t>& data, bool inverted) {
  const size_t pixels = data.size() / 4;
  for (size_t i = 0; i < pixels; ++i) {
    const uint8_t* from = data.data() + 4 * i;
    const int key = inverted ? from[3] : 255 - from[3];
    int rgb[3];
    for (int c = 0; c < 3; ++c) rgb[c] = ((inverted ? from[c] : 255 - from[c]) * key + 127) / 255;
    for (size_t c = 0; c < 3; ++c) data[3 * i + c] = static_cast<uint8_t>(rgb[c]);  // never ahead of `from`
  }
  data.resize(3 * pixels);
}

}  // namespace

Pixels decode_jpeg(const Bytes& file, const Input& enough) {
  Decoder decoder(file);
  decoder.check(decoder.read_header());
  jpeg_decompress_struct& info = decoder.info;
  const int64_t h = info.image_height, w = info.image_width;
  // Huffman coding spends at least one bit on 8x8 values, so that a byte makes at most 512; twice that for
  // odd sampling.
  if (h * w > kMaxPixels || h * w / 1024 > file.count)
    input_error(
        file.name, ": declares ", w, "x", h, " pixels, ",
        h * w > kMaxPixels ? text("more than ", kMaxPixels) : text("too many for ", file.count, " bytes"));
  switch (info.jpeg_color_space) {
    case JCS_GRAYSCALE:
      info.out_color_space = JCS_GRAYSCALE;
      break;
    case JCS_RGB:
    case JCS_YCbCr:
      info.out_color_space = JCS_RGB;
      break;
    case JCS_CMYK:
    case JCS_YCCK:
      info.out_color_space = JCS_CMYK;
      break;
    default:
      input_error(file.name, ": a JPEG with ", info.num_components, " channels, want 1, 3 or 4");
  }
  if (enough.h > 0)
    for (unsigned scale = 2; scale <= 8; scale *= 2)
      if (h / scale >= 2 * enough.h && w / scale >= 2 * enough.w) info.scale_denom = scale;
  decoder.check(decoder.start());
  Pixels pixels;
  pixels.h = info.output_height;
  pixels.w = info.output_width;
  const size_t row_bytes = static_cast<size_t>(pixels.w) * static_cast<size_t>(info.output_components);
  pixels.data.resize(row_bytes * static_cast<size_t>(pixels.h));
  decoder.check(decoder.read_rows(pixels.data.data(), row_bytes));
  if (info.out_color_space == JCS_CMYK) cmyk_to_rgb(pixels.data, info.saw_Adobe_marker != 0);
  pixels.c = info.out_color_space == JCS_GRAYSCALE ? 1 : 3;
  return pixels;
}

}  // namespace convoy
