// Philox 4x32-10, a counter-based random generator: a number depends on its key and counter only, so any
// worker can make any part of a stream. (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1,
// 2, 3", SC 2011.)
//
// Keys used in Convoy: key = the run's seed; counter = {element / 4, row, step or epoch, stream}, where the
// stream separates the uses (Stream) and, for dropout, the layers.
#pragma once
#include <cstdint>

namespace convoy {

struct Philox4 {
  uint32_t v[4];
};

constexpr Philox4 philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3) {
  uint32_t k0 = static_cast<uint32_t>(key);
  uint32_t k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return Philox4{{c0, c1, c2, c3}};
}

enum Stream : uint32_t {
  kInitStream = 0x01000000u,  // + tensor
  kShuffleStream = 0x02000000u,
  kAugmentStream = 0x03000000u,
  kShapesStream = 0x04000000u,   // the generated data sets
  kDropoutStream = 0x05000000u,  // + layer
};

// The top 24 bits as a float in [0, 1): exact.
constexpr float uniform_float(uint32_t bits) {
  return static_cast<float>(bits >> 8) * (1.0f / 16777216.0f);
}

}  // namespace convoy
