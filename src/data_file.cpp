#include "data_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>

namespace convoy {
namespace {

class Descriptor {
 public:
  // Not blocking: opening a named pipe would wait for a writer.
  explicit Descriptor(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) input_error(path, ": cannot be opened: ", std::strerror(errno));
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::vector<uint8_t> read_file(const std::string& path, int64_t max_bytes) {
  const Descriptor file(path);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) input_error(path, ": cannot be read: ", std::strerror(errno));
  if (S_ISDIR(info.st_mode)) input_error(path, ": is a folder, want a file");
  if (!S_ISREG(info.st_mode)) input_error(path, ": is not a regular file");
  if (info.st_size == 0) input_error(path, ": is empty");
  if (info.st_size > max_bytes)
    input_error(path, ": holds ", info.st_size, " bytes, more than the ", max_bytes,
                " that such a file may have");
  std::vector<uint8_t> bytes(static_cast<size_t>(info.st_size));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t got = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) input_error(path, ": cannot be read: ", std::strerror(errno));
    if (got == 0)
      input_error(path, ": became shorter while it was read: ", done, " of ", bytes.size(), " bytes");
    done += static_cast<size_t>(got);
  }
  return bytes;
}

std::vector<std::string> list_folder(const std::string& path) {
  DIR* folder = ::opendir(path.c_str());
  if (!folder) input_error(path, ": cannot be read as a folder: ", std::strerror(errno));
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(folder))
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  ::closedir(folder);
  std::sort(names.begin(), names.end());
  return names;
}

bool is_folder(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

bool is_file(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && !S_ISDIR(info.st_mode);
}

DataSet memory_set(const std::string& name, const Input& image, std::vector<std::string> class_names,
                   std::vector<int32_t> labels, std::vector<uint8_t> pixels, int64_t offset) {
  DataSet set;
  set.name = name;
  set.image = image;
  set.classes = static_cast<int64_t>(class_names.size());
  set.class_names = std::move(class_names);
  set.labels = std::move(labels);
  const int64_t image_bytes = image.h * image.w * image.c;
  CONVOY_CHECK(offset + set.count() * image_bytes == static_cast<int64_t>(pixels.size()), name, ": ",
               set.count(), " images, ", pixels.size(), " bytes");
  const auto shared = std::make_shared<const std::vector<uint8_t>>(std::move(pixels));
  set.read = [shared, offset, image_bytes](int64_t index, uint8_t* out) {
    std::memcpy(out, shared->data() + offset + index * image_bytes, static_cast<size_t>(image_bytes));
  };
  return set;
}

std::vector<std::string> numbered_classes(int64_t classes) {
  std::vector<std::string> names;
  for (int64_t i = 0; i < classes; ++i) names.push_back(text("class_", i));
  return names;
}

Normalization measure_normalization(const DataSet& set) {
  const size_t channels = static_cast<size_t>(set.image.c);
  std::vector<uint64_t> sum(channels), squares(channels);
  std::vector<uint8_t> pixels(static_cast<size_t>(set.image.h * set.image.w) * channels);
  for (int64_t i = 0; i < set.count(); ++i) {
    set.read(i, pixels.data());
    for (size_t p = 0; p < pixels.size(); p += channels)
      for (size_t c = 0; c < channels; ++c) {
        const uint64_t value = pixels[p + c];
        sum[c] += value;
        squares[c] += value * value;
      }
  }
  Normalization result;
  const double count = static_cast<double>(set.count() * set.image.h * set.image.w);
  for (size_t c = 0; c < channels; ++c) {
    const double mean = static_cast<double>(sum[c]) / count;
    const double variance = std::max(0.0, static_cast<double>(squares[c]) / count - mean * mean);
    result.mean.push_back(static_cast<float>(mean / 255));
    result.stddev.push_back(variance > 0 ? static_cast<float>(std::sqrt(variance) / 255) : 1.0f);
  }
  return result;
}

}  // namespace convoy
