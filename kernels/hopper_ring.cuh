// The ring of stages that Hopper's kernels share: one thread fills stages by bulk copies, warpgroups multiply them.
// For sources named *hopper*.cu.
//
//   using R = Ring<4, kStageBytes, 2>;                                   4 stages, two warpgroups of consumers
//   __global__ void __launch_bounds__(R::kThreads, 1) kernel(...) {      launch_ring<R>(kernel, blocks, 0, stream, ...)
//     CONVOY_DYNAMIC_SHARED(unsigned char, memory);
//     CONVOY_SHARED(uint64_t, full, [R::kStages]);
//     CONVOY_SHARED(uint64_t, empty, [R::kStages]);
//     R ring(memory, full, empty);
//     ring.start();
//     if (R::producer()) {          // the last warpgroup
//       if (!ring.elect_producer()) return;
//       for (every step of every tile of the block) {
//         unsigned char* stage = ring.fill();
//         tma_load(stage, map, ring.landed(), ...);                      copies of kStageBytes in all
//         ring.next();
//       }
//     } else {                      // warpgroup R::group()
//       ring.become_consumer();
//       for (every tile) {
//         ring.consume(steps, [&](unsigned char* stage, int step) { wgmma<...>(d, ..., step > 0); });
//         wgmma_hold(d);
//         ...                       // its epilogue, while the next tile's stages are filled
//       }
//     }
//
// Both roles go through the same stages in the same order, over all tiles of the block. The consumers may use named
// barriers (barrier_sync) among themselves, and no __syncthreads after start().
#pragma once
#include "kernels/cuda.h"
#include "kernels/hopper.cuh"
#include "kernels/launch.cuh"

namespace convoy {

template <int kStages_, int kStageBytes_, int kConsumers_>
class Ring {
 public:
  static constexpr int kStages = kStages_, kStageBytes = kStageBytes_, kConsumers = kConsumers_;
  static constexpr int kThreads = 128 * (kConsumers + 1);
  // What the ring takes of the dynamic shared memory: its stages lie where the swizzle of 128 bytes begins.
  static constexpr int kAlignment = 1024;
  static constexpr int kBytes = kStages * kStageBytes + kAlignment;
  // Registers are moved from the producer to the consumers: 512 for four threads, one of each warp of a scheduler.
  static constexpr int kProducerRegisters = kConsumers == 2 ? 40 : 32;
  static constexpr int kConsumerRegisters = kConsumers == 2 ? 232 : 160;
  static_assert(kStages >= 2 && kStageBytes % kAlignment == 0, "boxes begin where the swizzle does");
  static_assert(kBytes + 16 * kStages <= 227 << 10, "what a block has");
  static_assert(kConsumers >= 1 && kConsumers <= 3, "at most 512 threads");

  __device__ Ring(unsigned char* memory, uint64_t* full, uint64_t* empty)
      : stages_(memory + (kAlignment - reinterpret_cast<uintptr_t>(memory) % kAlignment) % kAlignment),
        full_(full),
        empty_(empty) {}

  // All threads of the block, before anything else.
  __device__ void start() {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kStages; ++i) {
        mbarrier_init(&full_[i], 1);
        mbarrier_init(&empty_[i], 4 * kConsumers);  // one warp each
      }
      fence_mbarrier_init();
    }
    __syncthreads();
  }
  // What follows the stages in shared memory, 1024-byte aligned.
  __device__ unsigned char* after() const { return stages_ + kStages * kStageBytes; }

  __device__ static int group() { return __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128, 0); }
  __device__ static bool producer() { return group() == kConsumers; }
  // All threads of the producer's warpgroup: true in the one that fills the stages.
  __device__ static bool elect_producer() {
    if (kConsumers > 1) registers_fewer<kProducerRegisters>();
    return threadIdx.x / 32 % 4 == 0 && elect_one();
  }
  __device__ static void become_consumer() {
    if (kConsumers > 1) registers_more<kConsumerRegisters>();
  }

  __device__ void next() {
    if (++stage_ < kStages) return;
    stage_ = 0;
    parity_ ^= 1;
  }

  // Producer: the stage, once its consumers have left it. Copies of `bytes` in all shall arrive at landed().
  __device__ unsigned char* fill(uint32_t bytes = kStageBytes) {
    mbarrier_wait(&empty_[stage_], parity_ ^ 1);
    mbarrier_arrive_expect(&full_[stage_], bytes);
    return stages_ + stage_ * kStageBytes;
  }
  __device__ uint64_t* landed() const { return &full_[stage_]; }

  // Consumers, all threads of a warpgroup: the stage, once its copies have landed.
  __device__ unsigned char* wait() {
    mbarrier_wait(&full_[stage_], parity_);
    return stages_ + stage_ * kStageBytes;
  }
  // The stage before this one is free: this warp has used what it needs.
  __device__ void release_before() {
    if (threadIdx.x % 32 == 0) mbarrier_arrive(&empty_[stage_ == 0 ? kStages - 1 : stage_ - 1]);
  }
  // The next stages: body(stage, step) queues each one's wgmma. Those of one stage are left in flight while the next is
  // waited for; all are complete at the end.
  template <class Body>
  __device__ void consume(int steps, const Body& body) {
    for (int step = 0; step < steps; ++step) {
      unsigned char* const stage = wait();
      wgmma_fence();
      body(stage, step);
      wgmma_commit();
      wgmma_wait<1>();
      if (step > 0) release_before();
      next();
    }
    wgmma_wait<0>();
    if (steps > 0) release_before();
  }

 private:
  unsigned char* stages_;
  uint64_t *full_, *empty_;
  int stage_ = 0;
  uint32_t parity_ = 0;
};

// Launches a kernel of the ring with `more` bytes of shared memory after its stages.
template <class R, class Kernel, class... Arguments>
void launch_ring(Kernel kernel, int64_t blocks, int more, cudaStream_t stream,
                 const Arguments&... arguments) {
  const int bytes = R::kBytes + more;
  CONVOY_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  CONVOY_LAUNCH(kernel, dim3(static_cast<unsigned>(blocks)), dim3(R::kThreads), static_cast<size_t>(bytes),
                stream, arguments...);
  CONVOY_CUDA(cudaGetLastError());
}

}  // namespace convoy
