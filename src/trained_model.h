// A model from a checkpoint, for `eval` and `predict`.
#pragma once
#include "convoy/checkpoint.h"
#include "convoy/train.h"
#include "device.h"

namespace convoy {

// Where it computes: the words of the options.
struct ComputeOptions {
  std::string device = "auto", precision = "f32", isa = "auto";
  int threads = 0;  // of the CPU, which also reads images for a device; 0: all
};

struct TrainedModel {
  std::string file;
  TrainingRecord record;
  CudaQueuePointer queue;  // on CUDA
  Exec exec;
  Model model;
};

// Reads the checkpoint and makes an evaluation model for the batch sizes `rows`. Throws InputError when the
// file is not a checkpoint of Convoy.
TrainedModel load_trained(const std::string& file, const ComputeOptions& on,
                          const std::vector<int64_t>& rows);

// The net and settings of a checkpoint alone, without its weights: what data it wants.
TrainingRecord read_record_of(const std::string& file);

// What --checkpoint means: FILE as it is, or DIR's newest good checkpoint. Throws InputError when there is
// none.
std::string checkpoint_file(const std::string& file_or_dir);

}  // namespace convoy
