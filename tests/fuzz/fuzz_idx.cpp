// IDX files, gzip or not. The first byte chooses labels or images.
#include "data_readers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  if (bytes < 2) return 0;  // read_file refuses empty files
  try {
    const convoy::Idx idx = convoy::parse_idx({data + 1, data + bytes}, "fuzz", data[0] % 2 ? 1 : 3);
    CONVOY_CHECK(idx.offset() == (data[0] % 2 ? 8 : 16), idx.offset());
  } catch (const convoy::InputError&) {
  }
  return 0;
}
