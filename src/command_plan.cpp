#include <iostream>

#include "commands.h"
#include "figures.h"
#include "measure_layers.h"
#include "net_choice.h"
#include "plan_text.h"
#include "workers.h"

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

  LayerTimes times;
  LinkFigures links;
  std::string speed;
  if (settings.figures.empty()) {
    WorkersOptions options;
    options.workers = settings.workers;
    options.threads = settings.threads;
    options.isa = settings.isa;
    run_workers(options, [&](Team& team, const Exec& exec) {
      const LayerTimes measured = measure_layers(
          net, make_plan(net, settings.batch_size, plan_options(divided, team.rank(), team.world())), team,
          exec);
      if (leader(team)) {
        times = measured;
        speed = text("measured here, ", exec.backend->name, ", ", team.world(), " workers at a time of ",
                     exec.threads, exec.threads == 1 ? " thread" : " threads");
      }
      return 0;
    });
    if (times.layers.empty()) return 0;  // another process of an MPI run
  } else {
    const Figures figures = read_figures(settings.figures);
    times = layer_times(net, figures);
    links = link_figures(figures);
    speed = figures_text(figures, settings.figures);
  }
  if (settings.link_gbps > 0) links.bytes_per_second = 1e9 * settings.link_gbps;
  if (settings.link_us >= 0) links.message_seconds = 1e-6 * settings.link_us;
  const PlanReport report = make_plan_report(net, plan, times, links, speed,
                                             settings.precision == "bf16"  ? DType::kBF16
                                             : settings.precision == "f16" ? DType::kF16
                                                                           : DType::kF32);
  if (settings.json)
    print_plan_json(std::cout, report);
  else
    print_plan(std::cout, report);
  return 0;
}

}  // namespace convoy
