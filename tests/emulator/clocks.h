// The order of threads as vector clocks, as in FastTrack (Flanagan and Freund, PLDI 2009): an access has a
// time of its thread, and is ordered before what thread t does when t knows of that time through barriers.
//
// A barrier of the whole block starts a new epoch, in which everybody knows everything before: the usual
// kernel never pays for a vector.
#pragma once
#include <cstdint>

namespace emulator {

extern uint32_t clocks_epoch;
uint32_t clocks_time(unsigned thread);  // its own, in this epoch
bool clocks_known(unsigned thread, unsigned of,
                  uint32_t time);  // whether `thread` knows of that time, in this epoch

void clocks_begin_block(unsigned threads);
void clocks_block_barrier();                      // every thread of the block met
void clocks_release(int group, unsigned thread);  // what the thread did so far becomes known to the group
void clocks_acquire(int group, unsigned thread);  // and what the group knows to the thread
void clocks_forget(int group);

// Groups: one a named barrier, then one a warp.
constexpr int kBarriers = 16;
constexpr int kWarpGroup = kBarriers;

}  // namespace emulator
