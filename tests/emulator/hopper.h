// Hopper's asynchronous work as the device's threads see it: what the twins of kernels/hopper.cuh call. `code`
// is where the kernel does.
//
// A bulk copy lands at once or, with Options::late, when some thread waits for it and nobody else can go on; the
// same holds for what a wgmma reads of shared memory. Until somebody has waited nobody may touch what they use,
// in either mode. Checks, beyond those of emulator.h:
//   mbarriers     used before their init, or before it was published (a barrier, and for bulk copies a fence);
//                 overwritten; more arrivals than their count; more bytes than were expected, or fewer: a wait
//                 that never ends, or a block that exits with bytes outstanding or with a copy that nobody
//                 waited for
//   bulk copies   misaligned; a map of the wrong kind, or not the driver's; boxes that miss the tensor where
//                 only padding may; data that is not written, or not fenced for the asynchronous proxy; threads
//                 that exit before their stores have read shared memory
//   wgmma         the same of operands; descriptors that mean nothing; warps of a group that disagree; no
//                 wgmma_fence before registers are used; accumulators touched before the wait (NaN until then);
//                 threads that exit without waiting
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulator {

// mbarrier.cpp
void mbarrier_init(void* barrier, uint32_t count, const void* code);
void mbarrier_inval(void* barrier, const void* code);
void mbarrier_arrive(void* barrier, uint32_t expected_bytes, const void* code);
bool mbarrier_try_wait(void* barrier, uint32_t parity, const void* code);
void mbarrier_wait(void* barrier, uint32_t parity, const void* code);
void fence_mbarrier_init();
void fence_proxy_async();

// bulk.cpp. Coordinates are innermost first; offsets (w, h) make the load an im2col one.
struct BulkBox {
  int rank;
  int at[5];
  bool im2col;
  int offsets[2];
};
void bulk_load(void* to, const void* map, void* barrier, const BulkBox& box, const void* code);
void bulk_store(const void* map, const void* from, const BulkBox& box, bool add, const void* code);
void bulk_commit();
void bulk_wait(unsigned groups_left);
void tensor_map_check(const void* map, const void* code);

// wgmma.cpp. d += a · b, or d = a · b without keep; the lanes of a warp call it together.
struct Wgmma {
  int n;
  bool bf16;  // else f16
  bool a_in_registers, a_mn_major, b_mn_major;
  bool keep;
  uint64_t a, b;  // descriptors
  uint32_t r[4];  // a's registers
  float* d;
};
void wgmma(const Wgmma& call, const void* code);
void wgmma_fence();
void wgmma_commit();
void wgmma_wait(unsigned groups_left, const void* code);
uint32_t shared_address_of(const void* address, const void* code);

unsigned elected_lane(const void* code);  // the same for every call of a launch

}  // namespace emulator
