// Data sets and the prefetching loader.
//
// A data set is data: labels, image extents, class names, and a function that gives one image as u8 pixels
// [H,W,C]. Readers trust nothing: every size is checked before it is used, and what is wrong is one
// InputError that names the file, the place and what to do.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "convoy/net.h"
#include "convoy/tensor.h"

namespace convoy {

struct DataSet {
  std::string name;
  Input image;  // extents of every image
  int64_t classes = 0;
  std::vector<std::string> class_names;  // `classes` of them
  std::vector<int32_t> labels;           // one an image
  // Writes image `index` (h·w·c bytes). Called from several threads at once; throws InputError when a file is
  // bad.
  std::function<void(int64_t index, uint8_t* pixels)> read;

  bool decodes = false;  // read() decodes a file: worth several loader threads

  int64_t count() const { return static_cast<int64_t>(labels.size()); }
};

struct Normalization {
  std::vector<float> mean, stddev;  // per channel, of pixels / 255
};

struct DataSets {
  DataSet train, test;
  Normalization normalization;  // the data set's well-known constants, else computed from the training images
  bool augment_flip = false;    // what `--augment standard` does with this data set (normalize.h)
  int64_t augment_pad = 0;
};

struct DataOptions {
  std::string name = "shapes";  // shapes, mnist, cifar10, cifar100, synthetic:HxWxC:classes, or a folder
  std::string dir;              // where mnist's and cifar's files lie (empty: data/<name>)
  int64_t image_size = 0;       // folders: side of the square that images are resized and cropped to (0: 224)
  uint64_t seed = 0;            // shapes, synthetic
};
// A folder has train/<class>/* and val/<class>/* (or test/<class>/*), JPEG and PNG; classes and files are
// sorted by name. Its images are decoded by read(); everything else lies in memory as u8. Throws InputError.
DataSets load_data(const DataOptions& options);

// One batch in host memory.
struct Batch {
  View pixels;  // u8 [rows,H,W,C]
  View labels;  // i32 [rows]
  View index;   // i32 [rows]: place in the data set, keys the augmentation
  int64_t rows = 0;
  int64_t first_row = 0;  // row of the global batch that row 0 is
  int64_t global_rows = 0;
  In all_labels;  // i32 [global_rows]: of the whole global batch, which every worker knows
};

// The order of an epoch: a permutation of [0, count) that depends on (seed, epoch) only; the identity without
// shuffle.
std::vector<int32_t> epoch_order(int64_t count, uint64_t seed, int64_t epoch, bool shuffle);

// Fills batches ahead of the trainer on threads of its own. The last batch of an epoch may be short.
// Of a global batch with B rows, worker `rank` of `world` gets rows [rank·B/world, (rank+1)·B/world): maybe
// none. What a batch holds depends on the data set, seed, epoch and place only, never on the number of
// threads.
class Loader {
 public:
  struct Options {
    int64_t batch = 128;
    uint64_t seed = 0;
    bool shuffle = true;
    int threads = 1;  // decoding threads
    int ahead = 3;    // batches in flight
    int rank = 0, world = 1;
    const Backend* memory = nullptr;  // whose alloc_host makes the batches' memory; null: plain memory
  };
  // The data set must live as long as the loader. All memory is allocated here, a start() allocates the
  // epoch's order.
  Loader(const DataSet& data, const Options& options);
  ~Loader();  // at any time; waits for the images that are being read
  // Starts (or jumps to) batch `batch_index` of an epoch.
  void start(int64_t epoch, int64_t batch_index = 0);
  // The next batch of the epoch, or nullptr at its end. The pointer is valid until the next call. Rethrows a
  // reader's error.
  const Batch* next();
  int64_t batches_per_epoch() const;
  int64_t bytes() const;  // of the batches in flight

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace convoy
