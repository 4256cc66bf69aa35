// CIFAR-10 and CIFAR-100, binary version.
#include "data_readers.h"

namespace convoy {
namespace {

constexpr int64_t kPlane = int64_t{32} * 32;

std::string find_folder(const std::string& dir, const std::string& inner, const std::string& first_file) {
  for (const std::string& folder : {dir, text(dir, "/", inner)}) {
    const std::string path = text(folder, "/", first_file);
    if (is_file(path) || is_folder(path)) return folder;
  }
  input_error(dir, ": holds no ", first_file, " (nor does ", inner,
              "/ in it); jobs/download_data.sh fetches the binary version");
}

// One name a line, as fine_label_names.txt has them.
std::vector<std::string> read_names(const std::string& path, int64_t classes) {
  const std::vector<uint8_t> bytes = read_file(path, 1 << 16);
  std::vector<std::string> names(1);
  for (const uint8_t byte : bytes) {
    if (byte == '\n') names.emplace_back();
    if (byte > ' ') names.back().push_back(static_cast<char>(byte));
  }
  while (!names.empty() && names.back().empty()) names.pop_back();
  if (static_cast<int64_t>(names.size()) != classes)
    input_error(path, ": holds ", names.size(), " class names, want ", classes, " lines with one each");
  return names;
}

DataSet read_set(const std::string& name, const std::vector<std::string>& files, int64_t records,
                 const CifarFormat& format, const std::vector<std::string>& names) {
  std::vector<int32_t> labels;
  std::vector<uint8_t> pixels;
  for (const std::string& file : files) {
    const std::vector<uint8_t> bytes = read_file(file, records * format.record_bytes());
    pixels.reserve(static_cast<size_t>(records * 3 * kPlane) * files.size());
    parse_cifar(bytes_of(bytes, file), format, records, labels, pixels);
  }
  return memory_set(name, Input{32, 32, 3}, names, std::move(labels), std::move(pixels));
}

}  // namespace

void parse_cifar(const Bytes& file, const CifarFormat& format, int64_t records, std::vector<int32_t>& labels,
                 std::vector<uint8_t>& pixels) {
  const int64_t want = records * format.record_bytes();
  if (file.count != want)
    input_error(file.name, ": holds ", file.count, " bytes, want exactly ", want, " (", records,
                " records of ", format.record_bytes(), " bytes)");
  const size_t first = pixels.size();
  pixels.resize(first + static_cast<size_t>(records * 3 * kPlane));
  uint8_t* out = pixels.data() + first;
  const uint8_t* record = file.data;
  for (int64_t i = 0; i < records; ++i, record += format.record_bytes(), out += 3 * kPlane) {
    const uint8_t* planes = record + format.label_bytes;
    const int32_t label = planes[-1];  // CIFAR-100: the fine label is the second byte
    if (label >= format.classes)
      input_error(file.name, ": record ", i, " (offset ", planes - 1 - file.data, "): label ", label,
                  ", want 0 to ", format.classes - 1);
    labels.push_back(label);
    for (int64_t p = 0; p < kPlane; ++p)
      for (int64_t c = 0; c < 3; ++c) out[3 * p + c] = planes[c * kPlane + p];
  }
}

DataSets load_cifar(const DataOptions& options) {
  DataSets sets;
  sets.augment_flip = true;
  sets.augment_pad = 4;
  if (options.name == "cifar10") {
    const CifarFormat format{1, 10};
    const std::string dir = find_folder(options.dir, "cifar-10-batches-bin", "data_batch_1.bin") + "/";
    const std::vector<std::string> names = {"airplane", "automobile", "bird",  "cat",  "deer",
                                            "dog",      "frog",       "horse", "ship", "truck"};
    std::vector<std::string> files;
    for (char batch = '1'; batch <= '5'; ++batch) files.push_back(dir + "data_batch_" + batch + ".bin");
    sets.test = read_set("cifar10 test", {dir + "test_batch.bin"}, 10000, format, names);
    sets.train = read_set("cifar10 train", files, 10000, format, names);
    sets.normalization = {{0.4914f, 0.4822f, 0.4465f}, {0.2470f, 0.2435f, 0.2616f}};
    return sets;
  }
  const CifarFormat format{2, 100};
  const std::string dir = find_folder(options.dir, "cifar-100-binary", "train.bin") + "/";
  const std::string list = dir + "fine_label_names.txt";
  const std::vector<std::string> names = is_file(list) ? read_names(list, 100) : numbered_classes(100);
  sets.test = read_set("cifar100 test", {dir + "test.bin"}, 10000, format, names);
  sets.train = read_set("cifar100 train", {dir + "train.bin"}, 50000, format, names);
  sets.normalization = {{0.5071f, 0.4865f, 0.4409f}, {0.2673f, 0.2564f, 0.2762f}};
  return sets;
}

}  // namespace convoy
