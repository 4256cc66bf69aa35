// What `convoy summary` prints: the layers of a net with what they cost, and the memory of a training step.
#pragma once
#include <iosfwd>
#include <optional>

#include "convoy/net.h"
#include "convoy/train.h"

namespace convoy {

struct SummaryOptions {
  int64_t batch = 128;  // rows of a training step
  Optimizer optimizer;
  // What a model of this net and batch allocates (model_memory). Without it the memory is counted from the
  // net: every parameter once each for values, gradients and each optimizer state, and every layer's output
  // once.
  std::optional<MemoryReport> memory;
};

// Per layer: name, what it is, output shape, trained parameters, forward MFLOP (2 a multiply-accumulate; conv
// and fc) and output bytes (f32) for one image, shares of compute and of parameters. Then the shares of conv
// and fc layers, and the memory.
void print_summary(std::ostream& out, const Net& net, const SummaryOptions& options);

}  // namespace convoy
