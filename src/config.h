// Settings as TOML: keys are the names of setting_table(), one "key = value" a line.
#pragma once
#include <string>

#include "settings.h"

namespace convoy {

// Sets what the text gives, and adds its names to `given`. Throws InputError "file:line:col: message" for
// what is not TOML, unknown keys (with the nearest known one), wrong types and values out of range.
void read_config_text(const std::string& text, const std::string& file, Settings& settings, Given& given);
void read_config(const std::string& file, Settings& settings, Given& given);

// Every setting except `out` and `resume`, which belong to one run: the text can start another.
std::string config_text(const Settings& settings);
// Writes config_text to DIR/config.toml; throws Error when it cannot.
void write_config(const std::string& dir, const Settings& settings);

}  // namespace convoy
