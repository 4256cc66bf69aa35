#include "kernels/add.h"

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {

void add(Exec& ex, const AddArgs& args) {
  const float* a = input(args.a, args.a.shape, "a");
  const float* b = input(args.b, args.a.shape, "b");
  float* y = output(args.y, args.a.shape, "y");
  if (args.relu) {
    map(ex, args.a.count(), y, a, b, [](float u, float v) { return u + v < 0 ? 0.0f : u + v; });
  } else {
    map(ex, args.a.count(), y, a, b, [](float u, float v) { return u + v; });
  }
}

}  // namespace convoy::CONVOY_CPU
