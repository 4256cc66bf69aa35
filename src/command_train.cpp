#include <mutex>
#include <optional>

#include "config.h"
#include "from_leader.h"
#include "signals.h"
#include "training_run.h"
#include "version.h"
#include "workers.h"

namespace convoy {
namespace {

// What must be the same for all workers of a run.
Facts run_facts(const Settings& settings, const DataSets& data, const Exec& exec) {
  Facts facts = {{"version", version()},
                 {"commit", commit()},
                 {"kernels", exec.backend->name},
                 {"net", net_text(adapt_net(load_net(settings.model), data.train.image, data.train.classes))},
                 {"settings", config_text(settings)},
                 {"training images", text(data.train.count())},
                 {"test images", text(data.test.count())},
                 {"classes", text(data.train.classes)}};
  for (const DataSet* set : {&data.train, &data.test}) {
    uint64_t hash = 14695981039346656037u;  // FNV-1a
    for (const int32_t label : set->labels) hash = (hash ^ static_cast<uint32_t>(label)) * 1099511628211u;
    facts.emplace_back(text("hash of the labels of ", set->name), text(hash));
  }
  return facts;
}

}  // namespace

int command_train(const Settings& settings) {
  catch_signals();  // one that comes while data is loaded ends the run after its first step
  WorkersOptions options;
  options.workers = settings.workers;
  options.threads = settings.threads;
  options.isa = settings.isa;
  options.device = settings.device;
  options.transport = settings.transport;
  options.link_gbps = settings.link_gbps;
  options.link_us = settings.link_us;
  std::once_flag loaded;  // once a process: workers that are threads share the images
  std::optional<DataSets> data;
  return run_workers(options, [&](Team& team, const Exec& exec) {
    std::call_once(loaded, [&] {
      data = load_data(data_options(settings));
      apply_normalization(settings, data->normalization);
    });
    check_agreement(team, run_facts(settings, *data, exec));
    RunDir dir;
    if (team.rank() == 0) dir = choose_run_dir(settings);
    Exec compute = exec;
    dir.from = text_from_leader(team, compute, dir.from);
    TrainingRun run(settings, *data, dir, team, exec);
    try {
      return run.run();
    } catch (...) {
      dir.lock.reset();  // the process may end in the next line
      end_team(team);    // while the memory that transfers use is there
      throw;
    }
  });
}

}  // namespace convoy
