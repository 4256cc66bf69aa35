// A model from a checkpoint, for `eval` and `predict`.
#pragma once
#include "convoy/checkpoint.h"
#include "convoy/train.h"

namespace convoy {

struct TrainedModel {
  std::string file;
  TrainingRecord record;
  Exec exec;
  Model model;
};

// Reads the checkpoint and makes an evaluation model for the batch sizes `rows`. Throws InputError when the
// file is not a checkpoint of Convoy.
TrainedModel load_trained(const std::string& file, const std::string& isa, int threads,
                          const std::vector<int64_t>& rows);

// The net and settings of a checkpoint alone, without its weights: what data it wants.
TrainingRecord read_record_of(const std::string& file);

// What --checkpoint means: FILE as it is, or DIR's newest good checkpoint. Throws InputError when there is
// none.
std::string checkpoint_file(const std::string& file_or_dir);

}  // namespace convoy
