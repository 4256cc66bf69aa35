// cp.async as the device's threads see it, and reads and writes of shared memory by collectives.
#pragma once
#include <cstddef>

namespace emulator {

// Copies source_bytes from device to shared memory, the rest of `bytes` (4, 8, 16) is zero. It lands at once
// or, late, when its group is waited for; until then nobody may touch it.
void async_copy(void* to, const void* from, unsigned bytes, unsigned source_bytes, const void* code);
void async_commit();
void async_wait(unsigned groups_left);  // the thread's oldest groups, all but this many, have landed
void async_wait_all();                  // uncommitted copies too

// One aligned access to shared memory for the given lane of this warp, checked as if the lane's own code at
// `code` had made it.
void lane_read(unsigned lane, const void* from, size_t bytes, const void* code);
void lane_write(unsigned lane, void* to, size_t bytes, const void* code);

}  // namespace emulator
