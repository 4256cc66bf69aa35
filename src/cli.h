// The command line: parses, checks, starts the command. Throws InputError for bad usage; prints --help and
// --version itself.
#pragma once

namespace convoy {

int run_command_line(int argc, char** argv);  // the program's exit status

}  // namespace convoy
