#include <iostream>

#include "commands.h"
#include "net_choice.h"
#include "summary.h"

namespace convoy {
int command_summary(const SummarySettings& settings) {
  const Net net = load_net_for(settings.model, settings.input, settings.classes);
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
