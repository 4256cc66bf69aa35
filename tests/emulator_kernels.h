// Kernels that are right, and the same with one mistake planted: what the emulator's tests launch. All
// pointers are the device's.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

namespace convoy::emulated {

enum class Bug {
  kNone,
  kNoBarrier,       // shared memory is read before everybody has written
  kNoWait,          // cp.async is not waited for
  kReleasedEarly,   // a stage is filled again while others still read it
  kOverrun,         // one element past a shared array
  kDivergent,       // a barrier that only some warps reach
  kTwoLines,        // one barrier for two __syncthreads
  kExitedLanes,     // a shuffle with lanes that have returned
  kTwoCollectives,  // lanes of one warp in different collectives
  kUnwritten,       // the last rows of the output are left out
  kUninitialised,   // an accumulator in shared memory is never set
  kDeviceOverrun,   // one element past the output
  kAtomicThenRead,  // an atomic's result is read without a barrier
};

// *total += x[0] + ... + x[n-1]; blocks of 128 threads.
void reduce(Bug bug, const float* x, int n, float* total);
// y[columns, rows] = x[rows, columns] transposed.
void transpose(Bug bug, const float* x, int rows, int columns, float* y);
// c[m,n] = a[m,k] b[k,n], f32, tiles of 32 through two stages of cp.async. m, n, k are multiples of 4.
void multiply(Bug bug, const float* a, const float* b, float* c, int m, int n, int k);
// c[m,n] = a[m,k] b[n,k] transposed, with mma.sync, 32 x 32 a block; m, n multiples of 32, k of 32.
void multiply_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int m, int n, int k);
// The same for one 16 x 16 tile: c = a[16,k] b[16,k] transposed, k a multiple of 16, by wmma.
void multiply_wmma(const __half* a, const __half* b, float* c, int k);
// One warp: d[16,8] = a[16,8] b[8,8] with b stored as [8 columns][8]; f16, and tf32 from f32.
void multiply_small_f16(const __half* a, const __half* b, float* d);
void multiply_small_tf32(const float* a, const float* b, float* d);
// y = four 8x8 matrices of x transposed, through ldmatrix_transposed and stmatrix.
void transpose_matrices(const __half* x, __half* y);
// Warp collectives of every kind on the 32 values of x: out[row * 32 + lane].
constexpr int kCollectives = 13;
void collectives(const int* x, int* out);
// Two warps hand values to two others by named barriers: y[i] = 2 x[i], 64 values. `skip`: without waiting.
void hand_over(bool skip, const int* x, int* y);
// counts[x[i]] += 1 by atomics in shared memory, 16 bins; *most = the largest x; out[3] gets count, or, and.
void histogram(Bug bug, const int* x, int n, int* counts, int* most, int* votes);
// A lock made of atomicCAS that all 64 threads of a block take: *sum = 0 + 1 + ... + 63.
void locked_sum(int* lock, int* sum);
// y[lane] = x[lane ^ 1] through shared memory. `skip`: without the __syncwarp.
void neighbours(bool skip, const float* x, float* y);
// y[i] = x[i]
void copy(const float* x, float* y, int n);

}  // namespace convoy::emulated
