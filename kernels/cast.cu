#include "kernels/cast.h"
#include "kernels/each.cuh"

namespace convoy::cuda {
namespace {

struct Same {
  __device__ float operator()(float x) const { return x; }
};

}  // namespace

void cast(Exec& ex, const CastArgs& a) {
  with_float(a.x.dtype, [&](auto from) {
    using X = decltype(from);
    with_float(a.y.dtype, [&](auto to) {
      using Y = decltype(to);
      map(ex, a.x.count(), operand<Y>(a.y, a.x.shape, "y"), Same(), operand<X>(a.x, a.x.shape, "x"));
    });
  });
}

}  // namespace convoy::cuda
