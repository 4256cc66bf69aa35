// What rank 0 decides, told to the others.
#pragma once
#include <string>

#include "convoy/comm.h"

namespace convoy {

int64_t from_leader(Team& team, Exec& exec, int64_t value);
std::string text_from_leader(Team& team, Exec& exec, const std::string& value);

}  // namespace convoy
