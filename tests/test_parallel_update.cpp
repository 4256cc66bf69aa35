// Everything that settings change about a step, with several workers: updates after every pass, clipping, learning
// rates of the two halves, both optimizers, both losses. Held against the step in double precision (bounded_step.h).
#include <gtest/gtest.h>

#include "bounded_step.h"

namespace convoy {
namespace {

using reference::PossibleSteps;
using reference::StepCase;

constexpr const char* kNet =
    "input 10x10x2\nconv 6 3x3 pad 1\nrelu\nmaxpool 2\nconv 7 3x3\nrelu\nfc 13\nrelu\ndropout 0.5\nfc "
    "11\nrelu\nfc 5\n";
constexpr int64_t kRows = 19;

struct Case {
  const char* name;
  PlanOptions plan;
  ModelOptions options;
  std::optional<float> split_lr = std::nullopt;
};

ModelOptions sgd(float clip_norm = 0, bool nesterov = false, Loss loss = Loss::kSoftmax) {
  ModelOptions o;
  o.loss = loss;
  o.optimizer.weight_decay = 0.01f;
  o.optimizer.clip_norm = clip_norm;
  o.optimizer.nesterov = nesterov;
  return o;
}
ModelOptions adamw(float clip_norm = 0) {
  ModelOptions o;
  o.optimizer.kind = OptimizerKind::kAdamw;
  o.optimizer.weight_decay = 0.01f;
  o.optimizer.eps = 0.01f;  // with 1e-8 rounding decides what a weight whose gradient is nearly 0 does
  o.optimizer.clip_norm = clip_norm;
  return o;
}
PlanOptions each_pass(PlanOptions options) {
  options.update_each_pass = true;
  return options;
}
const PlanOptions kData = mode(Parallel::kData), kHybridA = mode(Parallel::kHybrid, Scheme::kA),
                  kHybridB = mode(Parallel::kHybrid, Scheme::kB),
                  kHybridC = mode(Parallel::kHybrid, Scheme::kC),
                  kHybridB5 = mode(Parallel::kHybrid, Scheme::kB, 5),
                  kHybridC5 = mode(Parallel::kHybrid, Scheme::kC, 5),
                  kModel = mode(Parallel::kModel, Scheme::kA),
                  kModelC5 = mode(Parallel::kModel, Scheme::kC, 5);

const Case kCases[] = {
    {"b_each_pass", each_pass(kHybridB5), sgd()},  // the last pass has 4 rows
    {"c_each_pass", each_pass(kHybridC5), sgd()},
    {"b_each_pass_of_a_worker", each_pass(kHybridB), sgd()},
    {"c_each_pass_of_a_worker", each_pass(kHybridC), sgd(0, true)},
    {"b_each_pass_adamw", each_pass(kHybridB5), adamw()},
    {"c_each_pass_adamw", each_pass(kHybridC5), adamw()},
    {"c_each_pass_two_rates", each_pass(kHybridC5), sgd(), 0.01f},
    {"model_each_pass", each_pass(kModelC5), sgd()},
    {"clip_data", kData, sgd(0.05f)},
    {"clip_hybrid", kHybridC, sgd(0.05f)},
    {"clip_model", kModel, sgd(0.05f, true)},
    {"clip_hybrid_adamw", kHybridB, adamw(0.05f)},
    {"logistic_data", kData, sgd(0, false, Loss::kLogistic)},
    {"logistic_hybrid", kHybridC5, sgd(0, false, Loss::kLogistic)},
    {"logistic_each_pass", each_pass(kHybridB5), sgd(0, false, Loss::kLogistic)},
    {"logistic_model", kModelC5, sgd(0, false, Loss::kLogistic)},
    {"two_rates", kHybridA, sgd(), 0.01f},
    {"two_rates_adamw", kHybridB5, adamw(), 0.01f},
    {"adamw_data", kData, adamw()},
    {"adamw_model", kModel, adamw()},
};

// The passes as design and paper define them: B's are the batch in order, C's take slice (p + r) mod P of worker r.
std::vector<std::vector<int32_t>> passes_of(Scheme scheme, int world, int64_t n) {
  const int64_t count = (kRows + n - 1) / n;
  std::vector<std::vector<int32_t>> passes;
  for (int64_t p = 0; p < count; ++p) {
    std::vector<int32_t> rows;
    for (int64_t row = 0; row < kRows; ++row)
      for (int64_t r = 0; r < world; ++r) {
        const int64_t begin = r * kRows / world, own = (r + 1) * kRows / world - begin,
                      slice = (p + r) % count;
        const bool of_slice = row >= begin + slice * own / count && row < begin + (slice + 1) * own / count;
        if (scheme == Scheme::kB ? r == 0 && row / n == p : of_slice)
          rows.push_back(static_cast<int32_t>(row));
      }
    if (!rows.empty()) passes.push_back(rows);
  }
  return passes;
}

class Update : public ::testing::TestWithParam<std::tuple<Case, int>> {};

TEST_P(Update, IsThatOfTheReference) {
  const auto& [c, world] = GetParam();
  const Net net = parse_net(kNet, "update.net");
  ModelOptions options = c.options;
  options.seed = 3;
  options.normalization = half_normalization(net);
  Examples examples(net, kRows, 8);

  // From a state with moments, after three steps of one worker.
  State from(net);
  {
    Exec exec = cpu_exec(cpu_backend("auto"), 1);
    ModelOptions unclipped = options;
    unclipped.optimizer.clip_norm = 0;
    Model model = make_model(net, make_plan(net, kRows), unclipped, exec, {kRows}, {});
    for (int64_t step = 0; step < 3; ++step) train_step(model, exec, examples.batch(), {step, 0, 0.02f});
    store(model, from);
  }
  StepCase step;
  step.net = &net;
  step.options = options;
  step.settings = {3, 0, 0.1f, c.split_lr};
  PlanOptions first = c.plan;
  first.world = world;
  const Plan plan = make_plan(net, kRows, first);
  step.cut = plan.cut;
  step.split_updates = first.update_each_pass ? 12 : 3;  // the two halves' updates are counted apart
  if (first.update_each_pass)
    step.passes = passes_of(first.scheme, world, plan.pass_rows);
  else
    step.passes.push_back(examples.index);
  // The worst case of weights that depend on passes before says nothing.
  const PossibleSteps want(step, !first.update_each_pass, examples, from);

  State seen(net);
  StepReport report;
  run_team(world, team_backend(), [&, &given = c.plan, workers = world](Team& team, Exec& exec) {
    const Plan own = make_plan(net, kRows, of_worker(given, team, workers));
    Model model = make_model(net, own, options, exec, {kRows}, {}, team);
    load(model, from);
    model.split_updates = step.split_updates;
    const StepReport mine = train_step(model, exec, examples.batch(team.rank(), workers), step.settings);
    store(model, seen);
    if (team.rank() == 0) report = mine;
  });
  const auto [gradients, weights] = want.check(seen, report, c.name);
  std::printf("largest difference, in bounds: gradients %.3f, weights %.3f\n", gradients, weights);
}

INSTANTIATE_TEST_SUITE_P(Settings, Update,
                         ::testing::Combine(::testing::ValuesIn(kCases), ::testing::Values(1, 2, 3, 4, 8)),
                         [](const auto& parameters) {
                           return std::string(std::get<0>(parameters.param).name) + "_" +
                                  std::to_string(std::get<1>(parameters.param));
                         });

}  // namespace
}  // namespace convoy
