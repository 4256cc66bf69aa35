#include "image_file.h"

namespace convoy {

Pixels decode_image(const Bytes& file, const Input& enough) {
  const uint8_t* b = file.data;
  if (file.count >= 3 && b[0] == 0xff && b[1] == 0xd8 && b[2] == 0xff) return decode_jpeg(file, enough);
  if (file.count >= 4 && b[0] == 0x89 && b[1] == 'P' && b[2] == 'N' && b[3] == 'G') return decode_png(file);
  input_error(file.name, ": is neither a JPEG nor a PNG file");
}

void read_image(const std::string& path, const Input& image, uint8_t* out) {
  const std::vector<uint8_t> file = read_file(path, kMaxImageFileBytes);
  fit_image(decode_image(bytes_of(file, path), image), image, out);
}

}  // namespace convoy
