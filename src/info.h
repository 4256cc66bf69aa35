// What `convoy info` prints: this build, this machine, and which kernels they give together.
#pragma once
#include <iosfwd>

namespace convoy {

void print_info(std::ostream& out);

}  // namespace convoy
