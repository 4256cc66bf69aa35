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

TensorSource fetched_source(const std::string& name, const FileLayout& layout, const FetchPart& fetch,
                            size_t spec, int state) {
  CONVOY_CHECK(fetch, name, " is not wholly here");
  return {name, "F32", layout.shape, [fetch, spec, state](int64_t first, int64_t count, char* to) {
            fetch(spec, state, first, count, reinterpret_cast<float*>(to));
          }};
}

}  // namespace

std::vector<TensorSource> checkpoint_tensors(const Net& net, const HostTensors& from,
                                             const TrainingRecord& record, const FetchPart& fetch) {
  const std::vector<ParameterSpec> specs = parameters(net);
  const std::vector<FileLayout> layouts = file_layouts(net);
  CONVOY_CHECK(from.values.size() == specs.size(), from.values.size(), " tensors for ", specs.size());
  CONVOY_CHECK(from.own.empty() || from.own.size() == specs.size(), from.own.size(), " for ", specs.size());
  const auto source = [&](const std::string& name, size_t i, int state, const float* values) {
    const bool whole = from.own.empty() || from.own[i].count == specs[i].shape[0];
    return whole ? float_source(name, layouts[i], values) : fetched_source(name, layouts[i], fetch, i, state);
  };
  std::vector<TensorSource> tensors;
  for (size_t i = 0; i < specs.size(); ++i) {
    tensors.push_back(source(specs[i].name, i, -1, from.values[i]));
    if (specs[i].role == ParameterSpec::kRunningMean) {
      tensors.push_back(
          {batch_count_name(specs[i]), "I64", {}, [step = record.step](int64_t, int64_t, char* to) {
             std::memcpy(to, &step, sizeof step);
           }});
    }
  }
  for (size_t kind = 0; kind < from.state.size(); ++kind) {
    const HostTensors::State& state = from.state[kind];
    CONVOY_CHECK(state.values.size() == specs.size(), state.values.size(), " tensors for ", specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      if (specs[i].buffer()) continue;
      tensors.push_back(source(state_name(state.kind, specs[i]), i, static_cast<int>(kind), state.values[i]));
    }
  }
  return tensors;
}

}  // namespace convoy
