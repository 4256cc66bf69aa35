// What reading and writing safetensors files share.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "convoy/safetensors.h"

namespace convoy {

constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr const char* kChecksumKey = "crc32";     // of the header; "crc32:<tensor>" of a tensor
std::string checksum_key(const std::string& tensor);
std::string checksum_text(uint32_t crc);  // eight hexadecimal digits

struct FileHeader {
  std::vector<StoredTensor> tensors;  // sorted by name
  std::map<std::string, std::string> metadata;
};

// Reads the JSON header of a file with `data_bytes` bytes from `data_begin` on. Throws InputError naming
// `file` and tensor unless the tensors fill the data exactly, each as large as its dtype and shape say.
FileHeader parse_header(const std::string& json, const std::string& file, int64_t data_begin,
                        int64_t data_bytes);

// Over everything that the header says except this checksum itself. `data_begin` makes the offsets relative.
uint32_t header_checksum(const FileHeader& header, int64_t data_begin);

// Bytes of an element; 0 for a dtype that is not known.
int64_t file_dtype_bytes(const std::string& dtype);

// For messages: a name from a file in quotes, on one line, shortened; "[64,3,11,11]".
std::string printable(const std::string& name);
std::string extents_text(const std::vector<int64_t>& shape);

}  // namespace convoy
