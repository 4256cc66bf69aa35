#include "kernels/each.cuh"
#include "kernels/relu.h"

namespace convoy::cuda {
namespace {

struct Relu {
  __device__ float operator()(float x) const { return x < 0 ? 0.0f : x; }
};
struct ReluGradient {
  __device__ float operator()(float y, float dy) const { return y <= 0 ? 0.0f : dy; }
};
struct Sigmoid {
  __device__ float operator()(float x) const { return 1.0f / (1.0f + expf(-x)); }
};
struct SigmoidGradient {
  __device__ float operator()(float y, float dy) const { return dy * y * (1.0f - y); }
};
struct Tanh {
  __device__ float operator()(float x) const { return tanhf(x); }
};
// (1 - y)(1 + y) instead of 1 - y²: no cancellation where y is near 1.
struct TanhGradient {
  __device__ float operator()(float y, float dy) const { return dy * ((1.0f - y) * (1.0f + y)); }
};

template <class Args, class F>
void forward(Exec& ex, const Args& a, const F& f) {
  map_views(ex, a.x.shape, a.y, "y", f, Operand{a.x, "x"});
}
template <class Args, class F>
void backward(Exec& ex, const Args& a, const F& f) {
  map_views(ex, a.y.shape, a.dx, "dx", f, Operand{a.y, "y"}, Operand{a.dy, "dy"});
}

}  // namespace

void relu_forward(Exec& ex, const ReluForward& a) {
  forward(ex, a, Relu());
}
void relu_backward(Exec& ex, const ReluBackward& a) {
  backward(ex, a, ReluGradient());
}
void sigmoid_forward(Exec& ex, const SigmoidForward& a) {
  forward(ex, a, Sigmoid());
}
void sigmoid_backward(Exec& ex, const SigmoidBackward& a) {
  backward(ex, a, SigmoidGradient());
}
void tanh_forward(Exec& ex, const TanhForward& a) {
  forward(ex, a, Tanh());
}
void tanh_backward(Exec& ex, const TanhBackward& a) {
  backward(ex, a, TanhGradient());
}

}  // namespace convoy::cuda
