// What the communicators' sources share about blocks of rows (comm.h).
#pragma once
#include "convoy/comm.h"

namespace convoy {

// Rows of all ranks before this one.
inline int64_t rows_before(const Blocks& blocks, int rank) {
  int64_t rows = 0;
  for (int r = 0; r < rank; ++r) rows += blocks[static_cast<size_t>(r)];
  return rows;
}

}  // namespace convoy
