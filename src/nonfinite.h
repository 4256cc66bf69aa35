// Where a loss that is not finite comes from.
#pragma once
#include "convoy/train.h"

namespace convoy {

// Runs the forward pass once more, looking at every weight and every result, and throws NonfiniteError with what
// lies first in the net of what the workers find. Every worker calls it.
[[noreturn]] void name_nonfinite(Model& m, Exec& exec, const Step& step, int64_t step_number);

}  // namespace convoy
