#include "kernels/relu.h"

#include <cmath>

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {

void relu_forward(Exec& ex, const ReluForward& a) {
  const float* x = input(a.x, a.x.shape, "x");
  map(ex, a.x.count(), output(a.y, a.x.shape, "y"), x, [](float v) { return v < 0 ? 0.0f : v; });
}

void relu_backward(Exec& ex, const ReluBackward& a) {
  const float* y = input(a.y, a.y.shape, "y");
  const float* dy = input(a.dy, a.y.shape, "dy");
  map(ex, a.y.count(), output(a.dx, a.y.shape, "dx"), y, dy,
      [](float v, float d) { return v <= 0 ? 0.0f : d; });
}

void sigmoid_forward(Exec& ex, const SigmoidForward& a) {
  const float* x = input(a.x, a.x.shape, "x");
  map_calls(ex, a.x.count(), output(a.y, a.x.shape, "y"), x,
            [](float v) { return 1.0f / (1.0f + expf(-v)); });
}

void sigmoid_backward(Exec& ex, const SigmoidBackward& a) {
  const float* y = input(a.y, a.y.shape, "y");
  const float* dy = input(a.dy, a.y.shape, "dy");
  map(ex, a.y.count(), output(a.dx, a.y.shape, "dx"), y, dy,
      [](float v, float d) { return d * v * (1.0f - v); });
}

void tanh_forward(Exec& ex, const TanhForward& a) {
  const float* x = input(a.x, a.x.shape, "x");
  map_calls(ex, a.x.count(), output(a.y, a.x.shape, "y"), x, [](float v) { return tanhf(v); });
}

void tanh_backward(Exec& ex, const TanhBackward& a) {
  const float* y = input(a.y, a.y.shape, "y");
  const float* dy = input(a.dy, a.y.shape, "dy");
  // (1 - y)(1 + y) instead of 1 - y²: no cancellation where y is near 1.
  map(ex, a.y.count(), output(a.dx, a.y.shape, "dx"), y, dy,
      [](float v, float d) { return d * ((1.0f - v) * (1.0f + v)); });
}

}  // namespace convoy::CONVOY_CPU
