// What an operation does with its result before it is stored.
#pragma once
#include "convoy/tensor.h"

namespace convoy {

struct Epilogue {
  In bias;            // [K], added per channel; or empty
  bool relu = false;  // y = max(y, 0), NaN stays
};

}  // namespace convoy
