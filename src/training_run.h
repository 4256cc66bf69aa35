// `convoy train`: one run from its settings to its last checkpoint.
#pragma once
#include <chrono>
#include <exception>
#include <memory>
#include <optional>

#include "activity.h"
#include "commands.h"
#include "convoy/checkpoint.h"
#include "convoy/train.h"
#include "metrics.h"
#include "progress.h"
#include "run_dir.h"
#include "schedule.h"
#include "trace.h"

namespace convoy {

class TrainingRun {
 public:
  // Loads data and net, makes the model, goes on from a checkpoint where one is asked for, and then makes the
  // run's directory: what is wrong with the settings leaves nothing behind.
  // The leader's `dir` becomes the directory that was made; its lock is the caller's to keep while the run lasts.
  // One of the team's workers; all of them make the same run, and the leader alone prints and writes.
  TrainingRun(const Settings& settings, const DataSets& data, RunDir& dir, const Team& team,
              const Exec& exec);
  ~TrainingRun() { note_activity(nullptr); }
  TrainingRun(const TrainingRun&) = delete;
  TrainingRun& operator=(const TrainingRun&) = delete;
  int run();  // the exit status

 private:
  void load_initial();
  void resume(const std::string& from);
  void train();
  const Batch* next_batch();
  bool one_step(const Batch& batch);  // true: the run is over (steps, minutes, or a signal)
  void announce() const;
  void report_step();
  void note_activity(Activity* activity);
  void start_trace();
  void trace_step();
  int32_t vote() const;
  void vote_again(const StepReport& report);
  bool leads() const { return team_.rank() == 0; }
  void average();
  void end_epoch(bool complete);  // with `complete`, the epoch has no more batches
  void save(bool best);
  bool checkpoint_due(bool epoch_end) const;
  TrainingRecord record() const;
  bool all_steps_done() const { return total_steps_ > 0 && step_ >= total_steps_; }
  bool epoch_at_end() const { return steps_per_epoch_ > 0 && batch_in_epoch_ == steps_per_epoch_; }
  int nothing_left() const;
  void finish();

  Settings settings_;
  const RunDir& run_dir_;
  std::string dir_;
  const DataSets& data_;
  Team team_;
  Activity activity_;
  std::unique_ptr<Trace> trace_;  // while steps are traced
  int traced_steps_ = 0;
  Net net_;
  Exec exec_;
  Model model_;
  Schedule schedule_;
  Every checkpoint_every_, average_every_;
  StepWindow profiled_;
  int64_t total_steps_ = 0, steps_per_epoch_ = 0;

  // Where the run is; what a checkpoint keeps.
  int64_t step_ = 0, epoch_ = 0, batch_in_epoch_ = 0;
  StepReport epoch_sums_;
  double best_accuracy_ = -1;

  int32_t stop_ = 0;  // what the workers agreed on: 0, the number of a signal, or kOutOfTime
  int64_t averaged_step_ = 0;

  // What this process has seen.
  std::unique_ptr<Loader> train_loader_, test_loader_;
  const Batch* ahead_ = nullptr;    // on CUDA, the next step's, which is on its way
  std::exception_ptr ahead_error_;  // why there is none
  std::unique_ptr<MetricsWriter> metrics_;
  std::unique_ptr<Progress> progress_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  bool resumed_ = false, averages_ = false;
  double step_seconds_ = 0;                                      // of the last one
  double seconds_ = 0, epoch_seconds_ = 0, window_seconds_ = 0;  // of training steps
  int64_t rows_ = 0, epoch_rows_ = 0, window_rows_ = 0, window_steps_ = 0;
  double window_loss_ = 0;
  StepReport window_;  // sums of seconds, waiting and bytes
  int64_t saved_step_ = -1;
  bool epoch_measured_ = true;
  EpochMetrics last_;
};

}  // namespace convoy
