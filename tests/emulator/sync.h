// Where CUDA threads meet: barriers of the block and collectives of the warp.
#pragma once
#include <cstdint>

#include "place.h"

namespace emulator {

// Barrier `id` of `threads` threads (0: the whole block). Returns the sum of `value` over the threads.
int barrier(int id, unsigned threads, int value, const char* name, Place place);
// Counts towards the barrier without waiting for it (bar.arrive).
void barrier_arrive(int id, unsigned threads, Place place);
void warp_barrier(uint32_t mask, Place place);

uint32_t live_lanes();  // of this warp: those that have not exited

// The current thread exits: faults when lanes of its warp wait for it.
void leave_warp();

// The lanes in `mask` meet; the last one calls function(context, in, out, mask) for all of them, unchecked.
using Collective = void (*)(void* context, const void* const* in, void* const* out, uint32_t mask);
void meet(uint32_t mask, const char* name, Place place, const void* in, void* out, Collective function,
          void* context);

// The same, typed: every lane gives an In and gets an Out. compute(const In* const* in, Out* const* out,
// mask), both indexed by lane; what is not in the mask is null.
template <class Out, class In, class Compute>
Out warp_exchange(uint32_t mask, const char* name, Place place, const In& in, Compute compute) {
  Out out{};
  meet(
      mask, name, place, &in, &out,
      [](void* context, const void* const* ins, void* const* outs, uint32_t lanes) {
        const In* typed_in[32];
        Out* typed_out[32];
        for (int i = 0; i < 32; ++i) {
          typed_in[i] = static_cast<const In*>(ins[i]);
          typed_out[i] = static_cast<Out*>(outs[i]);
        }
        (*static_cast<Compute*>(context))(typed_in, typed_out, lanes);
      },
      &compute);
  return out;
}

}  // namespace emulator
