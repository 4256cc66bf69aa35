// The readers behind load_data, one a file.
#pragma once
#include "data_file.h"

namespace convoy {

DataSets load_shapes(const DataOptions& options);
DataSets load_synthetic(const DataOptions& options);
DataSets load_mnist(const DataOptions& options);
DataSets load_cifar(const DataOptions& options);  // cifar10, cifar100
DataSets load_folder(const DataOptions& options);

// An IDX file (MNIST's format): u8 elements, `extents` 1 for labels and 3 for images; gzip or not. The
// elements are the last count·h·w bytes of `bytes`. The size that the header declares is compared with the
// file's before anything is allocated, and at most that much is decompressed.
struct Idx {
  int64_t count = 0, h = 1, w = 1;
  std::vector<uint8_t> bytes;
  int64_t offset() const { return static_cast<int64_t>(bytes.size()) - count * h * w; }
};
Idx parse_idx(std::vector<uint8_t> file, const std::string& name, int extents);

// CIFAR's binary version: records of one label (CIFAR-100: coarse, then fine) and 32x32 red, green, blue
// planes.
struct CifarFormat {
  int64_t label_bytes, classes;
  int64_t record_bytes() const { return label_bytes + 3072; }
};
// Appends exactly `records` labels and images [32,32,3].
void parse_cifar(const Bytes& file, const CifarFormat& format, int64_t records, std::vector<int32_t>& labels,
                 std::vector<uint8_t>& pixels);

}  // namespace convoy
