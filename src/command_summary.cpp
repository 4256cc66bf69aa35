#include <iostream>

#include "commands.h"
#include "summary.h"

namespace convoy {
namespace {

Input parse_input(const std::string& value) {
  constexpr int64_t kLargest = 65536;
  std::vector<int64_t> extents;
  for (size_t at = 0; at <= value.size();) {
    const size_t end = std::min(value.find('x', at), value.size());
    try {
      extents.push_back(parse_whole("input", value.substr(at, end - at), 1, kLargest));
    } catch (const InputError&) {
      extents.clear();
      break;
    }
    at = end + 1;
  }
  if (extents.size() != 3)
    input_error("--input '", value, "': expected height x width x channels, such as 28x28x1, each from 1 to ",
                kLargest);
  return {extents[0], extents[1], extents[2]};
}

}  // namespace

int command_summary(const SummarySettings& settings) {
  Net net = load_net(settings.model);
  if (!settings.input.empty() || settings.classes > 0) {
    const Input input = settings.input.empty() ? net.input() : parse_input(settings.input);
    const int64_t classes = settings.classes > 0 ? settings.classes : output_shapes(net, 1).back().row();
    net = adapt_net(net, input, classes);
  }
  SummaryOptions options;
  options.batch = settings.batch_size;
  options.optimizer.kind = settings.optimizer == "adamw" ? OptimizerKind::kAdamw : OptimizerKind::kSgd;
  ModelOptions model;
  model.optimizer = options.optimizer;
  const Exec exec = cpu_exec(cpu_backend(settings.isa), static_cast<int>(settings.threads));
  options.memory = model_memory(net, make_plan(net, settings.batch_size), model, *exec.backend, exec.threads);
  print_summary(std::cout, net, options);
  return 0;
}

}  // namespace convoy
