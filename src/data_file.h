// Whole files in memory, for the data readers.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "convoy/data.h"

namespace convoy {

// Bytes in memory and the name that stands in messages.
struct Bytes {
  const uint8_t* data = nullptr;
  int64_t count = 0;
  std::string name;
};

// The bytes of a regular file. Throws InputError naming the file when it cannot be opened, is a folder or a
// device, is empty, or holds more than `max_bytes` (checked before anything is allocated).
std::vector<uint8_t> read_file(const std::string& path, int64_t max_bytes);
inline Bytes bytes_of(const std::vector<uint8_t>& bytes, const std::string& name) {
  return {bytes.data(), static_cast<int64_t>(bytes.size()), name};
}

// The folder's entries without hidden ones, sorted by byte. Throws InputError when it cannot be read or is
// none.
std::vector<std::string> list_folder(const std::string& path);
bool is_folder(const std::string& path);
bool is_file(const std::string& path);  // exists and is no folder

// A data set whose pixels [count,H,W,C] lie in memory, `offset` bytes from the start of `pixels`.
DataSet memory_set(const std::string& name, const Input& image, std::vector<std::string> class_names,
                   std::vector<int32_t> labels, std::vector<uint8_t> pixels, int64_t offset = 0);
std::vector<std::string> numbered_classes(int64_t classes);  // class_0, class_1, ...

// Mean and standard deviation per channel over every pixel, from exact sums; a constant channel has
// deviation 1.
Normalization measure_normalization(const DataSet& set);

}  // namespace convoy
