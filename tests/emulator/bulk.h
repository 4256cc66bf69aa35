// Bulk copies between bulk.cpp, which makes them, and mbarrier.cpp, which lands loads.
#pragma once
#include "hopper.h"
#include "tensor_map.h"

namespace emulator {

struct BulkLoad {
  TensorMap map;
  BulkBox box;
  void* to;
  size_t bytes;
  uint32_t time;  // of its mbarrier's slot
  const void* code;
};
void bulk_move(const BulkLoad& load);
void bulk_begin_block();
void bulk_leave();

// Adds a load to the mbarrier's phase; gives it its slot and time, and lands it unless it is to be late.
struct Async;
Async mbarrier_claim(void* barrier, const void* code);
void mbarrier_copy(void* barrier, const BulkLoad& load);
bool wgmma_land(unsigned warpgroup);
void wgmma_begin_block();
void wgmma_leave();

}  // namespace emulator
