#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>

#include "image_file.h"

namespace convoy {
namespace {

// As in image_jpeg.cpp: functions that call setjmp hold plain values only.
class Decoder {
 public:
  explicit Decoder(const Bytes& file) : file_(file) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, this, fail, ignore);
    info_ = png_ ? png_create_info_struct(png_) : nullptr;
    if (!info_) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw Error("libpng cannot start: no memory, or another version than at compile time");
    }
  }
  ~Decoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  void check(bool ok) const {
    if (!ok) input_error(file_.name, ": broken PNG: ", message_);
  }
  bool read_header() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_read_fn(png_, this, read);
    png_read_info(png_, info_);
    return true;
  }
  // To 8 bits, one or three channels.
  bool set_transforms() {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_set_expand(png_);
    png_set_scale_16(png_);
    png_set_strip_alpha(png_);
    png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    return true;
  }
  bool read_rows(png_bytepp rows) {
    if (setjmp(png_jmpbuf(png_))) return false;
    png_read_image(png_, rows);
    png_read_end(png_, nullptr);
    return true;
  }
  int64_t h() const { return png_get_image_height(png_, info_); }
  int64_t w() const { return png_get_image_width(png_, info_); }
  int64_t c() const { return png_get_channels(png_, info_); }
  size_t row_bytes() const { return png_get_rowbytes(png_, info_); }

 private:
  [[noreturn]] static void fail(png_structp png, png_const_charp message) {
    auto* self = static_cast<Decoder*>(png_get_error_ptr(png));
    std::snprintf(self->message_, sizeof(self->message_), "%s", message);
    png_longjmp(png, 1);
  }
  static void ignore(png_structp, png_const_charp) {}
  static void read(png_structp png, png_bytep out, size_t count) {
    auto* self = static_cast<Decoder*>(png_get_io_ptr(png));
    if (static_cast<int64_t>(count) > self->file_.count - self->at_) png_error(png, "the file ends early");
    std::memcpy(out, self->file_.data + self->at_, count);
    self->at_ += static_cast<int64_t>(count);
  }

  const Bytes& file_;
  int64_t at_ = 0;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  char message_[200] = "";
};

}  // namespace

Pixels decode_png(const Bytes& file) {
  Decoder decoder(file);
  decoder.check(decoder.read_header());
  const int64_t h = decoder.h(), w = decoder.w();
  // A byte of deflate makes at most 1032 (zlib, "Maximum expansion factor").
  const int64_t encoded_bytes = static_cast<int64_t>(decoder.row_bytes()) * h;
  if (h * w > kMaxPixels || encoded_bytes / 1032 > file.count)
    input_error(
        file.name, ": declares ", w, "x", h, " pixels, ",
        h * w > kMaxPixels ? text("more than ", kMaxPixels) : text("too many for ", file.count, " bytes"));
  decoder.check(decoder.set_transforms());
  Pixels pixels;
  pixels.h = h;
  pixels.w = w;
  pixels.c = decoder.c();
  CONVOY_CHECK((pixels.c == 1 || pixels.c == 3) && decoder.row_bytes() == static_cast<size_t>(w * pixels.c),
               file.name, ": ", pixels.c, " channels");
  pixels.data.resize(static_cast<size_t>(h * w * pixels.c));
  std::vector<png_bytep> rows(static_cast<size_t>(h));
  for (size_t y = 0; y < rows.size(); ++y) rows[y] = pixels.data.data() + y * decoder.row_bytes();
  decoder.check(decoder.read_rows(rows.data()));
  return pixels;
}

}  // namespace convoy
