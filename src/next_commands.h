// What a run offers to do next: commands that can be copied into the shell that started it.
#pragma once
#include <string>
#include <vector>

#include "settings.h"

namespace convoy {

// How the program was called ("build-cpu/convoy"), and a word of a command, quoted where a POSIX shell needs
// it.
std::string program_word();
std::string shell_word(const std::string& word);

// Three commands after a run that left its files in `dir`.
std::vector<std::string> next_commands(const Settings& settings, const std::string& dir);

// The one that goes on with a run that was stopped.
std::string resume_command(const std::string& dir);

}  // namespace convoy
