#include "convoy/checkpoint.h"

namespace convoy {

HostTensors host_tensors(const Model& model) {
  HostTensors out;
  out.own = model.own;
  const bool sgd = model.options.optimizer.kind == OptimizerKind::kSgd;
  const std::vector<std::string> kinds =
      sgd ? std::vector<std::string>{"momentum"} : std::vector<std::string>{"m", "v"};
  for (const View& view : model.values) out.values.push_back(view.f32());
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    if (model.state[kind].view().empty()) continue;  // not training, or without momentum
    out.state.push_back({kinds[kind], {}});
    for (size_t i = 0; i < model.specs.size(); ++i) {
      const View view = state_of(model, i, static_cast<int>(kind));
      out.state.back().values.push_back(view.empty() ? nullptr : view.f32());
    }
  }
  return out;
}

}  // namespace convoy
