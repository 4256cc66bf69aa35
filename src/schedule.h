// The learning rate of a step: a pure function of the step, so that a resumed run needs no state. step t = 0,
// 1, ...; with W warm-up steps, T = total_steps - W and u = t - W:
//
//   t < W      lr · (t + 1) / W                 torch LinearLR(start_factor=1/W, total_iters=W-1), chained by
//   SequentialLR constant   lr step       lr · gamma^floor(u / step_every) torch StepLR(step_size=step_every,
//   gamma) cosine     lr · (1 + cos(π·u / T)) / 2      torch CosineAnnealingLR(T_max=T) linear     lr · (1 -
//   u / T)                 torch LinearLR(start_factor=1, end_factor=0, total_iters=T)
//
// all stepped once a training step. Past total_steps, cosine and linear stay at 0.
#pragma once
#include "settings.h"

namespace convoy {

struct Schedule {
  enum Kind { kConstant, kStep, kCosine, kLinear } kind = kConstant;
  double lr = 0;
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;  // cosine and linear; at least warmup_steps
  int64_t step_every = 1;   // steps
  double gamma = 0.1;
};
double learning_rate(const Schedule& schedule, int64_t step);

// Steps of the whole run, from --steps or --epochs; 0 when only --max-minutes ends it.
int64_t total_steps(const Settings& settings, int64_t steps_per_epoch);

// Throws InputError when the warm-up is longer than the run.
Schedule make_schedule(const Settings& settings, int64_t steps_per_epoch);

}  // namespace convoy
