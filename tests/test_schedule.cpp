// The learning rate of every step against PyTorch's schedulers, each stepped once a training step
// (PyTorch 1.13.1 and 2.15.0 print the same 12 digits).
#include <gtest/gtest.h>

#include <vector>

#include "schedule.h"

namespace convoy {
namespace {

constexpr double kLr = 0.1;

// 12 printed digits: half a unit of the last one, relative to the largest value.
void expect_rates(const Schedule& schedule, const std::vector<double>& want) {
  for (size_t t = 0; t < want.size(); ++t)
    EXPECT_NEAR(learning_rate(schedule, static_cast<int64_t>(t)), want[t], 0.5e-12 * kLr + 1e-16)
        << "step " << t;
}

Schedule schedule(Schedule::Kind kind, int64_t warmup) {
  Schedule s;
  s.kind = kind;
  s.lr = kLr;
  s.warmup_steps = warmup;
  s.total_steps = warmup + 8;
  s.step_every = 3;
  s.gamma = 0.5;
  return s;
}

const std::vector<double> kWarmup{0.025, 0.05, 0.075, 0.1};  // LinearLR(start_factor=1/4, total_iters=3)

// SequentialLR([warm-up, main], milestones=[4]).
void expect_with_warmup(Schedule::Kind kind, const std::vector<double>& main) {
  expect_rates(schedule(kind, 0), main);
  std::vector<double> want = kWarmup;
  want.insert(want.end(), main.begin(), main.end());
  expect_rates(schedule(kind, 4), want);
}

TEST(Schedule, constant) {
  expect_with_warmup(Schedule::kConstant, std::vector<double>(8, kLr));
}

TEST(Schedule, step_is_StepLR) {
  expect_with_warmup(Schedule::kStep, {0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025, 0.025});
}

TEST(Schedule, cosine_is_CosineAnnealingLR) {
  expect_with_warmup(Schedule::kCosine, {0.1, 0.0961939766256, 0.0853553390593, 0.0691341716183, 0.05,
                                         0.0308658283817, 0.0146446609407, 0.00380602337444});
}

TEST(Schedule, linear_is_LinearLR) {
  expect_with_warmup(Schedule::kLinear, {0.1, 0.0875, 0.075, 0.0625, 0.05, 0.0375, 0.025, 0.0125});
}

TEST(Schedule, cosine_and_linear_stay_at_zero_past_the_end) {
  for (Schedule::Kind kind : {Schedule::kCosine, Schedule::kLinear})
    for (int64_t step : {12, 13, 1000}) EXPECT_NEAR(learning_rate(schedule(kind, 4), step), 0, 1e-17);
  Schedule all_warmup = schedule(Schedule::kCosine, 4);
  all_warmup.total_steps = 4;
  EXPECT_EQ(learning_rate(all_warmup, 3), kLr);
  EXPECT_NEAR(learning_rate(all_warmup, 4), 0, 1e-17);
}

TEST(Schedule, is_made_from_settings) {
  Settings settings;
  settings.lr_schedule = "step";
  settings.lr = 0.3;
  settings.epochs = 10;
  settings.warmup_epochs = 0.5;
  settings.lr_step_every = 2;
  settings.lr_gamma = 0.2;
  const Schedule s = make_schedule(settings, 100);
  EXPECT_EQ(s.kind, Schedule::kStep);
  EXPECT_EQ(s.lr, 0.3);
  EXPECT_EQ(s.total_steps, 1000);
  EXPECT_EQ(s.warmup_steps, 50);
  EXPECT_EQ(s.step_every, 200);
  EXPECT_EQ(s.gamma, 0.2);

  settings.epochs = 0;
  settings.steps = 77;
  settings.lr_schedule = "cosine";
  EXPECT_EQ(make_schedule(settings, 100).total_steps, 77);
  EXPECT_EQ(make_schedule(settings, 100).kind, Schedule::kCosine);
  settings.lr_schedule = "linear";
  EXPECT_EQ(make_schedule(settings, 100).kind, Schedule::kLinear);
  settings.lr_schedule = "constant";
  settings.steps = 0;
  settings.max_minutes = 1;
  EXPECT_EQ(make_schedule(settings, 100).kind, Schedule::kConstant);
  EXPECT_EQ(make_schedule(settings, 100).total_steps, 0);
}

TEST(Schedule, refuses_a_warmup_longer_than_the_run_and_too_many_steps) {
  Settings settings;
  settings.epochs = 2;
  settings.warmup_epochs = 2;
  EXPECT_EQ(make_schedule(settings, 10).warmup_steps, 20);
  settings.warmup_epochs = 2.5;
  EXPECT_THROW(make_schedule(settings, 10), InputError);
  settings.warmup_epochs = 0;
  settings.epochs = int64_t{1} << 53;
  EXPECT_THROW(make_schedule(settings, 100000), InputError);
}

}  // namespace
}  // namespace convoy
