// The transfers of a training step: what the model of the step times, and the bytes that it reports.
#pragma once
#include <functional>
#include <map>

#include "convoy/plan.h"
#include "convoy/train.h"

namespace convoy {

// Bytes of a transfer that worker `from` has for worker `to`.
using Payload = std::function<int64_t(int from, int to)>;

class StepTransfers {
 public:
  // `precision`: of activations. Sums, of gradients, travel as f32 always, and so do logits of fully connected layers.
  StepTransfers(const Net& net, const Plan& plan, Loss loss, DType precision);

  // Whether a gradient goes home: not when nothing before the cut has parameters.
  bool scatters() const { return scatters_; }
  Payload gather_rows(const Pass& pass) const;
  Payload scatter_rows(const Pass& pass) const;

  // Layers after the cut whose outputs a layer needs whole, by the layer that needs them first.
  const std::map<int, std::vector<int>>& gathered_for() const { return gathered_for_; }
  // Forward, and its transpose backward. The last layer's outputs are gathered for the softmax.
  Payload gather_columns(int layer, int64_t rows) const;
  Payload scatter_columns(int layer, int64_t rows) const;
  bool gathers_logits() const { return gathers_logits_; }

  // The sum of so many elements: first every worker's part to it, then its sum to everyone.
  Payload sum_parts(int64_t elements) const;
  Payload sum_whole(int64_t elements) const;

  // Parameters of the front half that are summed as one, from the last layer to the first: the bucket is complete
  // once `layer` has its gradient.
  struct Bucket {
    int layer;
    int64_t elements;
  };
  std::vector<Bucket> buckets() const;

 private:
  int64_t element_bytes(int layer) const;
  Payload columns(int layer, int64_t rows, int64_t element_bytes) const;

  const Net& net_;
  const Plan& plan_;
  DType precision_;
  std::vector<Shape> shapes_;  // of one row
  std::map<int, std::vector<int>> gathered_for_;
  bool scatters_ = false, gathers_logits_ = false;
};

}  // namespace convoy
