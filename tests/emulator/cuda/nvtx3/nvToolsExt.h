// The emulator's NVTX: nobody looks at the ranges, but they have to be balanced.
#pragma once
int& emulator_open_ranges();  // of this thread
inline int nvtxRangePushA(const char*) {
  return emulator_open_ranges()++;
}
inline int nvtxRangePop() {
  return --emulator_open_ranges();
}
