// Runs of several workers: the same bits every time and for any number of threads, workers that train apart, batch norm
// on each worker's own rows, and what happens when a loss is not finite.
#include <gtest/gtest.h>

#include <limits>

#include "average.h"
#include "parallel_state.h"

namespace convoy {
namespace {

constexpr const char* kNet =
    "input 8x8x2\nc1: conv 6 3x3 pad 1 nobias\nb1: bn\nrelu\nmaxpool 2\nc2: conv 5 3x3\nrelu\ndropout 0.25\n"
    "f1: fc 17\nrelu\ndropout 0.5\nf2: fc 5\n";
constexpr const char* kPlainNet =  // for modes that allow no batch norm
    "input 8x8x2\nc1: conv 6 3x3 pad 1\nrelu\nmaxpool 2\nc2: conv 5 3x3\nrelu\ndropout 0.25\n"
    "f1: fc 17\nrelu\ndropout 0.5\nf2: fc 5\n";
constexpr int64_t kRows = 19, kLastRows = 3, kEpoch = 4;  // every fourth batch is a short one

struct Mode {
  const char* name;
  PlanOptions options;
  const char* net = kNet;
};
PlanOptions each_pass(PlanOptions options) {
  options.update_each_pass = true;
  return options;
}
const Mode kModes[] = {
    {"data", mode(Parallel::kData)},
    {"hybrid_a", mode(Parallel::kHybrid, Scheme::kA)},
    {"hybrid_b", mode(Parallel::kHybrid, Scheme::kB)},
    {"hybrid_c", mode(Parallel::kHybrid, Scheme::kC)},
    {"hybrid_c_each_pass", each_pass(mode(Parallel::kHybrid, Scheme::kC, 5))},
    {"model_a", mode(Parallel::kModel, Scheme::kA)},
    {"model_b", mode(Parallel::kModel, Scheme::kB), kPlainNet},
};

ModelOptions options_for(const Net& net, OptimizerKind kind = OptimizerKind::kSgd) {
  ModelOptions o;
  o.seed = 9;
  o.optimizer.kind = kind;
  o.normalization = half_normalization(net);
  o.augment = o.augment_flip = true;
  o.augment_pad = 1;
  return o;
}

struct Settings {
  PlanOptions plan;
  int world = 3, threads = 1;
  int64_t steps = 10;
  ModelOptions options;
};

State final_state(const Net& net, const Settings& run, std::vector<double>* losses = nullptr) {
  State state(net);
  run_team(run.world, cpu_backend("auto"), [&](Team& team, Exec& exec) {
    exec.threads = run.threads;
    const Plan plan = make_plan(net, kRows, of_worker(run.plan, team, run.world));
    Model model = make_model(net, plan, run.options, exec, {kRows, kLastRows}, {}, team);
    for (int64_t step = 0; step < run.steps; ++step) {
      Examples examples(net, step % kEpoch == kEpoch - 1 ? kLastRows : kRows,
                        static_cast<uint64_t>(step % kEpoch));
      const StepReport report =
          train_step(model, exec, examples.batch(team.rank(), run.world), {step, step / kEpoch, 0.02f});
      if (losses != nullptr && team.rank() == 0) losses->push_back(report.loss);
    }
    store(model, state, run.plan.sync_batchnorm);  // running statistics may be each worker's own
  });
  return state;
}

class Repeated : public ::testing::TestWithParam<std::tuple<Mode, OptimizerKind>> {};

TEST_P(Repeated, SameBitsForAnyNumberOfThreads) {
  const auto& [m, kind] = GetParam();
  const Net net = parse_net(m.net, "runs.net");
  Settings run;
  run.plan = m.options;
  run.options = options_for(net, kind);
  const State first = final_state(net, run), second = final_state(net, run);
  EXPECT_TRUE(same_bits(first, second)) << "of two runs";
  run.threads = 2;
  EXPECT_TRUE(same_bits(first, final_state(net, run))) << "with two threads a worker";
  run.options.seed = 10;
  EXPECT_FALSE(same_bits(first, final_state(net, run))) << "the seed changes nothing";
}

INSTANTIATE_TEST_SUITE_P(Runs, Repeated,
                         ::testing::Combine(::testing::ValuesIn(kModes),
                                            ::testing::Values(OptimizerKind::kSgd, OptimizerKind::kAdamw)),
                         [](const auto& parameters) {
                           return std::string(std::get<0>(parameters.param).name) +
                                  (std::get<1>(parameters.param) == OptimizerKind::kSgd ? "_sgd" : "_adamw");
                         });

// Over the short batches, which leave workers and passes without rows.
TEST(ParallelRuns, LossesAreThoseOfOneWorker) {
  for (const Mode& m : kModes) {
    if (m.options.update_each_pass) continue;  // another computation
    const Net net = parse_net(m.net, "runs.net");
    std::vector<double> alone;
    Settings run;
    run.options = options_for(net);
    run.world = 1;
    final_state(net, run, &alone);
    for (run.world = 2; run.world <= 8; run.world *= 2) {
      run.plan = m.options;
      std::vector<double> together;
      final_state(net, run, &together);
      for (size_t step = 0; step < alone.size(); ++step)
        EXPECT_NEAR(together[step], alone[step], 1e-4 * alone[step])
            << m.name << ", " << run.world << " workers, step " << step;
    }
  }
}

TEST(ParallelRuns, LocalBatchNormIsAnotherRun) {
  const Net net = parse_net(kNet, "runs.net");
  for (const PlanOptions& plan : {mode(Parallel::kData), mode(Parallel::kHybrid, Scheme::kC)}) {
    Settings run;
    run.plan = plan;
    run.options = options_for(net);
    std::vector<double> together, apart, alone;
    final_state(net, run, &together);
    run.world = 1;
    final_state(net, run, &alone);
    run.world = 3;
    run.plan.sync_batchnorm = false;
    final_state(net, run, &apart);
    const double difference = std::fabs(together[1] - alone[1]);  // rounding
    EXPECT_LT(difference, 1e-5 * alone[1]);
    EXPECT_GT(std::fabs(apart[1] - alone[1]), 20 * difference);
    EXPECT_TRUE(std::isfinite(apart.back()));
  }
}

// Workers apart: each is a run of one worker on its own rows. With two the mean is exact.
TEST(ParallelRuns, AverageIsTheMeanOfSeparateRuns) {
  const Net net = parse_net(kNet, "runs.net");
  constexpr int kWorld = 2;
  constexpr int64_t kSteps = 5;
  for (const bool same_weights : {true, false}) {
    const auto options_of = [&](int rank) {
      ModelOptions o = options_for(net);
      if (!same_weights) o.initial_seed = 40 + static_cast<uint64_t>(rank);
      return o;
    };
    std::vector<State> averaged(kWorld, State(net)), separate(kWorld, State(net));
    run_team(kWorld, cpu_backend("auto"), [&](Team& team, Exec& exec) {
      PlanOptions plan = of_worker(mode(Parallel::kData), team, kWorld);
      plan.average = true;
      Model model =
          make_model(net, make_plan(net, kRows, plan), options_of(team.rank()), exec, {kRows}, {}, team);
      for (int64_t step = 0; step < kSteps; ++step) {
        Examples examples(net, kRows, static_cast<uint64_t>(step));
        train_step(model, exec, examples.batch(team.rank(), kWorld), {step, 0, 0.02f});
      }
      average_weights(model, exec);
      store(model, averaged[static_cast<size_t>(team.rank())], false);
    });
    for (int rank = 0; rank < kWorld; ++rank) {
      const int64_t own = part_of(kRows, rank, kWorld).count;
      Exec exec = cpu_exec(cpu_backend("auto"), 1);
      Model model = make_model(net, make_plan(net, own), options_of(rank), exec, {own}, {});
      for (int64_t step = 0; step < kSteps; ++step) {
        Examples examples(net, kRows, static_cast<uint64_t>(step));
        Batch batch = examples.batch(rank, kWorld);
        batch.global_rows = own;
        batch.all_labels = In();
        train_step(model, exec, batch, {step, 0, 0.02f});
      }
      store(model, separate[static_cast<size_t>(rank)]);
    }
    EXPECT_FALSE(same_bits(separate[0], separate[1]));
    State mean = separate[0];
    for (Tensors* tensors : {&mean.values, &mean.moments[0]})
      for (size_t i = 0; i < tensors->size(); ++i)
        for (size_t j = 0; j < (*tensors)[i].size(); ++j) {
          const Tensors& other = tensors == &mean.values ? separate[1].values : separate[1].moments[0];
          (*tensors)[i][j] = ((*tensors)[i][j] + other[i][j]) * 0.5f;
        }
    for (const State& state : averaged)
      EXPECT_TRUE(same_bits(state, mean)) << "same weights: " << same_weights;
  }
}

class Nonfinite : public ::testing::TestWithParam<Mode> {};

// One worker's copy or part of a weight is bad: all find out together, and go on when it is mended.
TEST_P(Nonfinite, EveryWorkerNamesTheSameLayer) {
  const Mode& m = GetParam();
  const Net net = parse_net(m.net, "runs.net");
  constexpr int kWorld = 3, kBad = 1;
  for (const char* name : {"c1.weight", "c2.weight", "f1.weight", "f2.bias"}) {
    std::vector<std::string> messages(kWorld);
    State before(net), after(net);
    std::vector<double> losses(kWorld);
    run_team(kWorld, cpu_backend("auto"), [&](Team& team, Exec& exec) {
      const auto rank = static_cast<size_t>(team.rank());
      const Plan plan = make_plan(net, kRows, of_worker(m.options, team, kWorld));
      Model model = make_model(net, plan, options_for(net), exec, {kRows}, {}, team);
      Examples examples(net, kRows, 1);
      const Batch batch = examples.batch(team.rank(), kWorld);
      store(model, before);
      float* weight = nullptr;
      for (size_t i = 0; i < model.specs.size(); ++i)
        if (model.specs[i].name == name) weight = model.values[i].f32();
      const float good = weight[0];
      if (team.rank() == kBad) weight[0] = std::numeric_limits<float>::quiet_NaN();
      try {
        train_step(model, exec, batch, {41, 0, 0.02f});
      } catch (const NonfiniteError& error) {
        messages[rank] = error.what();
      }
      weight[0] = good;
      store(model, after);
      losses[rank] = train_step(model, exec, batch, {42, 0, 0.02f}).loss;
    });
    for (const std::string& message : messages) {
      EXPECT_NE(message.find("not finite at step 41"), std::string::npos) << name << ": " << message;
      EXPECT_NE(message.find(std::string(name) + " holds 1 NaN"), std::string::npos) << message;
      EXPECT_NE(message.find("on worker 1"), std::string::npos) << message;
      EXPECT_EQ(message, messages[0]);
    }
    EXPECT_TRUE(same_bits(before, after)) << name << ": something was updated";
    for (const double loss : losses) {
      EXPECT_TRUE(std::isfinite(loss)) << name;
      EXPECT_EQ(loss, losses[0]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Runs, Nonfinite, ::testing::ValuesIn(kModes),
                         [](const auto& parameters) { return std::string(parameters.param.name); });

}  // namespace
}  // namespace convoy
