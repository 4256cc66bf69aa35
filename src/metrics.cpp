#include "metrics.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "config.h"
#include "version.h"

namespace convoy {
namespace {

using Json = nlohmann::ordered_json;

[[noreturn]] void failed(const std::string& file, const char* what) {
  throw Error(text(file, ": cannot ", what, ": ", std::generic_category().message(errno)));
}

std::string dump(const Json& json, int indent) {  // NaN and infinity become null
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// Bytes of the file's lines up to the first that is not whole or belongs to a later step.
int64_t bytes_until(const std::string& file, int64_t step) {
  std::ifstream in(file, std::ios::binary);
  int64_t bytes = 0;
  std::string line;
  while (std::getline(in, line) && !in.eof()) {  // eof: the line has no end
    const Json json = Json::parse(line, nullptr, false);
    if (!json.is_object() || !json.contains("step") || !json["step"].is_number_integer()) break;
    if (json["step"].get<int64_t>() > step) break;
    bytes += static_cast<int64_t>(line.size()) + 1;
  }
  return bytes;
}

Json settings_json(const Settings& settings) {
  Json json;
  for (const Setting& setting : setting_table())
    std::visit([&](const auto& value) { json[setting.name] = settings.*value.field; }, setting.value);
  return json;
}

}  // namespace

MetricsWriter::MetricsWriter(const std::string& file, int64_t resumed_step) : file_(file) {
  const bool goes_on = resumed_step >= 0 && std::filesystem::exists(file);
  if (goes_on && ::truncate(file.c_str(), bytes_until(file, resumed_step)) != 0) failed(file, "shorten");
  out_ = std::fopen(file.c_str(), goes_on ? "ab" : "wb");
  if (out_ == nullptr) failed(file, "open");
}

MetricsWriter::~MetricsWriter() {
  std::fclose(out_);
}

void MetricsWriter::line(const std::string& json) {
  const std::string whole = json + "\n";
  if (std::fwrite(whole.data(), 1, whole.size(), out_) != whole.size() || std::fflush(out_) != 0)
    failed(file_, "write");
}

void MetricsWriter::write(const StepMetrics& m) {
  Json json{{"event", "step"}, {"step", m.step}, {"epoch", m.epoch},
            {"loss", m.loss},  {"lr", m.lr},     {"images_per_second", m.images_per_second}};
  if (m.workers > 1) {  // means per step
    const auto steps = static_cast<double>(std::max<int64_t>(m.steps, 1));
    json["step_seconds"] = m.sums.seconds / steps;
    json["compute_seconds"] = m.sums.compute_seconds() / steps;
    for (const auto& [kind, name] :
         {std::pair{Traffic::kRows, "row"}, std::pair{Traffic::kColumns, "column"},
          std::pair{Traffic::kGradients, "gradient"}, std::pair{Traffic::kOther, "other"}}) {
      json[text("exposed_", name, "_seconds")] = m.sums.exposed[static_cast<size_t>(kind)] / steps;
      json[text(name, "_bytes")] = static_cast<double>(m.sums.bytes[static_cast<size_t>(kind)]) / steps;
    }
  }
  line(dump(json, -1));
}

void MetricsWriter::write(const EpochMetrics& m) {
  line(dump(Json{{"event", "epoch"},
                 {"epoch", m.epoch},
                 {"step", m.step},
                 {"train_loss", m.train_loss},
                 {"train_accuracy", m.train_accuracy},
                 {"test_loss", m.test_loss},
                 {"test_accuracy", m.test_accuracy},
                 {"images_per_second", m.images_per_second},
                 {"seconds", m.seconds}},
            -1));
}

void write_summary(const std::string& dir, const Settings& settings, const RunSummary& s) {
  const Json json{{"status", s.status},
                  {"test_accuracy", s.last.test_accuracy},
                  {"test_loss", s.last.test_loss},
                  {"train_accuracy", s.last.train_accuracy},
                  {"train_loss", s.last.train_loss},
                  {"best_test_accuracy", s.best_test_accuracy},
                  {"images_per_second", s.images_per_second},
                  {"steps", s.steps},
                  {"epochs", s.epochs},
                  {"parameters", s.parameters},
                  {"training_seconds", s.training_seconds},
                  {"total_seconds", s.total_seconds},
                  {"device", s.device},
                  {"workers", s.workers},
                  {"threads", s.threads},
                  {"version", version()},
                  {"commit", commit()},
                  {"compiler", compiler()},
                  {"settings", settings_json(settings)}};
  const std::string file = dir + "/summary.json", temporary = file + ".tmp";
  std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
  out << dump(json, 2) << "\n";
  out.close();
  if (!out) failed(temporary, "write");
  if (std::rename(temporary.c_str(), file.c_str()) != 0) failed(file, "rename to");
}

}  // namespace convoy
