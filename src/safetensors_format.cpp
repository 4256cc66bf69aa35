#include "safetensors_format.h"

#include <zlib.h>

#include <algorithm>
#include <cstdio>

#include "convoy/check.h"

namespace convoy {

std::string checksum_key(const std::string& tensor) {
  return text(kChecksumKey, ":", tensor);
}

std::string checksum_text(uint32_t crc) {
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", crc);
  return digits;
}

uint32_t header_checksum(const FileHeader& header, int64_t data_begin) {
  uLong crc = crc32_z(0, nullptr, 0);
  const auto add = [&crc](const std::string& part) {  // with its final NUL, which keeps neighbours apart
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(part.c_str()), part.size() + 1);
  };
  for (const auto& [key, value] : header.metadata) {
    if (key == kChecksumKey) continue;
    add(key);
    add(value);
  }
  for (const StoredTensor& tensor : header.tensors) {
    add(tensor.name);
    add(tensor.dtype);
    for (const int64_t extent : tensor.shape) add(std::to_string(extent));
    add(text("at ", tensor.offset - data_begin));
  }
  return static_cast<uint32_t>(crc);
}

int64_t file_dtype_bytes(const std::string& dtype) {
  static const std::map<std::string, int64_t> bytes = {
      {"BOOL", 1}, {"U8", 1},  {"I8", 1},   {"F8_E4M3", 1},     {"F8_E5M2", 1},    {"F8_E8M0", 1}, {"I16", 2},
      {"U16", 2},  {"F16", 2}, {"BF16", 2}, {"I32", 4},         {"U32", 4},        {"F32", 4},     {"I64", 8},
      {"U64", 8},  {"F64", 8}, {"C64", 8},  {"F8_E4M3FNUZ", 1}, {"F8_E5M2FNUZ", 1}};
  const auto found = bytes.find(dtype);
  return found == bytes.end() ? 0 : found->second;
}

std::string printable(const std::string& name) {
  constexpr size_t kShown = 80;
  std::string out = "'";
  for (const char c : name.substr(0, kShown)) {
    const auto byte = static_cast<unsigned char>(c);
    char escaped[5];
    std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
    if (byte < 0x20 || byte >= 0x7f) {
      out += escaped;
    } else {
      out += c;
    }
  }
  return out + (name.size() > kShown ? "...'" : "'");
}

std::string extents_text(const std::vector<int64_t>& shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) out += text(i ? "," : "", shape[i]);
  return out + "]";
}

}  // namespace convoy
