// Hopper's instructions (sm_90a) as named functions, beside those of mma.cuh (named barriers, stmatrix), and their
// twins for the emulator: mbarriers, bulk copies and roles of warps here, wgmma in hopper_wgmma.cuh, which this
// includes. Only sources named *hopper*.cu include it: they compile for 90a alone, and are chosen at run time where the
// device's compute capability is 9.0. Each function names its section of the PTX ISA (8.0 and on).
//
// How the parts work together, for a ring of stages that one warp fills and warpgroups multiply:
//   1. One thread: mbarrier_init of full (1 arrival) and empty (one arrival a consumer) of every stage, then
//      fence_mbarrier_init; all: __syncthreads.
//   2. Producer, one elected thread: mbarrier_wait(empty, parity ^ 1), mbarrier_arrive_expect(full, bytes of all the
//      stage's copies), tma_load... (whole boxes count, zeros for what lies outside of the tensor too).
//   3. Consumers, all 128 threads: mbarrier_wait(full, parity), wgmma_fence, wgmma for every 16 of k, wgmma_commit,
//      wgmma_wait<1>, then mbarrier_arrive(empty) of the stage *before*, whose products are complete now.
//   4. Results: wgmma_wait<0>, registers to shared memory, fence_proxy_async by each thread that wrote, a barrier, one
//      thread tma_store and bulk_commit; bulk_wait_read before that memory is written again, and before it exits.
// Both roles visit the stages in turn: stage = i % kStages, parity = i / kStages % 2.
//
// Shared memory is allocated dynamically, 1024-byte aligned by the kernel itself (CONVOY_DYNAMIC_SHARED promises 128).
// Boxes are rows of the innermost dimension, one after another; with a swizzle of 32, 64 or 128 bytes a row is that
// long and its 16-byte chunks are exchanged: bits 4.. of the address ^= bits 7.. of it, wherever the box begins, so
// that boxes begin at multiples of 256, 512, 1024 bytes. wgmma_matrix describes such a box as an operand.
//
// Left out: clusters and multicast (every copy goes to the block's own memory), 1-d and 5-d copies, cache hints,
// operands of other types than bf16 and f16, f16 accumulators, the sparse wgmma, a negated operand.
#pragma once
#include <cuda.h>

#include <cstdint>

#include "kernels/mma.cuh"

#if defined(CONVOY_EMULATED)
#include "kernels/hopper_twins.cuh"
#endif

namespace convoy {

#if !defined(CONVOY_EMULATED)
CONVOY_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
#endif

// ---- mbarriers: 8 aligned bytes of shared memory ("mbarrier"). A phase ends when all its arrivals have come and all
// bytes that they expect have landed. Phases are counted from 0; waits name the parity of the phase that is to end.
// "mbarrier.init": a fresh barrier for so many arrivals a phase. Others may use it after a barrier of threads; bulk
// copies after fence_mbarrier_init by this thread too.
CONVOY_DEVICE void mbarrier_init(uint64_t* barrier, uint32_t arrivals) {
#if defined(CONVOY_EMULATED)
  emulator::mbarrier_init(barrier, arrivals, emulator::code_here());
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
#endif
}
// "mbarrier.inval": its memory may be used for something else.
CONVOY_DEVICE void mbarrier_inval(uint64_t* barrier) {
#if defined(CONVOY_EMULATED)
  emulator::mbarrier_inval(barrier, emulator::code_here());
#else
  asm volatile("mbarrier.inval.shared::cta.b64 [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}
// "mbarrier.arrive": one arrival; what this thread did before is done for those who wait for the phase.
CONVOY_DEVICE void mbarrier_arrive(uint64_t* barrier) {
#if defined(CONVOY_EMULATED)
  emulator::mbarrier_arrive(barrier, 0, emulator::code_here());
#else
  asm volatile("mbarrier.arrive.release.cta.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier))
               : "memory");
#endif
}
// "mbarrier.arrive", .expect_tx: the same, and this phase waits for so many bytes of bulk copies.
CONVOY_DEVICE void mbarrier_arrive_expect(uint64_t* barrier, uint32_t bytes) {
#if defined(CONVOY_EMULATED)
  emulator::mbarrier_arrive(barrier, bytes, emulator::code_here());
#else
  asm volatile(
      "mbarrier.arrive.expect_tx.release.cta.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
#endif
}
// "mbarrier.try_wait": whether the phase of that parity has ended; the thread sleeps a while until it has.
CONVOY_DEVICE bool mbarrier_try_wait(uint64_t* barrier, uint32_t parity) {
#if defined(CONVOY_EMULATED)
  return emulator::mbarrier_try_wait(barrier, parity, emulator::code_here());
#else
  uint32_t done;
  asm volatile(
      "{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cta.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, "
      "0, p;\n}"
      : "=r"(done)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return done != 0;
#endif
}
// The same until it has ended. On a fresh barrier parity 1 has: the phase before the first.
CONVOY_DEVICE void mbarrier_wait(uint64_t* barrier, uint32_t parity) {
#if defined(CONVOY_EMULATED)
  emulator::mbarrier_wait(barrier, parity, emulator::code_here());
#else
  while (!mbarrier_try_wait(barrier, parity)) {
  }
#endif
}
// "membar/fence", .mbarrier_init: this thread's mbarrier_init come before what bulk copies do.
CONVOY_DEVICE void fence_mbarrier_init() {
#if defined(CONVOY_EMULATED)
  emulator::fence_mbarrier_init();
#else
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}
// "membar/fence", .proxy.async: what this thread wrote in shared memory comes before what tma_store and wgmma read
// after a barrier of threads, and before what tma_load writes.
CONVOY_DEVICE void fence_proxy_async() {
#if defined(CONVOY_EMULATED)
  emulator::fence_proxy_async();
#else
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// ---- Bulk copies between tensors in global memory and boxes in shared memory ("cp.async.bulk.tensor"), made by one
// thread. Maps: tensor_map.cuh; kernels take them as `const __grid_constant__ CUtensorMap`. Coordinates are the box's
// first element, innermost dimension first; what lies outside of the tensor is loaded as zeros and not stored.
// "prefetch", .tensormap: the map is on its way to the cache.
CONVOY_DEVICE void prefetch_tensor_map(const CUtensorMap& map) {
#if defined(CONVOY_EMULATED)
  emulator::tensor_map_check(&map, emulator::code_here());
#else
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#endif
}

// tma_load: one box; its bytes count for the mbarrier's phase, whose end shows that they have landed.
CONVOY_DEVICE void tma_load(void* to, const CUtensorMap& map, uint64_t* barrier, int c0, int c1) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_load(to, &map, barrier, {2, {c0, c1}, false, {}}, emulator::code_here());
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1)
      : "memory");
#endif
}
CONVOY_DEVICE void tma_load(void* to, const CUtensorMap& map, uint64_t* barrier, int c0, int c1, int c2) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_load(to, &map, barrier, {3, {c0, c1, c2}, false, {}}, emulator::code_here());
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, "
      "%5}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
#endif
}
CONVOY_DEVICE void tma_load(void* to, const CUtensorMap& map, uint64_t* barrier, int c0, int c1, int c2,
                            int c3) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_load(to, &map, barrier, {4, {c0, c1, c2, c3}, false, {}}, emulator::code_here());
#else
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, "
      "%5, %6}], [%2];" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
#endif
}
// "Tensors", im2col mode: the map's `pixels` pixels from filter origin (w, h, n) on, in w, then h, then n, within its
// bounding box, each at its offset and with `channels` channels from c on. Pixels outside of the image, and of images
// after the last, are zeros.
CONVOY_DEVICE void tma_load_im2col(void* to, const CUtensorMap& map, uint64_t* barrier, int c, int w, int h,
                                   int n, int offset_w, int offset_h) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_load(to, &map, barrier, {4, {c, w, h, n}, true, {offset_w, offset_h}},
                      emulator::code_here());
#else
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%3, "
      "%4, %5, "
      "%6}], [%2], {%7, %8};" ::"r"(shared_address(to)),
      "l"(&map), "r"(shared_address(barrier)), "r"(c), "r"(w), "r"(h), "r"(n),
      "h"(static_cast<uint16_t>(offset_w)), "h"(static_cast<uint16_t>(offset_h))
      : "memory");
#endif
}

// tma_store: the box to global memory; tma_add adds it there ("cp.reduce.async.bulk.tensor"; in no fixed order among
// blocks). Reading is over after bulk_wait_read, writing after bulk_wait, of the groups that bulk_commit made.
CONVOY_DEVICE void tma_store(const CUtensorMap& map, const void* from, int c0, int c1) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_store(&map, from, {2, {c0, c1}, false, {}}, false, emulator::code_here());
#else
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
               "r"(shared_address(from)), "r"(c0), "r"(c1)
               : "memory");
#endif
}
CONVOY_DEVICE void tma_store(const CUtensorMap& map, const void* from, int c0, int c1, int c2) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_store(&map, from, {3, {c0, c1, c2}, false, {}}, false, emulator::code_here());
#else
  asm volatile(
      "cp.async.bulk.tensor.3d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(&map),
      "r"(shared_address(from)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
#endif
}
CONVOY_DEVICE void tma_store(const CUtensorMap& map, const void* from, int c0, int c1, int c2, int c3) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_store(&map, from, {4, {c0, c1, c2, c3}, false, {}}, false, emulator::code_here());
#else
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(&map),
      "r"(shared_address(from)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
#endif
}
CONVOY_DEVICE void tma_add(const CUtensorMap& map, const void* from, int c0, int c1) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_store(&map, from, {2, {c0, c1}, false, {}}, true, emulator::code_here());
#else
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3}], [%1];" ::"l"(
          &map),
      "r"(shared_address(from)), "r"(c0), "r"(c1)
      : "memory");
#endif
}
CONVOY_DEVICE void tma_add(const CUtensorMap& map, const void* from, int c0, int c1, int c2) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_store(&map, from, {3, {c0, c1, c2}, false, {}}, true, emulator::code_here());
#else
  asm volatile(
      "cp.reduce.async.bulk.tensor.3d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
          &map),
      "r"(shared_address(from)), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
#endif
}
CONVOY_DEVICE void tma_add(const CUtensorMap& map, const void* from, int c0, int c1, int c2, int c3) {
#if defined(CONVOY_EMULATED)
  emulator::bulk_store(&map, from, {4, {c0, c1, c2, c3}, false, {}}, true, emulator::code_here());
#else
  asm volatile(
      "cp.reduce.async.bulk.tensor.4d.global.shared::cta.add.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::
          "l"(&map),
      "r"(shared_address(from)), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
#endif
}
// "cp.async.bulk.commit_group": this thread's stores since the last one become a group.
CONVOY_DEVICE void bulk_commit() {
#if defined(CONVOY_EMULATED)
  emulator::bulk_commit();
#else
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
#endif
}
// "cp.async.bulk.wait_group": all groups of this thread but the latest kLeft have read shared memory, or are done.
template <int kLeft>
CONVOY_DEVICE void bulk_wait_read() {
#if defined(CONVOY_EMULATED)
  emulator::bulk_wait(kLeft);
#else
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kLeft) : "memory");
#endif
}
template <int kLeft>
CONVOY_DEVICE void bulk_wait() {
#if defined(CONVOY_EMULATED)
  emulator::bulk_wait(kLeft);
#else
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

// ---- Warps.
// "setmaxnreg": each thread of the warpgroup gets, or gives up, registers: from then on it has kRegisters. Works in
// kernels with __launch_bounds__(threads, 1) whose roles are the branches of one if.
template <int kRegisters>
CONVOY_DEVICE void registers_more() {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0, "24 to 256, by 8");
#if !defined(CONVOY_EMULATED)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}
template <int kRegisters>
CONVOY_DEVICE void registers_fewer() {
  static_assert(kRegisters >= 24 && kRegisters <= 256 && kRegisters % 8 == 0, "24 to 256, by 8");
#if !defined(CONVOY_EMULATED)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
#endif
}
// "elect.sync": true in one lane of the warp, all of whose lanes call it; the same one every time.
CONVOY_DEVICE bool elect_one() {
#if defined(CONVOY_EMULATED)
  return twin::elect_one(emulator::code_here());
#else
  uint32_t elected;
  asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}"
               : "=r"(elected)::"memory");
  return elected != 0;
#endif
}
// "griddepcontrol": with programmatic launches, waits until the grids before have ended and their memory is seen; or
// lets the next grid be launched once every block has said so. Without, nothing.
CONVOY_DEVICE void grid_wait() {
#if !defined(CONVOY_EMULATED)
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
CONVOY_DEVICE void grid_launch_next() {
#if !defined(CONVOY_EMULATED)
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace convoy

#include "kernels/hopper_wgmma.cuh"
