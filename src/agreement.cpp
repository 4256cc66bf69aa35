// Whether all workers were started alike.
#include <algorithm>
#include <cstring>

#include "workers.h"

namespace convoy {
namespace {

constexpr uint64_t kSeed = 0xcbf29ce484222325u;  // FNV-1a

uint64_t hash_of(const std::string& bytes) {
  uint64_t hash = kSeed;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
  return hash;
}

// Each text behind its length.
std::string packed(const Facts& facts) {
  std::string all;
  for (const auto& [name, value] : facts)
    for (const std::string& one : {name, value}) {
      const int64_t bytes = static_cast<int64_t>(one.size());
      all.append(reinterpret_cast<const char*>(&bytes), sizeof(bytes));
      all += one;
    }
  return all;
}

Facts unpacked(const char* from, const char* end) {
  const auto next = [&] {
    int64_t bytes = 0;
    std::memcpy(&bytes, from, sizeof(bytes));
    std::string one(from + sizeof(bytes), static_cast<size_t>(bytes));
    from += sizeof(bytes) + one.size();
    return one;
  };
  Facts facts;
  while (from < end) {
    std::string name = next();
    facts.emplace_back(std::move(name), next());
  }
  return facts;
}

// Every rank's bytes, one behind the other, and where each begins; the end at [world].
std::vector<uint8_t> all_bytes(Team& team, const void* mine, int64_t bytes, Blocks& blocks) {
  int64_t total = 0;
  for (const int64_t block : blocks) total += block;
  std::vector<uint8_t> all(static_cast<size_t>(std::max<int64_t>(total, 1)));
  Communicator& group = team.host_group != nullptr ? *team.host_group : *team.transfer;
  Exec& queue = team.host_exec(team.queue);
  group.all_gather(queue, {Traffic::kOther, "agreement"}, In(static_cast<const uint8_t*>(mine), {bytes}),
                   View(all.data(), {total}), blocks);
  queue.backend->synchronize(queue);
  return all;
}

// The line of `value` that differs from the other's, as a part of one line of text.
std::string shown(const std::string& value, const std::string& other) {
  const auto differ = std::mismatch(value.begin(), value.end(), other.begin(), other.end()).first;
  const auto at = static_cast<size_t>(differ - value.begin());
  const size_t before = at == 0 ? std::string::npos : value.rfind('\n', at - 1);
  const size_t first = before == std::string::npos ? 0 : before + 1;
  const size_t end = std::min(value.find('\n', at), value.size());
  constexpr size_t kMost = 120;
  const std::string line = "'" + value.substr(first, std::min(end - first, kMost)) + "'";
  return end - first > kMost                                     ? line + "..."
         : at == end && at == other.size() && end < value.size() ? line + " and more lines"
                                                                 : line;
}

[[noreturn]] void refuse(const Facts& zero, const Facts& theirs, int rank) {
  for (size_t i = 0; i < std::max(zero.size(), theirs.size()); ++i) {
    const bool one_ends = i >= zero.size() || i >= theirs.size();
    if (one_ends || zero[i].first != theirs[i].first) {
      const auto name = [&](const Facts& facts) {
        return i < facts.size() ? "'" + facts[i].first + "'" : std::string("nothing");
      };
      input_error("the workers are of different programs: rank 0 compares ", name(zero), " where rank ", rank,
                  " compares ", name(theirs), "; start the same build on every machine");
    }
    if (zero[i].second != theirs[i].second)
      input_error("the workers must agree on ", zero[i].first, ": rank 0 has ",
                  shown(zero[i].second, theirs[i].second), ", rank ", rank, " has ",
                  shown(theirs[i].second, zero[i].second));
  }
  throw Error("facts with different hashes do not differ");
}

}  // namespace

void check_agreement(Team& team, const Facts& facts) {
  if (team.world() == 1) return;
  const auto world = static_cast<size_t>(team.world());
  const std::string mine = packed(facts);
  // Hashes and lengths first: texts travel only where something differs.
  const uint64_t header[2] = {hash_of(mine), mine.size()};
  Blocks blocks(world, sizeof(header));
  const std::vector<uint8_t> headers = all_bytes(team, header, sizeof(header), blocks);
  bool equal = true;
  for (size_t r = 0; r < world; ++r) {
    uint64_t theirs[2];
    std::memcpy(theirs, headers.data() + r * sizeof(header), sizeof(header));
    equal = equal && std::memcmp(theirs, headers.data(), sizeof(header)) == 0;
    blocks[r] = static_cast<int64_t>(theirs[1]);
  }
  if (equal) return;
  const std::vector<uint8_t> texts = all_bytes(team, mine.data(), static_cast<int64_t>(mine.size()), blocks);
  const char* at = reinterpret_cast<const char*>(texts.data());
  Facts zero;
  for (size_t r = 0; r < world; ++r) {
    const char* end = at + blocks[r];
    const Facts theirs = unpacked(at, end);
    if (r == 0) zero = theirs;
    if (theirs != zero) refuse(zero, theirs, static_cast<int>(r));
    at = end;
  }
  throw Error("texts with different hashes do not differ");
}

}  // namespace convoy
