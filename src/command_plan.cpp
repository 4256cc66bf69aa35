#include <iostream>

#include "commands.h"
#include "figures.h"
#include "net_choice.h"
#include "plan_text.h"

namespace convoy {

int command_plan(const PlanSettings& settings) {
  if (settings.figures.empty())
    input_error(
        "convoy plan needs --figures FILE, such as bench/figures/k20.toml: speed of layers and links");
  const Net net = load_net_for(settings.model, settings.input, settings.classes);
  PlanOptions options;
  options.world = static_cast<int>(settings.workers);
  options.parallel = settings.parallel == "data"     ? Parallel::kData
                     : settings.parallel == "hybrid" ? Parallel::kHybrid
                                                     : Parallel::kModel;
  options.scheme = settings.scheme == "a" ? Scheme::kA : settings.scheme == "b" ? Scheme::kB : Scheme::kC;
  options.fc_batch_size = settings.fc_batch_size;
  options.update_each_pass = settings.fc_update == "pass";
  const Plan plan = make_plan(net, settings.batch_size, options);

  const Figures figures = read_figures(settings.figures);
  LinkFigures links = link_figures(figures);
  if (settings.link_gbps > 0) links.bytes_per_second = 1e9 * settings.link_gbps;
  if (settings.link_us >= 0) links.message_seconds = 1e-6 * settings.link_us;
  const PlanReport report =
      make_plan_report(net, plan, layer_times(net, figures), links, figures_text(figures, settings.figures));
  if (settings.json)
    print_plan_json(std::cout, report);
  else
    print_plan(std::cout, report);
  return 0;
}

}  // namespace convoy
