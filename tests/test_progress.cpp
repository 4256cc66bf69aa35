// What is printed on a terminal and in a log.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "progress.h"

namespace convoy {
namespace {

const StepMetrics kStep{120, 1, 0.25, 0.1, 4321.6};
const EpochMetrics kEpoch{500, 1, 0.5, 0.75, 0.25, 0.8751, 1000, 61};

std::string printed(bool terminal, const std::function<void(Progress&)>& use) {
  std::FILE* file = std::tmpfile();
  {
    Progress progress(file, terminal, 500, 5);
    use(progress);
  }
  std::rewind(file);
  std::string content(10000, '\0');
  content.resize(std::fread(content.data(), 1, content.size(), file));
  std::fclose(file);
  return content;
}

TEST(Progress, durations) {
  EXPECT_EQ(duration_text(0.4), "0 s");
  EXPECT_EQ(duration_text(59.4), "59 s");
  EXPECT_EQ(duration_text(60), "1 min 00 s");
  EXPECT_EQ(duration_text(3599), "59 min 59 s");
  EXPECT_EQ(duration_text(7500), "2 h 05 min");
  for (double seconds : {-1.0, std::nan(""), double{INFINITY}, 1e300}) EXPECT_EQ(duration_text(seconds), "-");
}

TEST(Progress, lines) {
  EXPECT_EQ(step_line(kStep, 500, 65), "epoch 2  step 120/500  loss 0.2500  4322 images/s  1 min 05 s left");
  EXPECT_EQ(step_line(kStep, 0, 65), "epoch 2  step 120  loss 0.2500  4322 images/s");
  EXPECT_EQ(epoch_line(kEpoch, 5),
            "epoch 2/5  train loss 0.5000, accuracy 75.00 %  test loss 0.2500, accuracy 87.51 %  1000 "
            "images/s  1 min 01 s");
  EpochMetrics untested = kEpoch;
  untested.test_loss = untested.test_accuracy = kNotMeasured;
  EXPECT_EQ(epoch_line(untested, 0),
            "epoch 2  train loss 0.5000, accuracy 75.00 %  1000 images/s  1 min 01 s");
}

TEST(Progress, a_log_gets_the_epochs_only) {
  const std::string log = printed(false, [](Progress& progress) {
    progress.step(kStep);
    progress.epoch(kEpoch);
    progress.line("saved");
  });
  EXPECT_EQ(log, epoch_line(kEpoch, 5) + "\nsaved\n");
}

TEST(Progress, a_terminal_line_redraws_itself_and_goes_away) {
  const std::string screen = printed(true, [](Progress& progress) {
    progress.step(kStep);
    progress.step(kStep);  // sooner than the eye can see
    progress.epoch(kEpoch);
    progress.step(kStep);
  });
  const std::string drawn = "\r" + step_line(kStep, 500, kNotMeasured) + "\033[K", cleared = "\r\033[K";
  const std::string start = drawn + cleared + epoch_line(kEpoch, 5) + "\n\r";
  EXPECT_EQ(screen.substr(0, start.size()), start);
  EXPECT_EQ(screen.substr(screen.size() - cleared.size()), cleared);
}

TEST(Progress, a_line_fits_into_its_terminal) {
  EXPECT_EQ(fit_line("epoch 1  step 5", 0), "epoch 1  step 5");
  EXPECT_EQ(fit_line("epoch 1  step 5", 16), "epoch 1  step 5");
  EXPECT_EQ(fit_line("epoch 1  step 5", 15), "epoch 1  step ");
  EXPECT_EQ(fit_line("epoch 1  step 5", 1), "");
}

TEST(Progress, a_file_is_no_terminal) {
  std::FILE* file = std::tmpfile();
  EXPECT_FALSE(is_terminal(file));
  std::fclose(file);
}

}  // namespace
}  // namespace convoy
