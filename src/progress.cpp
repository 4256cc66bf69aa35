#include "progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iomanip>
#include <sstream>

namespace convoy {
namespace {

constexpr auto kRedraw = std::chrono::milliseconds(100);

std::string number(double value, int digits) {
  if (!std::isfinite(value)) return std::isnan(value) ? "-" : "inf";
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

int columns(std::FILE* file) {
  winsize size{};
  return ioctl(fileno(file), TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

}  // namespace

std::string fit_line(const std::string& line, int columns) {
  const auto room = static_cast<size_t>(std::max(columns - 1, 0));  // the cursor stands behind the line
  return columns <= 0 || line.size() <= room ? line : line.substr(0, room);
}

bool is_terminal(std::FILE* file) {
  return isatty(fileno(file)) != 0;
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e9) return "-";
  const long long whole = std::llround(seconds);
  const auto two = [](long long value) { return (value < 10 ? "0" : "") + std::to_string(value); };
  if (whole < 60) return std::to_string(whole) + " s";
  if (whole < 3600) return std::to_string(whole / 60) + " min " + two(whole % 60) + " s";
  return std::to_string(whole / 3600) + " h " + two(whole % 3600 / 60) + " min";
}

std::string step_line(const StepMetrics& m, int64_t total_steps, double seconds_left) {
  std::string line = "epoch " + std::to_string(m.epoch + 1) + "  step " + std::to_string(m.step);
  if (total_steps > 0) line += "/" + std::to_string(total_steps);
  line += "  loss " + number(m.loss, 4) + "  " + number(m.images_per_second, 0) + " images/s";
  if (total_steps > 0) line += "  " + duration_text(seconds_left) + " left";
  return line;
}

std::string epoch_line(const EpochMetrics& m, int64_t total_epochs) {
  std::string line = "epoch " + std::to_string(m.epoch + 1);
  if (total_epochs > 0) line += "/" + std::to_string(total_epochs);
  line +=
      "  train loss " + number(m.train_loss, 4) + ", accuracy " + number(100 * m.train_accuracy, 2) + " %";
  if (!std::isnan(m.test_loss))
    line += "  test loss " + number(m.test_loss, 4) + ", accuracy " + number(100 * m.test_accuracy, 2) + " %";
  return line + "  " + number(m.images_per_second, 0) + " images/s  " + duration_text(m.seconds);
}

Progress::Progress(std::FILE* out, bool terminal, int64_t total_steps, int64_t total_epochs)
    : out_(out), terminal_(terminal), total_steps_(total_steps), total_epochs_(total_epochs) {}

Progress::~Progress() {
  clear();
}

void Progress::clear() {
  if (drawn_) std::fputs("\r\033[K", out_);
  if (drawn_) std::fflush(out_);
  drawn_ = false;
}

void Progress::step(const StepMetrics& metrics) {
  const auto now = std::chrono::steady_clock::now();
  if (first_step_ < 0) {
    first_step_ = metrics.step;
    first_ = now;
  }
  if (!terminal_ || (drawn_ && now - last_ < kRedraw)) return;
  // From the wall clock, so that evaluations and checkpoints count.
  const double seconds = std::chrono::duration<double>(now - first_).count();
  const auto done = static_cast<double>(metrics.step - first_step_);
  const double left =
      done > 0 ? seconds / done * static_cast<double>(total_steps_ - metrics.step) : kNotMeasured;
  std::fprintf(out_, "\r%s\033[K", fit_line(step_line(metrics, total_steps_, left), columns(out_)).c_str());
  std::fflush(out_);
  last_ = now;
  drawn_ = true;
}

void Progress::epoch(const EpochMetrics& metrics) {
  line(epoch_line(metrics, total_epochs_));
}

void Progress::line(const std::string& message) {
  clear();
  std::fprintf(out_, "%s\n", message.c_str());
  std::fflush(out_);
}

}  // namespace convoy
