// Whether a divided run has one worker's weights: the #wrong of bench-schemes.
//
// Both make the same first steps. The difference of a tensor, as a norm, may be 0.001 of its change after the first
// step and 0.02 after the third (by then ReLUs may have flipped, which changes single elements by much more), besides
// 4 roundings of its weights. A row that is lost, doubled or sent to the wrong worker shows in the first step, what a
// step leaves behind for the next one in the third.
#pragma once
#include "convoy/train.h"

namespace convoy {

constexpr int64_t kCheckedSteps = 3;

class OneWorkersWeights {
 public:
  // Makes the steps with one worker.
  OneWorkersWeights(const Net& net, int64_t batch, const Exec& exec);

  // Makes the same steps with a new model, and gives the largest difference of its own tensors, in units of the
  // bound: up to 1 is rounding. Infinite where a weight is NaN.
  double wrong(Model& model, Exec& exec, const Batch& batch) const;

 private:
  struct Tensor {
    std::vector<float> values;
    double bound = 0;
  };
  double difference(const Model& model, Exec& exec, const std::vector<Tensor>& moment) const;
  std::vector<Tensor> first_, last_;  // one a parameter spec; nothing for buffers
};

}  // namespace convoy
