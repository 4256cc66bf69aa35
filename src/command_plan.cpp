#include <iostream>

#include "commands.h"
#include "figures.h"
#include "net_choice.h"
#include "plan_text.h"

namespace convoy {

int command_plan(const PlanSettings& settings) {
  const Net net = load_net_for(settings.model, settings.input, settings.classes);
  Settings divided;
  divided.parallel = settings.parallel;
  divided.scheme = !settings.scheme.empty() ? settings.scheme : settings.parallel == "model" ? "a" : "c";
  divided.fc_batch_size = settings.fc_batch_size;
  divided.fc_update = settings.fc_update;
  const Plan plan =
      make_plan(net, settings.batch_size, plan_options(divided, 0, static_cast<int>(settings.workers)));

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
