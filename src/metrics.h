// What a run leaves for other programs: metrics.jsonl, one JSON object a line, written whole and flushed as
// it happens, and summary.json at the end. A number that is not finite is written as null: JSON has no NaN.
//
// `step` counts the steps that are done: the first step of a run writes 1. `epoch` counts from 0 in step
// lines (the epoch that the step belongs to) and in epoch lines (the epoch that has ended).
#pragma once
#include <cstdio>
#include <limits>
#include <string>

#include "convoy/train.h"
#include "settings.h"

namespace convoy {

constexpr double kNotMeasured = std::numeric_limits<double>::quiet_NaN();

struct StepMetrics {
  int64_t step = 0, epoch = 0;
  double loss = kNotMeasured, lr = 0, images_per_second = kNotMeasured;
  int workers = 1;
  int64_t steps = 0;     // since the line before
  StepReport sums = {};  // of their seconds, waiting and bytes: of rank 0, written for several workers
};
struct EpochMetrics {
  int64_t step = 0, epoch = 0;
  double train_loss = kNotMeasured, train_accuracy = kNotMeasured;  // accuracies are fractions
  double test_loss = kNotMeasured, test_accuracy = kNotMeasured;
  double images_per_second = kNotMeasured, seconds = kNotMeasured;  // of training, without the evaluation
};

class MetricsWriter {
 public:
  // Starts an empty file; or, with resumed_step >= 0, goes on in the file that is there after dropping the
  // lines of later steps and a half-written last line. Throws Error when the file cannot be written.
  explicit MetricsWriter(const std::string& file, int64_t resumed_step = -1);
  ~MetricsWriter();
  MetricsWriter(const MetricsWriter&) = delete;
  MetricsWriter& operator=(const MetricsWriter&) = delete;

  void write(const StepMetrics& metrics);
  void write(const EpochMetrics& metrics);

 private:
  void line(const std::string& json);

  std::string file_;
  std::FILE* out_ = nullptr;
};

struct RunSummary {
  std::string status;  // "done": only a run that is complete has a summary
  int64_t steps = 0;
  double epochs = 0;
  int64_t parameters = 0;
  EpochMetrics last;  // the final figures
  double best_test_accuracy = kNotMeasured;
  double images_per_second = kNotMeasured;  // of training, without start-up and evaluation
  double training_seconds = 0, total_seconds = 0;
  std::string device;   // "cpu-avx512"
  int64_t threads = 0;  // of a worker
  int workers = 1;
};

// Writes DIR/summary.json (to a temporary name, then renamed), with the settings, versions and commit.
void write_summary(const std::string& dir, const Settings& settings, const RunSummary& summary);

}  // namespace convoy
