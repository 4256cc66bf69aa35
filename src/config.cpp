#include "config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <system_error>

#include "nearest.h"

namespace convoy {
namespace {

std::string place(const std::string& file, const toml::source_position& at) {
  return text(file, ":", at.line, ":", at.column, ": ");
}

// The fewest digits that read back as the same number.
std::string shortest(double value) {
  char digits[40];
  for (int precision = 1; precision <= 17; ++precision) {
    std::snprintf(digits, sizeof digits, "%.*g", precision, value);
    if (std::strtod(digits, nullptr) == value) break;
  }
  return digits;
}

const Setting* find(std::string_view name) {
  for (const Setting& setting : setting_table())
    if (name == setting.name) return &setting;
  return nullptr;
}

// Sets one setting; returns what is wrong, or "".
std::string set(const Setting& setting, const toml::node& node, Settings& settings) {
  if (const auto* whole = std::get_if<Setting::Whole>(&setting.value)) {
    if (!node.is_integer()) return "expected a whole number";
    settings.*whole->field = node.as_integer()->get();
    return problem(*whole, settings.*whole->field);
  }
  if (const auto* real = std::get_if<Setting::Real>(&setting.value)) {
    if (!node.is_number()) return "expected a number";
    settings.*real->field =
        node.is_integer() ? static_cast<double>(node.as_integer()->get()) : node.as_floating_point()->get();
    return problem(*real, settings.*real->field);
  }
  if (const auto* word = std::get_if<Setting::Word>(&setting.value)) {
    if (word->or_whole && node.is_integer()) {
      settings.*word->field = std::to_string(node.as_integer()->get());
      return "";
    }
    if (!node.is_string()) return "expected a text in quotes";
    settings.*word->field = node.as_string()->get();
    return problem(*word, settings.*word->field);
  }
  if (!node.is_boolean()) return "expected true or false";
  settings.*std::get<Setting::Flag>(setting.value).field = node.as_boolean()->get();
  return "";
}

}  // namespace

void read_config_text(const std::string& content, const std::string& file, Settings& settings, Given& given) {
  toml::table table;
  try {
    table = toml::parse(content, file);
  } catch (const toml::parse_error& error) {
    input_error(place(file, error.source().begin), error.description());
  }
  std::vector<std::string> names;
  for (const Setting& setting : setting_table()) names.emplace_back(setting.name);

  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    const Setting* setting = find(name);
    if (setting == nullptr)
      input_error(place(file, key.source().begin), "unknown setting '", name, "'", did_you_mean(name, names),
                  " (convoy train --help lists them, without --)");
    const std::string wrong = set(*setting, node, settings);
    if (!wrong.empty()) input_error(place(file, node.source().begin), name, ": ", wrong);
    if (name == "checkpoint-every" || name == "average-every") {
      try {
        parse_every(name.c_str(),
                    name == "average-every" ? settings.average_every : settings.checkpoint_every);
      } catch (const InputError& error) {
        input_error(place(file, node.source().begin), error.what());
      }
    }
    given.insert(name);
  }
}

void read_config(const std::string& file, Settings& settings, Given& given) {
  constexpr std::streamsize kLargest = 1 << 20;
  std::ifstream in(file, std::ios::binary);
  std::string content(kLargest + 1, '\0');
  // A folder opens, but does not read.
  if (!in || !(in.read(content.data(), kLargest + 1) || in.eof()))
    input_error(file, ": cannot read the config file: ", std::generic_category().message(errno));
  content.resize(static_cast<size_t>(in.gcount()));
  if (in.gcount() > kLargest) input_error(file, ": more than 1 MiB is no config file");
  read_config_text(content, file, settings, given);
}

namespace {

// Settings that resolve() refuses beside the others.
bool has_no_meaning(const std::string& name, const Settings& s) {
  const auto among = [&](std::initializer_list<const char*> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (s.lr_schedule != "step" && among({"lr-step-every", "lr-gamma"})) return true;
  if (s.parallel == "data" && among({"scheme", "fc-batch-size", "fc-update", "fc-lr"})) return true;
  return s.sync != "average" && among({"average-every", "average-init"});
}

}  // namespace

std::string config_text(const Settings& settings) {
  std::ostringstream out;
  for (const Setting& setting : setting_table()) {
    const std::string name = setting.name;
    if (name == "out" || name == "resume" || name == "trace") continue;
    if (has_no_meaning(name, settings)) continue;
    if (const auto* whole = std::get_if<Setting::Whole>(&setting.value)) {
      const int64_t value = settings.*whole->field;
      if (problem(*whole, value).empty()) out << name << " = " << value << "\n";
    } else if (const auto* real = std::get_if<Setting::Real>(&setting.value)) {
      const double value = settings.*real->field;
      if (problem(*real, value).empty()) out << name << " = " << shortest(value) << "\n";
    } else if (const auto* word = std::get_if<Setting::Word>(&setting.value)) {
      const std::string& value = settings.*word->field;
      if (!value.empty()) out << name << " = " << toml::value<std::string>(value) << "\n";
    } else {
      const bool value = settings.*std::get<Setting::Flag>(setting.value).field;
      out << name << " = " << (value ? "true" : "false") << "\n";
    }
  }
  return out.str();
}

void write_config(const std::string& dir, const Settings& settings) {
  const std::string file = dir + "/config.toml";
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << config_text(settings);
  out.close();
  if (!out) throw Error(file + ": cannot write: " + std::generic_category().message(errno));
}

}  // namespace convoy
