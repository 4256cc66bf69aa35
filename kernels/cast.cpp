#include "kernels/cast.h"

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {

void cast(Exec& ex, const CastArgs& a) {
  const float* x = input(a.x, a.x.shape, "x");
  map(ex, a.x.count(), output(a.y, a.x.shape, "y"), x, [](float v) { return v; });
}

}  // namespace convoy::CONVOY_CPU
