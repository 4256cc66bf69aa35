// Names in a checkpoint other than the parameters' own.
#pragma once
#include <string>

#include "convoy/net.h"

namespace convoy {

constexpr const char* kStatePrefix = "optimizer.";
inline std::string state_name(const std::string& kind, const ParameterSpec& spec) {
  return kStatePrefix + kind + "." + spec.name;
}

// "bn1.num_batches_tracked" for "bn1.running_mean"; PyTorch counts there, Convoy has the step.
constexpr const char* kBatchCount = "num_batches_tracked";
inline std::string batch_count_name(const ParameterSpec& running_mean) {
  return running_mean.name.substr(0, running_mean.name.rfind('.') + 1) + kBatchCount;
}

}  // namespace convoy
