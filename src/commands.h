// What the command line starts. Each returns the program's exit status and throws InputError or Error.
#pragma once
#include "settings.h"

namespace convoy {

// Returns 0 when the run is complete, kExitAgain (signals.h) when a signal ended it and a checkpoint holds
// its state.
int command_train(const Settings& settings);
int command_eval(const EvalSettings& settings);
int command_predict(const PredictSettings& settings);
int command_summary(const SummarySettings& settings);
int command_plan(const PlanSettings& settings);
// Returns 1 when a division's weights differ from one worker's by more than rounding.
int command_bench_schemes(const BenchSchemesSettings& settings);

}  // namespace convoy
