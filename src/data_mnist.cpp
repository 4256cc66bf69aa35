// MNIST and what has its format (Fashion-MNIST, ...): four IDX files.
#include "data_readers.h"

namespace convoy {
namespace {

// The usual names: "-" or "." before idx, with or without .gz.
std::string find_idx(const std::string& dir, const std::string& stem, const std::string& kind) {
  for (const std::string& folder : {dir, dir + "/MNIST/raw"})
    for (const char* separator : {"-", "."})
      for (const char* suffix : {"", ".gz"}) {
        std::string path = text(folder, "/", stem, separator, kind, suffix);
        if (is_file(path) || is_folder(path)) return path;
      }
  input_error(dir, ": holds no ", stem, "-", kind,
              " or .gz of it; jobs/download_data.sh mnist fetches MNIST");
}

Idx read_idx(const std::string& path, int extents) {
  constexpr int64_t kMaxBytes = int64_t{1} << 30;
  return parse_idx(read_file(path, kMaxBytes), path, extents);
}

DataSet read_set(const std::string& dir, const std::string& prefix, const std::string& name) {
  const std::string image_path = find_idx(dir, prefix + "-images", "idx3-ubyte");
  const std::string label_path = find_idx(dir, prefix + "-labels", "idx1-ubyte");
  const Idx labels = read_idx(label_path, 1);
  Idx images = read_idx(image_path, 3);
  if (labels.count != images.count)
    input_error(label_path, ": holds ", labels.count, " labels, ", image_path, " ", images.count, " images");
  std::vector<std::string> digits;
  for (char digit = '0'; digit <= '9'; ++digit) digits.emplace_back(1, digit);
  const uint8_t* label = labels.bytes.data() + labels.offset();
  for (int64_t i = 0; i < labels.count; ++i)
    if (label[i] > 9)
      input_error(label_path, ": label ", i, " (offset ", labels.offset() + i, ") is ", int{label[i]},
                  ", want 0 to 9");
  const int64_t offset = images.offset();
  return memory_set(name, Input{images.h, images.w, 1}, digits,
                    std::vector<int32_t>(label, label + labels.count), std::move(images.bytes), offset);
}

}  // namespace

DataSets load_mnist(const DataOptions& options) {
  DataSets sets;
  sets.test = read_set(options.dir, "t10k", "mnist test");
  sets.train = read_set(options.dir, "train", "mnist train");
  const Input &train = sets.train.image, &test = sets.test.image;
  if (train.h != test.h || train.w != test.w)
    input_error(options.dir, ": training images are ", train.h, "x", train.w, ", test images ", test.h, "x",
                test.w);
  sets.normalization = {{0.1307f}, {0.3081f}};
  sets.augment_pad = 2;  // no flip: a mirrored digit is another digit or none
  return sets;
}

}  // namespace convoy
