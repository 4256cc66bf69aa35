#include "convoy/checkpoint.h"

#include <cstring>

#include "checkpoint_names.h"

namespace convoy {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are little-endian, and so is memory here");

TensorSource float_source(const std::string& name, const FileLayout& layout, const float* values) {
  return {name, "F32", layout.shape, [layout, values](int64_t first, int64_t count, char* to) {
            to_file_order(layout, values, first, count, reinterpret_cast<float*>(to));
          }};
}

}  // namespace

std::vector<TensorSource> checkpoint_tensors(const Net& net, const HostTensors& from,
                                             const TrainingRecord& record) {
  const std::vector<ParameterSpec> specs = parameters(net);
  const std::vector<FileLayout> layouts = file_layouts(net);
  CONVOY_CHECK(from.values.size() == specs.size(), from.values.size(), " tensors for ", specs.size());
  std::vector<TensorSource> tensors;
  for (size_t i = 0; i < specs.size(); ++i) {
    tensors.push_back(float_source(specs[i].name, layouts[i], from.values[i]));
    if (specs[i].role == ParameterSpec::kRunningMean) {
      tensors.push_back(
          {batch_count_name(specs[i]), "I64", {}, [step = record.step](int64_t, int64_t, char* to) {
             std::memcpy(to, &step, sizeof step);
           }});
    }
  }
  for (const HostTensors::State& state : from.state) {
    CONVOY_CHECK(state.values.size() == specs.size(), state.values.size(), " tensors for ", specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      if (state.values[i] == nullptr) continue;
      tensors.push_back(float_source(state_name(state.kind, specs[i]), layouts[i], state.values[i]));
    }
  }
  return tensors;
}

}  // namespace convoy
