// A convolution with Hopper's asynchronous work, right or with one mistake planted.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

namespace convoy::emulated {

enum class HopperBug {
  kNone,
  kNoFullWait,       // consumers do not wait for a stage's copies
  kReleasedEarly,    // a stage goes back to the producer while wgmma read it
  kFewBytes,         // the producer expects fewer bytes than it copies
  kManyBytes,        // or more
  kNoInitFence,      // the mbarriers' init is not fenced
  kNoInitBarrier,    // nor is there a barrier after it
  kNoInit,           // nor an init
  kWrongParity,      // the producer waits for the parity that its first round cannot see
  kConsumerParity,   // the consumers do not wait in their first round
  kOverwritten,      // a thread writes an operand of an unfinished wgmma
  kReadEarly,        // accumulators are read before wgmma_wait
  kNoWgmmaFence,     // registers go to wgmma without a wgmma_fence
  kNoProxyFence,     // results go to tma_store without a fence_proxy_async
  kNoStoreWait,      // the next results overwrite what tma_store reads
  kExitWithoutWait,  // the block exits while tma_store reads
  kMisaligned,       // a stage begins where the swizzle's pattern does not
  kExtraArrival,     // more arrivals than the mbarrier's count
};

// The same for one box and one product.
enum class HopperMistake {
  kNone,
  kLeftover,            // the block exits while an mbarrier expects bytes
  kNobodyWaits,         // the block exits while a copy is under way
  kBarrierOverwritten,  // an mbarrier is used as ordinary memory
  kTwoInits,            // an mbarrier is initialised again without mbarrier_inval
  kWrongRank,           // three coordinates for a map of rank 2
  kNotAMap,             // a map that the driver did not make
  kOutsideOfTensor,     // a map of more memory than there is
  kUnfencedOperand,     // an operand that threads wrote, without fence_proxy_async
  kUnwrittenOperand,    // an operand that nobody wrote
  kDescriptorStart,     // a descriptor that starts within the swizzle's pattern
  kDescriptorOutside,   // a descriptor of memory behind the array
  kWarpsDisagree,       // one warp multiplies something else
  kThreeWarps,          // one warp does not multiply
  kAccumulatorWritten,  // before wgmma_wait
  kNoWgmmaWait,         // the block exits
};
// y[64,64] = a[64,64] a transposed, f32; of the first 16 columns of a.
void square(HopperMistake mistake, const __nv_bfloat16* a, float* y);

struct Convolution {
  int images, height, width, channels;  // channels: a multiple of 64
  int filters, extent;                  // filters: a multiple of 8; extent: of the filter, in both directions
  int pad, stride, dilation;
  int out_height() const { return (height + 2 * pad - dilation * (extent - 1) - 1) / stride + 1; }
  int out_width() const { return (width + 2 * pad - dilation * (extent - 1) - 1) / stride + 1; }
};

// y[N,P,Q,K] = the convolution of x[N,H,W,C] by w[K,R,S,C], on two blocks that take tiles in turn: one producer warp,
// im2col copies, a ring of 3 stages, two warpgroups of wgmma, tma_store. `polling`: waits are loops of
// mbarrier_try_wait.
void convolve(HopperBug bug, bool polling, const Convolution& c, const __nv_bfloat16* x,
              const __nv_bfloat16* w, __nv_bfloat16* y);

}  // namespace convoy::emulated
