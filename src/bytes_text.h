#pragma once
#include <cstdint>
#include <string>

namespace convoy {

// "512 B", "4.1 MiB": four digits at most before the unit.
std::string bytes_text(int64_t bytes);

}  // namespace convoy
