// CIFAR's binary version. The first byte chooses the format and how many records are wanted.
#include "data_readers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  if (bytes < 2) return 0;
  const convoy::CifarFormat format = data[0] % 2 ? convoy::CifarFormat{2, 100} : convoy::CifarFormat{1, 10};
  const int64_t records = 1 + data[0] / 2 % 4;
  std::vector<int32_t> labels;
  std::vector<uint8_t> pixels;
  try {
    const std::vector<uint8_t> file(data + 1, data + bytes);
    convoy::parse_cifar(convoy::bytes_of(file, "fuzz"), format, records, labels, pixels);
    CONVOY_CHECK(static_cast<int64_t>(pixels.size()) == records * 3072, pixels.size());
    for (const int32_t label : labels) CONVOY_CHECK(label >= 0 && label < format.classes, label);
  } catch (const convoy::InputError&) {
  }
  return 0;
}
