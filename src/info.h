// What `convoy info` prints: this build, this machine, and which kernels they give together.
#pragma once
#include <iosfwd>
#include <string>

namespace convoy {

void print_info(std::ostream& out);

// "AMD EPYC 7763 64-Core Processor", or "unknown".
std::string processor_name();

}  // namespace convoy
