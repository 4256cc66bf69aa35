#include "from_leader.h"

#include <cstring>

namespace convoy {

int64_t from_leader(Team& team, Exec& compute, int64_t value) {
  if (team.world() == 1) return value;
  Exec& exec = team.host_exec(compute);
  const View bytes(reinterpret_cast<std::byte*>(&value), DType::kU8, {sizeof value});
  team.host()->broadcast(exec, {Traffic::kOther, "tell"}, bytes, 0);
  exec.backend->synchronize(exec);
  return value;
}

std::string text_from_leader(Team& team, Exec& compute, const std::string& value) {
  if (team.world() == 1) return value;
  Exec& exec = team.host_exec(compute);
  std::string told = value;
  told.resize(static_cast<size_t>(from_leader(team, compute, static_cast<int64_t>(value.size()))));
  if (told.empty()) return told;
  const View bytes(reinterpret_cast<std::byte*>(told.data()), DType::kU8,
                   {static_cast<int64_t>(told.size())});
  team.host()->broadcast(exec, {Traffic::kOther, "tell"}, bytes, 0);
  exec.backend->synchronize(exec);
  return told;
}

}  // namespace convoy
