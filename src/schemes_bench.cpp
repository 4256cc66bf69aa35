#include "schemes_bench.h"

#include <algorithm>
#include <limits>

#include "device.h"
#include "measure_layers.h"
#include "plan_text.h"
#include "schemes_check.h"
#include "synthetic_batch.h"
#include "version.h"

namespace convoy {
namespace {

constexpr float kRate = 1e-4f;
constexpr int kDefaultWorkers = 2;

ModelOptions options_of(const SchemesBench& bench, Exec& exec) {
  ModelOptions options = synthetic_options(bench.net);
  options.precision = use_precision(bench.precision, exec);
  return options;
}

StepReport one_step(Model& model, Exec& exec, const SyntheticBatch& data, int64_t step) {
  StepSettings settings;
  settings.step = step;
  settings.lr = kRate;
  settings.next = [&] { return &data.batch(); };  // as training reads ahead
  return train_step(model, exec, data.batch(), settings);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// What the workers' steps and checks came to. The step whose time is the median, as the mean over workers: one that is
// late makes the others wait.
void add_reports(Team& team, const std::vector<StepReport>& reports, double own_wrong, SchemeRow& row) {
  constexpr size_t kNumbers = 5;
  std::vector<double> own = {own_wrong};
  for (const StepReport& report : reports)
    own.insert(own.end(), {report.seconds, report.compute_seconds(), report.exposed[0], report.exposed[1],
                           report.exposed[2]});
  const std::vector<double> all = gather_numbers(team, own);
  std::vector<std::array<double, kNumbers>> steps(reports.size());  // mean over workers
  std::vector<double> least;                                        // for rows
  for (size_t s = 0; s < steps.size(); ++s) {
    steps[s] = {};
    least.push_back(std::numeric_limits<double>::infinity());
    for (size_t from = 1 + s * kNumbers; from < all.size(); from += own.size()) {
      for (size_t i = 0; i < kNumbers; ++i) steps[s][i] += all[from + i] / team.world();
      least[s] = std::min(least[s], all[from + 2]);
    }
  }
  for (size_t at = 0; at < all.size(); at += own.size()) row.wrong = std::max(row.wrong, all[at]);
  std::sort(steps.begin(), steps.end());
  const auto& middle = steps[steps.size() / 2];
  row.step_seconds = middle[0];
  row.compute_seconds = middle[1];  // waiting for reports is none of both
  row.exposed = {middle[2], middle[3], middle[4]};
  row.least_row_seconds = median(least);
}

std::vector<TracedWorker> traced_step(Model& model, Exec& exec, const SyntheticBatch& data, int64_t step) {
  Trace trace;
  Team& team = model.team;
  const auto trace_to = [&](Trace* to) {
    team.trace = to;
    if (team.world() == 1) return;
    team.compute->trace_to(to, Lane::kCompute);
    team.transfer->trace_to(to, Lane::kTransfer);
  };
  trace_to(&trace);
  one_step(model, exec, data, step);
  if (team.world() > 1) exec.backend->synchronize(team.queue);
  trace_to(nullptr);
  if (team.world() == 1) return {traced_worker(0, trace)};
  return gather_traces(*team.host(), team.host_exec(exec), trace);
}

// All workers of the team, or one alone; the same numbers on each.
SchemeRow measure(const SchemesBench& bench, const Plan& plan, const OneWorkersWeights& one, Team& team,
                  Exec exec, StepTimeline& timeline) {
  const int world = plan.options.world;
  SchemeRow row;
  row.mode = world == 1 ? "one worker" : parallel_name(plan.options.parallel);
  row.scheme = plan.features >= 0 ? scheme_name(plan.options.scheme) : "";
  row.workers = world;
  timeline.title = row.mode + (row.scheme.empty() ? "" : ", scheme " + row.scheme) +
                   (world > 1 ? text(", ", world, " workers") : "");
  LinkFigures links;
  if (bench.options.link_gbps > 0) {
    links.bytes_per_second = 1e9 * bench.options.link_gbps;
    links.message_seconds = 1e-6 * bench.options.link_us;
    row.row_transfer_seconds = row_transfer_seconds(bench.net, plan, links);
  }
  {
    const SyntheticBatch data(bench.net, plan, *exec.backend);
    const auto make = [&](const ModelOptions& options) {
      return make_model(bench.net, plan, options, exec, {bench.batch}, {}, team);
    };
    // Checked in f32: in fewer bits the weights of two right runs soon differ by more than a lost row would change.
    double own_wrong = 0;
    Model model = make(synthetic_options(bench.net));
    try {
      own_wrong = one.wrong(model, exec, data.batch());
      if (bench.precision != "f32") model = make(options_of(bench, exec));
      for (int64_t n = 0; n < kCheckedSteps && bench.precision != "f32"; ++n) one_step(model, exec, data, n);
      std::vector<StepReport> reports;
      int64_t step = kCheckedSteps;
      for (int64_t n = 0; n < bench.steps; ++n) reports.push_back(one_step(model, exec, data, step++));
      add_reports(team, reports, own_wrong, row);
      for (size_t kind = 0; kind < row.bytes.size(); ++kind) row.bytes[kind] = reports[0].bytes[kind];
      timeline.workers = traced_step(model, exec, data, step);
    } catch (...) {
      end_team(team);  // while the memory that transfers use is there
      throw;
    }
    row.buffer_bytes = model.memory().exchange;
  }
  row.images_per_second = static_cast<double>(bench.batch) / row.step_seconds;
  if (bench.plan)
    row.modelled_seconds =
        model_step(bench.net, plan, Loss::kSoftmax, measure_layers(bench.net, plan, team, exec), links)
            .seconds;
  return row;
}

class Measurements {
 public:
  explicit Measurements(const SchemesBench& bench) : bench_(bench) {}

  void alone(const Exec& exec, bool measured) {
    one_ = std::make_unique<OneWorkersWeights>(bench_.net, bench_.batch, exec);
    Team none;
    if (measured) add(make_plan(bench_.net, bench_.batch), none, exec);
  }
  void together(Team& team, const Exec& exec) {
    for (const Division& division : bench_.divisions) {
      PlanOptions options;
      options.world = team.world();
      options.rank = team.rank();
      options.parallel = division.parallel;
      options.scheme = division.scheme;
      if (division.scheme != Scheme::kA) options.fc_batch_size = bench_.fc_batch_size;
      Plan plan;
      try {
        plan = make_plan(bench_.net, bench_.batch, options);
      } catch (const InputError& error) {  // on all workers alike
        if (leader(team))
          result.left_out.emplace_back(
              text("left out, ", parallel_name(division.parallel), " ", scheme_name(division.scheme)),
              error.what());
        continue;
      }
      add(plan, team, exec);
    }
  }

  SchemesResult result;

 private:
  void add(const Plan& plan, Team& team, const Exec& exec) {
    StepTimeline timeline;
    SchemeRow row = measure(bench_, plan, *one_, team, exec, timeline);
    if (!leader(team)) return;
    if (row.workers >= result.workers) {
      result.workers = row.workers;
      result.threads = exec.threads;
    }
    result.rows.push_back(std::move(row));
    result.timelines.push_back(std::move(timeline));
  }

  const SchemesBench& bench_;
  std::unique_ptr<OneWorkersWeights> one_;
};

}  // namespace

SchemesResult run_schemes(const SchemesBench& bench) {
  const bool processes = workers_are_processes();
  if (processes && bench.workers.size() > 1)
    input_error("--workers: the workers are the processes that were started; leave it out");
  Measurements measurements(bench);
  WorkersOptions options = bench.options;
  if (!processes) {
    options.workers = 1;
    run_workers(options, [&](Team&, const Exec& exec) {
      measurements.alone(exec, true);
      return 0;
    });
    cpu_unpin();  // the workers to come count the CPUs of this thread
  }
  std::vector<int> groups = bench.workers;
  const Cuda* cuda = choose_device(options.device);
  if (groups.empty())
    groups = {processes ? 0 : std::max(kDefaultWorkers, cuda != nullptr ? cuda->devices() : 0)};
  for (const int workers : groups) {
    if (workers == 1 && !processes) continue;  // that row is there
    options.workers = workers;
    run_workers(options, [&](Team& team, const Exec& exec) {
      if (processes) {
        check_agreement(team, {{"version", version()},
                               {"commit", commit()},
                               {"kernels", exec.backend->name},
                               {"net", net_text(bench.net)},
                               {"batch size", text(bench.batch)},
                               {"steps", text(bench.steps)}});
        measurements.alone(exec, leader(team));  // every process needs the weights; the others wait
        wait_for_workers(team);
      }
      measurements.together(team, exec);
      return 0;
    });
  }
  return std::move(measurements.result);
}

}  // namespace convoy
