#include "kernels/each.cuh"
#include "kernels/reduce.cuh"
#include "kernels/sgd.h"

namespace convoy::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kPack = kVectorBytes / sizeof(float);

// What every gradient sum is multiplied by: the mean over the rows, clipped to the norm.
__device__ float gradient_factor(const StepScalars& s, float clip_norm, const float* sum_of_squares) {
  if (sum_of_squares == nullptr) return s.gradient_scale;
  const double norm = s.gradient_scale * sqrt(static_cast<double>(*sum_of_squares));
  const double clip = clip_norm / (norm + 1e-6);
  return clip >= 1 ? s.gradient_scale : static_cast<float>(s.gradient_scale * clip);
}

// A rule is what the step's scalars make of its settings (constants(), by one thread of a block), and the update of
// one weight, its gradient and its state.
template <int kMoments>
struct SgdRule {
  static constexpr int kStates = kMoments;
  const StepScalars* scalars;
  const float* sum_of_squares;
  float clip_norm, momentum, decay;
  bool nesterov;
  struct Constants {
    float factor, lr;
  };
  __device__ Constants constants() const {
    return {gradient_factor(*scalars, clip_norm, sum_of_squares), scalars->lr};
  }
  template <int kCount>
  __device__ void update(const Constants& c, float& w, float g, float (&states)[kCount]) const {
    const float grad = g * c.factor + decay * w;
    if constexpr (kMoments == 0) {
      w -= c.lr * grad;
    } else {
      const float velocity = momentum * states[0] + grad;
      states[0] = velocity;
      w -= c.lr * (nesterov ? grad + momentum * velocity : velocity);
    }
  }
};

struct AdamwRule {
  static constexpr int kStates = 2;
  const StepScalars* scalars;
  const float* sum_of_squares;
  float clip_norm, beta1, beta2, eps, decay;
  struct Constants {
    float factor, step, root, keep, c1, c2;
  };
  __device__ Constants constants() const {
    const double t = static_cast<double>(scalars->update + 1), lr = scalars->lr, b1 = beta1, b2 = beta2;
    // The bias corrections in double: 1 - b2^t loses digits in float.
    return {gradient_factor(*scalars, clip_norm, sum_of_squares),
            static_cast<float>(lr / (1 - pow(b1, t))),
            static_cast<float>(1 / sqrt(1 - pow(b2, t))),
            static_cast<float>(1 - lr * decay),
            static_cast<float>(1 - b1),
            static_cast<float>(1 - b2)};
  }
  template <int kCount>
  __device__ void update(const Constants& c, float& w, float g, float (&states)[kCount]) const {
    const float grad = g * c.factor;
    const float m = beta1 * states[0] + c.c1 * grad, v = beta2 * states[1] + c.c2 * grad * grad;
    states[0] = m;
    states[1] = v;
    w = c.keep * w - c.step * m / (sqrtf(v) * c.root + eps);
  }
};

template <class Low>
struct Arena {
  int64_t count, packs;  // packs of kPack elements, then what is left over
  float* w;
  const float* g;
  float* states[2];
  Low* low;  // or null
  const int32_t* skip;
};

template <int kCount, class Rule, class Low>
__device__ __forceinline__ void update(const Rule& rule, const typename Rule::Constants& c,
                                       const Arena<Low>& a, int64_t i) {
  Pack<float, kCount> w = load<kCount>(a.w + i), states[2];
  const Pack<float, kCount> g = load<kCount>(a.g + i);
  for (int s = 0; s < Rule::kStates; ++s) states[s] = load<kCount>(a.states[s] + i);
  for (int j = 0; j < kCount; ++j) {
    float own[2] = {};
    for (int s = 0; s < Rule::kStates; ++s) own[s] = states[s].v[j];
    rule.update(c, w.v[j], g.v[j], own);
    for (int s = 0; s < Rule::kStates; ++s) states[s].v[j] = own[s];
  }
  store(a.w + i, w);
  for (int s = 0; s < Rule::kStates; ++s) store(a.states[s] + i, states[s]);
  if (a.low != nullptr) store_floats(a.low + i, w.v);
}

template <class Rule, class Low>
__global__ void __launch_bounds__(kThreads) update_kernel(Rule rule, Arena<Low> a) {
  if (a.skip != nullptr && *a.skip != 0) return;
  CONVOY_SHARED(typename Rule::Constants, shared, [1]);
  if (threadIdx.x == 0) shared[0] = rule.constants();
  __syncthreads();
  const typename Rule::Constants c = shared[0];
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x, step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = first; i < a.packs; i += step) update<kPack>(rule, c, a, i * kPack);
  for (int64_t i = a.packs * kPack + first; i < a.count; i += step) update<1>(rule, c, a, i);
}

template <class Rule, class Low>
void launch(Exec& ex, const Rule& rule, Arena<Low> a, const Out& low) {
  if (a.count == 0) return;
  a.low = low.empty() ? nullptr : operand<Low>(low, Shape{a.count}, "low");
  const bool whole = aligned(kVectorBytes, a.w, a.g, a.states[0], a.states[1]) &&
                     aligned(kPack * static_cast<int64_t>(sizeof(Low)), a.low);
  a.packs = whole ? a.count / kPack : 0;
  // The constants are computed by every block: no more of them than the device runs at a time.
  const int64_t items = a.packs + a.count - a.packs * kPack, blocks = (items + kThreads - 1) / kThreads,
                most = 8 * int64_t{queue(ex).multiprocessors};
  const dim3 grid(static_cast<unsigned>(blocks < most ? blocks : most));
  CONVOY_LAUNCH((update_kernel<Rule, Low>), grid, dim3(kThreads), 0, stream(ex), rule, a);
  CONVOY_CUDA(cudaGetLastError());
}

// The operands that all optimizers have, checked; w is seen as one row of all elements.
template <class Rule, class Args>
void run_rule(Exec& ex, const Rule& rule, const Args& a, const Out* states, const char* const* names) {
  Arena<float> arena{};
  arena.count = a.w.count();
  arena.w = operand<float>(a.w, a.w.shape, "w");
  arena.g = operand<float>(a.g, a.w.shape, "g");
  for (int s = 0; s < Rule::kStates; ++s) arena.states[s] = operand<float>(states[s], a.w.shape, names[s]);
  if (!a.skip.empty()) arena.skip = operand<int32_t>(a.skip, Shape{1}, "skip");
  if (a.low.empty()) {
    launch(ex, rule, arena, a.low);
    return;
  }
  CONVOY_CHECK(a.low.shape == a.w.shape, "low is ", a.low.shape, ", expected ", a.w.shape);
  const Out low = a.low.reshaped(Shape{arena.count});
  with_float(low.dtype, [&](auto zero) {
    using Low = decltype(zero);
    launch(
        ex, rule,
        Arena<Low>{arena.count, 0, arena.w, arena.g, {arena.states[0], arena.states[1]}, nullptr, arena.skip},
        low);
  });
}

const float* squares_of(const In& view) {
  return view.empty() ? nullptr : operand<float>(view, Shape{1}, "sum_of_squares");
}

}  // namespace

void sgd_update(Exec& ex, const SgdUpdate& a) {
  CONVOY_CHECK(a.scalars != nullptr, "no scalars");
  const float* squares = squares_of(a.sum_of_squares);
  static const char* const kNames[] = {"velocity"};
  if (!a.velocity.empty()) {
    run_rule(ex, SgdRule<1>{a.scalars, squares, a.clip_norm, a.momentum, a.weight_decay, a.nesterov}, a,
             &a.velocity, kNames);
    return;
  }
  CONVOY_CHECK(a.momentum == 0, "momentum ", a.momentum, " without a velocity");
  run_rule(ex, SgdRule<0>{a.scalars, squares, a.clip_norm, 0, a.weight_decay, false}, a, &a.velocity, kNames);
}

void adamw_update(Exec& ex, const AdamwUpdate& a) {
  CONVOY_CHECK(a.scalars != nullptr, "no scalars");
  static const char* const kNames[] = {"m", "v"};
  const Out states[] = {a.m, a.v};
  run_rule(ex,
           AdamwRule{a.scalars, squares_of(a.sum_of_squares), a.clip_norm, a.beta1, a.beta2, a.eps,
                     a.weight_decay},
           a, states, kNames);
}

namespace {

constexpr int64_t kSumChunk = 8192;  // elements of a block

__global__ void __launch_bounds__(kThreads)
    squares_kernel(const float* x, int64_t count, bool vectorised, double* partial) {
  const int64_t first = int64_t{blockIdx.x} * kSumChunk, end = first + kSumChunk,
                last = end < count ? end : count;
  double sum = 0;
  // The same thread takes the same elements with and without vectors.
  for (int64_t i = first + threadIdx.x * kPack; i < last; i += kThreads * kPack) {
    Pack<float, kPack> v = {};
    if (vectorised && i + kPack <= last) {
      v = load<kPack>(x + i);
    } else {
      for (int j = 0; j < kPack && i + j < last; ++j) v.v[j] = x[i + j];
    }
    for (int j = 0; j < kPack; ++j) sum += static_cast<double>(v.v[j]) * v.v[j];
  }
  sum = block_sum<kThreads>(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(1024)
    squares_total_kernel(const double* partial, int64_t chunks, float* out) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < chunks; i += 1024) sum += partial[i];
  sum = block_sum<1024>(sum);
  if (threadIdx.x == 0) *out = static_cast<float>(sum);
}

int64_t chunks_of(int64_t count) {
  return (count + kSumChunk - 1) / kSumChunk;
}

}  // namespace

Support query(const SumOfSquares& a) {
  return {true, chunks_of(a.x.count()) * static_cast<int64_t>(sizeof(double))};
}

void sum_of_squares(Exec& ex, const SumOfSquares& a) {
  const float* x = operand<float>(a.x, a.x.shape, "x");
  float* out = operand<float>(a.out, Shape{1}, "out");
  const int64_t count = a.x.count(), chunks = chunks_of(count);
  double* partial = scratch<double>(ex, chunks);
  if (chunks > 0) {
    CONVOY_LAUNCH(squares_kernel, dim3(static_cast<unsigned>(chunks)), dim3(kThreads), 0, stream(ex), x,
                  count, aligned(kVectorBytes, x), partial);
    CONVOY_CUDA(cudaGetLastError());
  }
  CONVOY_LAUNCH(squares_total_kernel, dim3(1), dim3(1024), 0, stream(ex), partial, chunks, out);
  CONVOY_CUDA(cudaGetLastError());
}

}  // namespace convoy::cuda
