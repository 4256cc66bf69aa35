// The safetensors format: u64 header length, a JSON header, and the tensors' bytes, little-endian, without
// gaps. (https://github.com/huggingface/safetensors)
//
// Checksums are Convoy's addition, in __metadata__: "crc32:<tensor>" over a tensor's bytes, and "crc32" over
// the rest of the header. Files of other programs have none.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace convoy {

struct StoredTensor {
  std::string name, dtype;        // "F32", "F64", "F16", "BF16", "I64", "U8", ...
  std::vector<int64_t> shape;     // empty: a scalar
  int64_t offset = 0, bytes = 0;  // in the file
};

// A file that is open for reading. Nothing is read but the header until read() is called.
class TensorFile {
 public:
  // Throws InputError naming file, tensor, and what is wrong: every offset, extent and product is checked
  // against the file's size before anything is allocated.
  explicit TensorFile(const std::string& path);
  ~TensorFile();
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // sorted by name
  const StoredTensor* find(const std::string& name) const;               // nullptr: not there
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  // Hands the tensor's bytes over in order, in parts of whole elements (at most kPartBytes). Throws
  // InputError after the last part when the checksum differs, or when the file has become shorter.
  using Part = std::function<void(const char* data, int64_t bytes)>;
  void read(const StoredTensor& tensor, const Part& part) const;
  static constexpr int64_t kPartBytes = 1 << 20;

  // Reads everything once, for the checksums.
  void verify() const;

 private:
  std::string path_;
  int fd_ = -1;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to be written. `fill` writes elements [first, first + count) to `to`; it is asked for every
// element once, in order.
struct TensorSource {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::function<void(int64_t first, int64_t count, char* to)> fill;
};

// Writes the file (checksums added) under FILE.tmp, syncs it, renames it, and syncs the folder. Throws Error
// and removes FILE.tmp when the disk is full or a call fails. Needs one part's memory, whatever the size of
// the tensors.
void write_safetensors(const std::string& path, const std::vector<TensorSource>& tensors,
                       std::map<std::string, std::string> metadata = {});

}  // namespace convoy
