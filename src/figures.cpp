#include "figures.h"

#include <toml++/toml.h>

#include <cerrno>
#include <fstream>
#include <sstream>
#include <system_error>

#include "nearest.h"
#include "settings.h"

namespace convoy {
namespace {

constexpr double kHuge = 1e9;
constexpr int64_t kManyWorkers = 1 << 20;

struct Key {
  const char *section, *name;
  double Figures::*real;
  bool above;  // 0 is refused, and so is leaving it out
  double max;
};
constexpr Key kKeys[] = {
    {"speed", "conv-gflops", &Figures::conv_gflops, true, kHuge},
    {"speed", "fc-gflops", &Figures::fc_gflops, true, kHuge},
    {"speed", "update-gbytes", &Figures::update_gbytes, true, kHuge},
    {"speed", "pass-ms", &Figures::pass_ms, false, kHuge},
    {"speed", "step-ms", &Figures::step_ms, false, kHuge},
    {"links", "gbps", &Figures::gbps, true, kHuge},
    {"links", "message-us", &Figures::message_us, false, kHuge},
    {"links", "across-roots", &Figures::across_roots, true, 1},
};
constexpr const char* kRootWorkers = "root-workers";

std::string place(const std::string& file, const toml::source_position& at) {
  return text(file, ":", at.line, ":", at.column, ": ");
}

void set(Figures& figures, const std::string& file, const std::string& section, const std::string& name,
         const toml::node& node, const toml::source_position& at) {
  const auto refuse = [&](const std::string& wrong) {
    input_error(place(file, node.source().begin), name, ": ", wrong);
  };
  std::vector<std::string> known;
  for (const Key& key : kKeys) {
    if (section == key.section) known.emplace_back(key.name);
    if (section != key.section || name != key.name) continue;
    if (!node.is_number()) refuse("expected a number");
    figures.*key.real = *node.value<double>();
    const std::string wrong = problem(Setting::Real{nullptr, 0, key.max, key.above}, figures.*key.real);
    if (!wrong.empty()) refuse(wrong);
    return;
  }
  if (section == "links" && name == kRootWorkers) {
    if (!node.is_integer()) refuse("expected a whole number");
    figures.root_workers = node.as_integer()->get();
    const std::string wrong = problem(Setting::Whole{nullptr, 0, kManyWorkers}, figures.root_workers);
    if (!wrong.empty()) refuse(wrong);
    return;
  }
  if (section == "links") known.emplace_back(kRootWorkers);
  input_error(place(file, at), "unknown figure '", name, "' in [", section, "]", did_you_mean(name, known));
}

}  // namespace

Figures parse_figures(const std::string& content, const std::string& file) {
  toml::table table;
  try {
    table = toml::parse(content, file);
  } catch (const toml::parse_error& error) {
    input_error(place(file, error.source().begin), error.description());
  }
  Figures figures;
  for (const auto& [section, node] : table) {
    const std::string name(section.str());
    if ((name != "speed" && name != "links") || !node.is_table())
      input_error(place(file, section.source().begin), "unknown '", name,
                  "': expected the sections [speed] and [links]");
    for (const auto& [key, value] : *node.as_table())
      set(figures, file, name, std::string(key.str()), value, key.source().begin);
  }
  for (const Key& key : kKeys)
    if (key.above && figures.*key.real == 0)
      input_error(file, ": ", key.name, " is missing in [", key.section, "]");
  return figures;
}

Figures read_figures(const std::string& file) {
  constexpr std::streamsize kLargest = 1 << 20;
  std::ifstream in(file, std::ios::binary);
  std::string content(kLargest + 1, '\0');
  // A folder opens, but does not read.
  if (!in || !(in.read(content.data(), kLargest + 1) || in.eof()))
    input_error(file, ": cannot read the figures: ", std::generic_category().message(errno));
  content.resize(static_cast<size_t>(in.gcount()));
  if (in.gcount() > kLargest) input_error(file, ": more than 1 MiB is no file of figures");
  return parse_figures(content, file);
}

LayerTimes layer_times(const Net& net, const Figures& figures) {
  LayerTimes times;
  times.layers.resize(net.layers.size());
  const std::vector<int64_t> macs = forward_macs(net);
  bool first = true;
  for (size_t i = 0; i < net.layers.size(); ++i) {
    if (macs[i] == 0) continue;
    const double gflops =
        std::holds_alternative<Conv>(net.layers[i].spec) ? figures.conv_gflops : figures.fc_gflops;
    const double forward = 2e-9 * static_cast<double>(macs[i]) / gflops;
    times.layers[i].forward.row = forward;
    times.layers[i].backward.row = first ? forward : 2 * forward;
    first = false;
  }
  times.update = 20e-9 / figures.update_gbytes;
  times.pass = 1e-3 * figures.pass_ms;
  times.step = 1e-3 * figures.step_ms;
  return times;
}

std::string figures_text(const Figures& figures, const std::string& file) {
  return text(file, ": conv ", figures.conv_gflops, " GFLOP/s, fc ", figures.fc_gflops, " GFLOP/s, update ",
              figures.update_gbytes, " GB/s, ", figures.pass_ms, " ms a pass, ", figures.step_ms,
              " ms a step");
}

LinkFigures link_figures(const Figures& figures) {
  LinkFigures links;
  links.bytes_per_second = 1e9 * figures.gbps;
  links.message_seconds = 1e-6 * figures.message_us;
  links.root_workers = static_cast<int>(figures.root_workers);
  links.across_roots = figures.across_roots;
  return links;
}

}  // namespace convoy
