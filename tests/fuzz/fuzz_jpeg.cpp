// JPEG files: decoded, resized and cropped.
#include "image_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  if (bytes < 1) return 0;  // read_file refuses empty files
  try {
    const std::vector<uint8_t> file(data, data + bytes);
    const convoy::Input image{20, 28, 3};
    uint8_t out[20 * 28 * 3];
    convoy::fit_image(convoy::decode_jpeg(convoy::bytes_of(file, "fuzz"), image), image, out);
  } catch (const convoy::InputError&) {
  }
  return 0;
}
