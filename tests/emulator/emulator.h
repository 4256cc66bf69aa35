// CUDA without a GPU: kernels run on the CPU as ordinary C++, and what is wrong with them is reported.
//
// Every .cu source compiles twice: by nvcc, and by the host compiler with this folder's cuda/ in front of the
// include path (cuda_runtime.h, cuda_fp16.h, cuda_bf16.h, cublas_v2.h), where kernels/launch.cuh spells what
// the two compilers spell differently. One fiber runs one CUDA thread (fiber.h), blocks run one after
// another, each warp runs until it has to wait (machine.h). The fake runtime (runtime/) has memory, streams,
// events, graphs and cuBLAS as plain loops; nccl/ has NCCL among the threads of a process, whose devices may be several.
//
// Checks. All of them end the launch and leave a report: kernel, block, thread, file and line.
//   always                  barriers that not every thread reaches, reached at different lines, or used with
//                           two thread counts; warp collectives whose lanes disagree or have exited;
//                           deadlock; writes into the red zones around shared arrays; misuse and
//                           misalignment of atomics, cp.async, ldmatrix, stmatrix, wmma; of mbarriers, bulk
//                           copies, tensor maps, wgmma (hopper.h says what)
//   instrumented kernels    races on shared memory (a write and another access, by two threads, that no
//                           barrier orders; only barriers and __syncwarp order memory, shuffles do not);
//                           accesses of shared bytes that a cp.async still writes; reads of shared or device
//                           memory that nobody wrote; accesses outside of allocations, to freed memory, to
//                           host memory, to another thread's locals
//   AddressSanitizer        accesses outside of shared arrays and allocations, with its own report
// "Instrumented" means compiled with -fsanitize=thread but linked without its run time: hooks.cpp takes the
// calls that the compiler emits at each load and store. Kernels compiled with -g get the line of both
// accesses.
//
// Where hardware is free to choose, so is the emulator:
//   seed   0: warps and blocks in order; else their order, and that of the lanes, is drawn from the seed
//   late   false: asynchronous work (cp.async, bulk copies, wgmma, streams) is done at once; true: as late as the
//          program allows
// Shared memory starts as 0xff bytes (NaN in every float type) for each block, and so does device memory.
//
// What it cannot show: time, registers, bank conflicts, whether the inline assembly says what its twin does,
// rounding inside tensor cores, races on device memory (of shared memory only), misaligned ordinary accesses
// (UBSan's build finds those).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace emulator {

struct Options {
  uint64_t seed = 0;      // CONVOY_EMULATOR_SEED
  bool late = false;      // CONVOY_EMULATOR_ASYNC=late
  int architecture = 80;  // CONVOY_EMULATOR_ARCH: the compute capability that the device claims (75, 80, ...)
  int devices = 1;        // CONVOY_EMULATOR_DEVICES: how many there are, at most 64
  bool peers = true;      // whether they can reach each other's memory
};
Options& options();  // read once from the environment; tests may change them between launches

// The report of the launch that failed, empty when none did; clears the device's sticky error too.
std::string take_fault();

// Whether the program's kernels are instrumented: without, those checks find nothing.
bool instrumented();

// Bytes of [memory, memory + bytes) that no kernel, copy or memset has written since they were allocated.
// Counts only writes of instrumented kernels.
size_t unwritten_bytes(const void* memory, size_t bytes);

}  // namespace emulator
