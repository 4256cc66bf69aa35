// What somebody who watches a run sees. On a terminal: one line of step, loss, images/s and time left that
// redraws itself, and a lasting line an epoch. Elsewhere (a job's log): the line an epoch only.
#pragma once
#include <chrono>
#include <cstdio>
#include <string>

#include "metrics.h"

namespace convoy {

class Progress {
 public:
  // total_steps 0: unknown, no time left is shown. `terminal`: is_terminal(out), or a test's choice.
  Progress(std::FILE* out, bool terminal, int64_t total_steps, int64_t total_epochs);

  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Cheap enough for every step: draws at most ten times a second.
  void step(const StepMetrics& metrics);
  void epoch(const EpochMetrics& metrics);
  // A line of its own; the progress line is taken away first, and comes back with the next step.
  void line(const std::string& text);

 private:
  void clear();

  std::FILE* out_;
  bool terminal_;
  bool drawn_ = false;
  int64_t total_steps_, total_epochs_;
  int64_t first_step_ = -1;
  std::chrono::steady_clock::time_point first_{}, last_{};
};

bool is_terminal(std::FILE* file);

// What is left of a line in a terminal so wide (0: unknown, all of it). A wrapped line could not be drawn
// again in place.
std::string fit_line(const std::string& line, int columns);

// "45 s", "3 min 20 s", "2 h 05 min"
std::string duration_text(double seconds);

// The two kinds of line, as they are printed.
std::string step_line(const StepMetrics& metrics, int64_t total_steps, double seconds_left);
std::string epoch_line(const EpochMetrics& metrics, int64_t total_epochs);

}  // namespace convoy
