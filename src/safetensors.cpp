#include "convoy/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "convoy/check.h"
#include "safetensors_format.h"

namespace convoy {
namespace {

// Fewer bytes than asked for: only at the end of the file.
int64_t read_at(int fd, const std::string& path, int64_t offset, char* to, int64_t bytes) {
  int64_t done = 0;
  while (done < bytes) {
    const ssize_t got =
        pread(fd, to + done, static_cast<size_t>(bytes - done), static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) input_error("cannot read ", path, ": ", std::strerror(errno));
    if (got == 0) break;
    done += got;
  }
  return done;
}

FileHeader read_header(int fd, const std::string& path) {
  struct stat status {};
  if (fstat(fd, &status) != 0) input_error("cannot read ", path, ": ", std::strerror(errno));
  if (S_ISDIR(status.st_mode)) input_error(path, " is a folder, not a safetensors file");
  if (!S_ISREG(status.st_mode)) input_error(path, " is not a regular file");
  const int64_t file_bytes = status.st_size;
  unsigned char length[8] = {};
  if (read_at(fd, path, 0, reinterpret_cast<char*>(length), 8) != 8) {
    input_error(path, ": ", file_bytes, " bytes are too few for a safetensors file");
  }
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i) header_bytes = header_bytes << 8 | length[i];
  if (header_bytes > static_cast<uint64_t>(kMaxHeaderBytes)) {
    input_error(path, ": a header of ", header_bytes, " bytes (at most ", kMaxHeaderBytes,
                "): not a safetensors file");
  }
  const int64_t data_begin = 8 + static_cast<int64_t>(header_bytes);
  if (data_begin > file_bytes) {
    input_error(path, ": the header takes ", header_bytes, " bytes, the file has ", file_bytes,
                ": it is cut short or not a safetensors file");
  }
  std::string json(static_cast<size_t>(header_bytes), '\0');
  if (read_at(fd, path, 8, json.data(), data_begin - 8) != data_begin - 8) {
    input_error(path, " became shorter while it was read");
  }
  if (json.empty() || json[0] != '{') {
    input_error(path, ": the header does not begin with '{': not a safetensors file");
  }
  FileHeader header = parse_header(json, path, data_begin, file_bytes - data_begin);
  const auto checksum = header.metadata.find(kChecksumKey);
  if (checksum != header.metadata.end() &&
      checksum->second != checksum_text(header_checksum(header, data_begin))) {
    input_error(path, ": the header's checksum differs: the file is damaged");
  }
  return header;
}

}  // namespace

// O_NONBLOCK: opening a pipe by mistake does not wait for its writer.
TensorFile::TensorFile(const std::string& path)
    : path_(path), fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (fd_ < 0) input_error("cannot open ", path, ": ", std::strerror(errno));
  try {
    FileHeader header = read_header(fd_, path_);
    tensors_ = std::move(header.tensors);
    metadata_ = std::move(header.metadata);
  } catch (...) {
    close(fd_);
    throw;
  }
}

TensorFile::~TensorFile() {
  close(fd_);
}

const StoredTensor* TensorFile::find(const std::string& name) const {
  const auto at = std::lower_bound(tensors_.begin(), tensors_.end(), name,
                                   [](const StoredTensor& t, const std::string& n) { return t.name < n; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

void TensorFile::read(const StoredTensor& tensor, const Part& part) const {
  static_assert(kPartBytes % 8 == 0, "no element lies in two parts");
  std::vector<char> buffer(static_cast<size_t>(std::min(kPartBytes, tensor.bytes)));
  uLong crc = crc32_z(0, nullptr, 0);
  for (int64_t done = 0; done < tensor.bytes;) {
    const int64_t bytes = std::min(kPartBytes, tensor.bytes - done);
    if (read_at(fd_, path_, tensor.offset + done, buffer.data(), bytes) != bytes) {
      input_error(path_, " became shorter while it was read");
    }
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(buffer.data()), static_cast<size_t>(bytes));
    part(buffer.data(), bytes);
    done += bytes;
  }
  const auto checksum = metadata_.find(checksum_key(tensor.name));
  if (checksum != metadata_.end() && checksum->second != checksum_text(static_cast<uint32_t>(crc))) {
    input_error(path_, ": tensor ", printable(tensor.name), ": its checksum differs: the file is damaged");
  }
}

void TensorFile::verify() const {
  for (const StoredTensor& tensor : tensors_) read(tensor, [](const char*, int64_t) {});
}

}  // namespace convoy
