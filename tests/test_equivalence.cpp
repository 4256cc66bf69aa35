// On normal data, one step from each state of a run: gradients, update and loss of K workers, in any mode, are those of
// one worker up to rounding. Both are held against the step in double precision with a bound for every element
// (bounded.h): the likely one, and for the net of convolutions, pools and fully connected layers the worst case too. The
// deeper nets' worst cases are too large to tell right from wrong.
#include <gtest/gtest.h>

#include <cstdio>

#include "bounded_step.h"

namespace convoy {
namespace {

using reference::PossibleSteps;
using reference::StepCase;

struct Case {
  const char* name;
  const char* text;
  bool worst;
  int64_t batch;  // of the run
  int64_t rows;   // of the step: of the last batch of an epoch, if fewer
  int states;
  std::vector<int> workers;
};

constexpr const char* kConvolutions =
    "input 12x12x3\nconv 8 3x3 pad 1\nrelu\nmaxpool 2\nconv 12 3x3 pad 1\nrelu\nmaxpool 2\nfc 24\nrelu\nfc "
    "10\n";
constexpr const char* kResidual =
    "input 8x8x3\nconv 6 3x3 pad 1 nobias\nbn\nr0: relu\n"
    "conv 6 3x3 pad 1 nobias\nbn\nrelu\nconv 6 3x3 pad 1 nobias\nb1: bn\nadd b1 r0\nr1: relu\n"
    "conv 8 3x3 stride 2 pad 1 nobias\nbn\nrelu\nconv 8 3x3 pad 1 nobias\nb2: bn\n"
    "p: conv 8 1x1 stride 2 nobias from r1\nb3: bn\nadd b2 b3\nrelu\navgpool global\nfc 10\n";
constexpr const char* kNormalised =
    "input 15x15x3\nconv 8 5x5 stride 2 pad 2\nrelu\nlrn 5 alpha 0.1\nmaxpool 3 stride 2\nconv 12 3x3 pad "
    "1\nrelu\n"
    "maxpool 3 stride 2\ndropout 0.5\nfc 24\nrelu\ndropout 0.5\nfc 20\nrelu\nfc 10\n";

const std::vector<int> kAll{1, 2, 3, 4, 8};
const Case kCases[] = {
    {"convolutions", kConvolutions, false, 19, 19, 20, kAll},  // rows that no number of workers divides
    {"convolutions_worst", kConvolutions, true, 19, 19, 20, kAll},
    {"residual", kResidual, false, 19, 19, 20, kAll},
    {"normalised", kNormalised, false, 19, 19, 20, kAll},
    {"convolutions_3", kConvolutions, true, 3, 3, 4, {4, 8}},  // workers without rows
    {"convolutions_last", kConvolutions, false, 19, 3, 4, {2, 3, 8}},
    {"residual_3", kResidual, false, 3, 3, 4, {4, 8}},
    {"normalised_3", kNormalised, false, 3, 3, 4, {4, 8}},
    {"normalised_last", kNormalised, false, 19, 3, 4, {2, 3, 8}},
};

// What the emulator has the time for: fewer states and workers of three cases.
bool emulated() {
  return reference::is_cuda(team_backend()) && find_cuda()->emulated;
}
std::vector<Case> cases() {
  std::vector<Case> all(std::begin(kCases), std::end(kCases));
  if (!emulated()) return all;
  std::vector<Case> few = {all[0], all[2], all[3]};
  for (Case& c : few) {
    c.states = c.text == kConvolutions ? 10 : 4;
    c.workers = {1, 2, 3};
  }
  return few;
}
int states_of(const Case& c, int world) {
  return emulated() && world > 1 ? 2 : c.states;
}

struct Mode {
  const char* name;
  PlanOptions options;
};
const Mode kModes[] = {
    {"data", mode(Parallel::kData)},
    {"hybrid_a", mode(Parallel::kHybrid, Scheme::kA)},
    {"hybrid_b", mode(Parallel::kHybrid, Scheme::kB)},
    {"hybrid_c", mode(Parallel::kHybrid, Scheme::kC)},
    {"model", mode(Parallel::kModel, Scheme::kA)},
};

// The states that a run of one worker goes through, and what a step from each must come to.
struct Wanted {
  std::vector<Examples> batches;
  std::vector<State> states;
  std::vector<StepCase> steps;
  std::vector<PossibleSteps> wanted;
};

ModelOptions options_for(const Net& net) {
  ModelOptions o;
  o.seed = 5;
  o.optimizer.weight_decay = 1e-3f;
  o.normalization = half_normalization(net);
  return o;
}

Wanted run_of_one_worker(const Case& c, const Net& net) {
  Wanted run;
  Exec exec = cpu_exec(cpu_backend("auto"), 1);
  Model model = make_model(net, make_plan(net, c.batch), options_for(net), exec, {c.batch, c.rows}, {});
  int64_t decisions = 0;
  size_t undecided = 0;
  for (int s = 0; s < c.states; ++s) {
    run.batches.emplace_back(net, c.rows, 100 + static_cast<uint64_t>(s));
    run.states.emplace_back(net);
    store(model, run.states.back());
    StepCase step;
    step.net = &net;
    step.options = model.options;
    step.settings = {s, 0, 0.05f};
    step.passes.emplace_back(run.batches.back().index);
    run.steps.push_back(step);
    run.wanted.emplace_back(step, c.worst, run.batches.back(), run.states.back());
    decisions += run.wanted.back().first().decisions();
    undecided += run.wanted.back().first().undecided().size();
    train_step(model, exec, run.batches.back().batch(), step.settings);
  }
  std::printf("%s: %zu of %lld decisions are closer than rounding\n", c.name, undecided,
              static_cast<long long>(decisions));
  return run;
}

class Equivalence : public ::testing::TestWithParam<std::tuple<Case, Mode>> {};

TEST_P(Equivalence, OneStepFromEachStateIsThatOfOneWorker) {
  const auto& [c, m] = GetParam();
  const Net net = parse_net(c.text, c.name);
  Wanted run = run_of_one_worker(c, net);
  double gradients = 0, weights = 0;
  for (const int world : c.workers) {
    std::vector<State> seen(static_cast<size_t>(states_of(c, world)), State(net));
    std::vector<StepReport> reports(seen.size());
    run_team(world, team_backend(),
             [&, &options = m.options, batch = c.batch, rows = c.rows](Team& team, Exec& exec) {
               const Plan plan = make_plan(net, batch, of_worker(options, team, world));
               Model model = make_model(net, plan, options_for(net), exec, {batch, rows}, {}, team);
               for (size_t s = 0; s < seen.size(); ++s) {
                 load(model, run.states[s]);
                 const StepReport report =
                     train_step(model, exec, run.batches[s].batch(team.rank(), world), run.steps[s].settings);
                 store(model, seen[s]);
                 if (team.rank() == 0) reports[s] = report;
               }
             });
    for (size_t s = 0; s < seen.size(); ++s) {
      const auto off = run.wanted[s].check(seen[s], reports[s], text(world, " workers, state ", s));
      gradients = std::max(gradients, off[0]);
      weights = std::max(weights, off[1]);
      EXPECT_EQ(reports[s].rows, c.rows);
    }
  }
  std::printf("largest difference, in bounds: gradients %.3f, weights %.3f\n", gradients, weights);
}

INSTANTIATE_TEST_SUITE_P(Nets, Equivalence,
                         ::testing::Combine(::testing::ValuesIn(cases()), ::testing::ValuesIn(kModes)),
                         [](const auto& parameters) {
                           return std::string(std::get<0>(parameters.param).name) + "_" +
                                  std::get<1>(parameters.param).name;
                         });

}  // namespace
}  // namespace convoy
