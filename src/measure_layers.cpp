#include "measure_layers.h"

#include <algorithm>

#include "from_leader.h"
#include "synthetic_batch.h"
#include "workers.h"

namespace convoy {
namespace {

// Rounds that are measured: at least 3, more while they take less than 1.5 s together.
constexpr size_t kLeastRounds = 3, kMostRounds = 25;
constexpr double kSeconds = 1.5;

double seconds_now() {
  return 1e-9 * static_cast<double>(now_nanoseconds());
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

// Seconds of a step's operations: forward and backward of each layer, of all passes, and the update.
class Timed {
 public:
  explicit Timed(size_t layers) : seconds_(2 * layers + 2) {}

  void run(const std::vector<Operation>& operations, bool backward, Exec& exec) {
    for (const Operation& operation : operations) {
      if (operation.transfer) continue;
      const double start = seconds_now();
      operation.run(exec);
      seconds_[2 * static_cast<size_t>(operation.layer) + (backward ? 1 : 0)] += seconds_now() - start;
    }
  }
  void update(const std::vector<Operation>& operations, Exec& exec) {
    const double start = seconds_now();
    for (const Operation& operation : operations)
      if (!operation.transfer) operation.run(exec);
    seconds_[seconds_.size() - 2] += seconds_now() - start;
  }
  const std::vector<double>& seconds() const { return seconds_; }

 private:
  std::vector<double>
      seconds_;  // forward and backward of each layer; the update; room for what is beside them
};

// How often a step updates the split half.
size_t split_updates(const Plan& plan) {
  const size_t passes = plan.passes(plan.batch).size();
  return plan.options.update_each_pass ? passes : std::min<size_t>(passes, 1);
}

// One round of the operations, in the order of a step.
std::vector<double> one_round(const Model& model, const Step& step, Exec& exec) {
  Timed timed(model.net.layers.size());
  timed.run(step.front.forward, false, exec);
  for (const PassWork& work : step.passes) {
    timed.run(work.program->forward, false, exec);
    timed.run(work.program->backward, true, exec);
  }
  timed.run(step.front.backward, true, exec);
  timed.update(step.front.update, exec);
  for (size_t p = 0; p < split_updates(model.plan); ++p) timed.update(step.passes[0].program->update, exec);
  return timed.seconds();
}

// Mean over workers of: seconds of a step's operations; last, of a whole step beside them and its waiting.
std::vector<double> measure(const Net& net, const Plan& plan, Team& team, const Exec& exec) {
  Exec compute = exec;
  Model model = make_model(net, plan, synthetic_options(net), compute, {plan.batch}, {}, team);
  const SyntheticBatch data(net, plan);
  const Step& step = model.train.at(plan.batch);
  std::vector<std::vector<double>> rounds;
  std::vector<double> beside;
  try {
    StepSettings settings;
    settings.lr = 1e-4f;
    double start = 0;
    const auto goes_on = [&] {
      const bool wanted =
          rounds.size() < kLeastRounds || (rounds.size() < kMostRounds && seconds_now() - start < kSeconds);
      return from_leader(team, compute, wanted ? 1 : 0) != 0;
    };
    for (size_t round = 0; round == 0 || goes_on(); ++round) {  // the first warms up
      wait_for_workers(team);
      const double whole = train_step(model, compute, data.batch(), settings).compute_seconds();
      wait_for_workers(team);
      std::vector<double> seconds = one_round(model, step, compute);
      if (round == 0) {
        start = seconds_now();
        continue;
      }
      double operations = 0;
      for (const double one : seconds) operations += one;
      beside.push_back(whole - operations);
      rounds.push_back(std::move(seconds));
    }
    std::vector<double> own(rounds[0].size());
    for (size_t i = 0; i < own.size(); ++i) {
      std::vector<double> values;
      values.reserve(rounds.size());
      for (const std::vector<double>& round : rounds) values.push_back(round[i]);
      own[i] = median(values);
    }
    own.back() = std::max(0.0, median(beside));
    const std::vector<double> all = gather_numbers(team, own);
    std::vector<double> mean(own.size());
    for (size_t i = 0; i < all.size(); ++i) mean[i % own.size()] += all[i] / team.world();
    return mean;
  } catch (...) {
    end_team(team);  // while the memory that transfers use is there
    throw;
  }
}

// How often a layer runs in a step, and with how many rows at a time.
struct Calls {
  double count = 0, rows = 0;
};
Calls calls_of(const Plan& plan, bool split) {
  const double world = plan.options.world;
  if (!split) return {1, static_cast<double>(plan.batch) / world};
  Calls calls;
  for (const Pass& pass : plan.passes(plan.batch)) {
    ++calls.count;
    calls.rows += static_cast<double>(pass.total);
  }
  calls.rows /= calls.count;
  return calls;
}

// `few` and `many`: seconds of one call, with as many rows.
CallTime fit(double few, double few_rows, double many, double many_rows, double share, bool split) {
  double row = many / many_rows;
  if (few_rows < many_rows) row = std::clamp((many - few) / (many_rows - few_rows), 0.0, row);
  CallTime time;
  const double rest = many - row * many_rows;
  time.row = row / share;
  (split ? time.weights : time.call) =
      rest / share;  // what a split layer does whatever its rows, it does to weights
  return time;
}

}  // namespace

std::vector<double> gather_numbers(Team& team, const std::vector<double>& own) {
  if (team.world() == 1) return own;
  const int64_t bytes = static_cast<int64_t>(own.size() * sizeof(double));
  std::vector<double> all(own.size() * static_cast<size_t>(team.world()));
  const Blocks blocks(static_cast<size_t>(team.world()), 1);
  Communicator& group = team.host_group != nullptr ? *team.host_group : *team.transfer;
  Exec& queue = team.host_exec(team.queue);
  group.all_gather(queue, {Traffic::kOther, "gather numbers"},
                   In(reinterpret_cast<const uint8_t*>(own.data()), {1, bytes}),
                   View(reinterpret_cast<uint8_t*>(all.data()), {team.world(), bytes}), blocks);
  queue.backend->synchronize(queue);
  return all;
}

void wait_for_workers(Team& team) {
  if (team.world() == 1) return;
  team.transfer->barrier(team.queue);
  team.queue.backend->synchronize(team.queue);
}

LayerTimes measure_layers(const Net& net, const Plan& plan, Team& team, const Exec& exec) {
  const Plan half = make_plan(net, std::max<int64_t>(plan.batch / 2, 1), plan.options);
  const std::vector<double> few = measure(net, half, team, exec), many = measure(net, plan, team, exec);
  LayerTimes times;
  double parameters = 0;
  const std::vector<Shape> shapes = output_shapes(net, 1);
  for (int i = 0; i < static_cast<int>(net.layers.size()); ++i) {
    const auto layer = static_cast<size_t>(i);
    const bool split = plan.split(i);
    const Calls calls = calls_of(plan, split), half_calls = calls_of(half, split);
    const double share = split ? largest_share(shapes[layer], plan.options.world) : 1;
    const auto fitted = [&](size_t at) {
      return fit(few[at] / half_calls.count, half_calls.rows, many[at] / calls.count, calls.rows, share,
                 split);
    };
    times.layers.push_back({fitted(2 * layer), fitted(2 * layer + 1)});
    parameters += static_cast<double>(own_parameters(net, plan, i, 0)) *
                  static_cast<double>(split ? split_updates(plan) : 1);
  }
  times.update = parameters > 0 ? many[many.size() - 2] / parameters : 0;
  times.step = many.back();
  return times;
}

}  // namespace convoy
