// The twins of hopper.cuh that are not a call of the emulator alone. `code` is where the kernel calls them.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#include "kernels/mma_twins.cuh"

namespace convoy::twin {

template <int kN>
void wgmma(float* d, uint64_t a_matrix, const uint32_t* a, uint64_t b_matrix, bool bf16, bool a_mn_major,
           bool b_mn_major, bool keep, const void* code) {
  emulator::Wgmma call{kN, bf16, a != nullptr, a_mn_major, b_mn_major, keep, a_matrix, b_matrix, {}, d};
  if (a) std::memcpy(call.r, a, sizeof call.r);
  emulator::wgmma(call, code);
}

// The device's choice is the same every time but not documented: here a lane drawn from the seed.
inline bool elect_one(const void* code) {
  struct Nothing {};
  return emulator::warp_exchange<bool>(~0u, "elect_one", place(code), Nothing{},
                                       [code](const Nothing* const*, bool* const* out, uint32_t lanes) {
                                         for (unsigned i = 0; i < 32; ++i) {
                                           if (lanes >> i & 1) *out[i] = i == emulator::elected_lane(code);
                                         }
                                       });
}

}  // namespace convoy::twin
