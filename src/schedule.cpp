#include "schedule.h"

#include <cmath>

namespace convoy {

double learning_rate(const Schedule& s, int64_t step) {
  if (step < s.warmup_steps)
    return s.lr * static_cast<double>(step + 1) / static_cast<double>(s.warmup_steps);
  const int64_t after = step - s.warmup_steps;
  const int64_t length = s.total_steps - s.warmup_steps;
  const double part = after < length ? static_cast<double>(after) / static_cast<double>(length) : 1.0;
  const int64_t drops = after / s.step_every;
  switch (s.kind) {
    case Schedule::kConstant:
      return s.lr;
    case Schedule::kStep:
      return s.lr * std::pow(s.gamma, static_cast<double>(drops));
    case Schedule::kCosine:
      return s.lr * (1 + std::cos(3.141592653589793 * part)) / 2;
    case Schedule::kLinear:
      return s.lr * (1 - part);
  }
  return s.lr;
}

int64_t total_steps(const Settings& settings, int64_t steps_per_epoch) {
  return settings.steps > 0 ? settings.steps
                            : checked_product(settings.epochs, steps_per_epoch, "--epochs: steps of the run");
}

Schedule make_schedule(const Settings& settings, int64_t steps_per_epoch) {
  const auto steps = [&](double epochs) {
    return std::llround(epochs * static_cast<double>(steps_per_epoch));
  };
  Schedule s;
  s.kind = settings.lr_schedule == "step"     ? Schedule::kStep
           : settings.lr_schedule == "cosine" ? Schedule::kCosine
           : settings.lr_schedule == "linear" ? Schedule::kLinear
                                              : Schedule::kConstant;
  s.lr = settings.lr;
  s.gamma = settings.lr_gamma;
  s.total_steps = total_steps(settings, steps_per_epoch);
  s.warmup_steps = steps(settings.warmup_epochs);
  s.step_every = std::max<int64_t>(1, steps(settings.lr_step_every));  // part of a step cannot be waited for
  if (s.total_steps > 0 && s.warmup_steps > s.total_steps)
    input_error("--warmup-epochs ", settings.warmup_epochs, " is ", s.warmup_steps,
                " steps, but the run has ", s.total_steps, ": shorten the warm-up");
  return s;
}

}  // namespace convoy
