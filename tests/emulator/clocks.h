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
// Whether `thread` knows of that time of a thread or slot, in this epoch.
bool clocks_known(unsigned thread, unsigned of, uint32_t time);

void clocks_begin_block(unsigned threads);
void clocks_block_barrier();                      // every thread of the block met
void clocks_release(int group, unsigned thread);  // what the thread did so far becomes known to the group
void clocks_acquire(int group, unsigned thread);  // and what the group knows to the thread
void clocks_forget(int group);

// Asynchronous work has times too, in slots after the threads': the products of a warpgroup count up, and what
// bulk copies wrote for an mbarrier has the number of its phase. Threads know of it when they have waited.
constexpr unsigned kWarpgroups = 8;
constexpr unsigned kMaxMbarriers = 128;
constexpr unsigned kWarpgroupSlot = 1024;
constexpr unsigned kMbarrierSlot = kWarpgroupSlot + kWarpgroups;
constexpr unsigned kSlots = kWarpgroups + kMaxMbarriers;
void clocks_use_slots();  // until the end of the block; without, nobody pays for them
void clocks_learn(unsigned thread, unsigned slot, uint32_t time);
void clocks_publish(int group, unsigned slot, uint32_t time);  // the group learns it
void clocks_replace(int group, int by);                        // what the group knows is what `by` knows

// Groups: one a named barrier, one a warp, two an mbarrier (of the phase that runs, of what is complete).
constexpr int kBarriers = 16;
constexpr int kWarpGroup = kBarriers;
constexpr int kMbarrierGroup = kWarpGroup + 32;

}  // namespace emulator
