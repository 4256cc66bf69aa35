#include "kernels/each.cuh"
#include "kernels/relu.h"

namespace convoy::cuda {
namespace {

template <class T>
void forward(Exec& ex, const ReluForward& a) {
  const T* x = operand<T>(a.x, a.x.shape, "x");
  T* y = operand<T>(a.y, a.x.shape, "y");
  each(ex, a.x.count(), [=] __device__(int64_t i) {
    const float v = x[i];
    y[i] = v < 0 ? T(0.0f) : x[i];
  });
}

template <class T>
void backward(Exec& ex, const ReluBackward& a) {
  const T* y = operand<T>(a.y, a.y.shape, "y");
  const T* dy = operand<T>(a.dy, a.y.shape, "dy");
  T* dx = operand<T>(a.dx, a.y.shape, "dx");
  each(ex, a.y.count(), [=] __device__(int64_t i) {
    const float v = y[i];
    dx[i] = v <= 0 ? T(0.0f) : dy[i];
  });
}

}  // namespace

void relu_forward(Exec& ex, const ReluForward& a) {
  with_float(a.x.dtype, [&](auto zero) { forward<decltype(zero)>(ex, a); });
}

void relu_backward(Exec& ex, const ReluBackward& a) {
  with_float(a.y.dtype, [&](auto zero) { backward<decltype(zero)>(ex, a); });
}

}  // namespace convoy::cuda
