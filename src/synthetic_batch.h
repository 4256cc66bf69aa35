// A batch of random images in memory, with the same rows however the work is divided: what bench-schemes, bench_scaling
// and the measurement behind `convoy plan` train on.
#pragma once
#include "convoy/plan.h"
#include "convoy/train.h"

namespace convoy {

class SyntheticBatch {
 public:
  // The rows of the plan's rank, in the backend's memory for the host. Row n of the global batch has label n mod classes.
  SyntheticBatch(const Net& net, const Plan& plan, const Backend& memory = *cpu_backends().back());
  SyntheticBatch(const SyntheticBatch&) = delete;
  SyntheticBatch& operator=(const SyntheticBatch&) = delete;
  const Batch& batch() const { return batch_; }

 private:
  Tensor pixels_, all_labels_, index_;
  Batch batch_;
};

// Softmax and SGD with momentum 0.9, on such images.
ModelOptions synthetic_options(const Net& net);

}  // namespace convoy
