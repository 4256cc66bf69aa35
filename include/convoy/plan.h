// How the work of a step is divided: a pure function of the net and the batch. lower() carries it out.
#pragma once
#include <cstdint>

#include "convoy/net.h"

namespace convoy {

struct Plan {
  int64_t batch = 0;  // rows of the global batch
  int64_t rows = 0;   // of them here, at most: buffers are sized for these
};

// One worker holds every row and every output. Throws InputError when a buffer of the net would pass 2^62
// bytes.
Plan make_plan(const Net& net, int64_t batch);

}  // namespace convoy
