// One kernel a wrapper of kernels/mma.cuh (wrappers.cu) and kernels/hopper.cuh (wrappers_hopper.cu), for
// test_wrappers.cpp. Pointers are the device's; registers of a lane or thread lie together: r[lane][i].
#pragma once
#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace convoy::wrappers {

// ---- mma.cuh: a warp each, unless it says otherwise.

// Lane l copies `bytes` (4, 8 or 16), of which source_bytes are read, from x + 16 l; y gets the 16 bytes that lie at
// its place in shared memory, 0x55 before.
void copy_async(int bytes, int source_bytes, const uint8_t* x, uint8_t* y);
// Row l of 32 rows of 8 elements is what lane l points at; count: 1, 2, 4 matrices.
void load_matrices(int count, bool transposed, const uint16_t* rows, uint32_t* r);
void store_matrices(bool transposed, const uint32_t* r, uint16_t* rows);  // sm_90
enum class Product { kF16K8, kF16K16, kBF16K16, kTF32K8 };
void multiply(Product product, const uint32_t* a, const uint32_t* b, const float* c, float* d);
void round_tf32(const float* x, uint32_t* y);
// d[16,16] = a[16,16] b[16,16] transposed, twice, rows 24 elements apart.
void multiply_wmma(const __half* a, const __half* b, float* d);
// Four warps, of which two hand 64 values to the others by barrier_arrive and barrier_sync: y = x + 1.
void hand_over(const int* x, int* y);

// ---- hopper.cuh.

struct Box {
  int rank;  // 2, 3, 4
  int at[4];
  bool im2col;
  int offsets[2];
  uint32_t bytes;
};
void load_box(const CUtensorMap& map, const Box& box, uint8_t* out);  // the box as it lies in shared memory
void store_box(const CUtensorMap& map, const Box& box, bool add, const uint8_t* in);

// An operand within the image of shared memory, for wgmma_matrix; the next 16 of k lie `step` bytes further.
struct Operand {
  uint32_t start, leading, stride, step, swizzle;
  bool mn_major;
};
constexpr int kSteps = 2;  // of 16 of k
// One warpgroup: d = a · b (+ d with keep). With `registers`, a's are registers[step][thread][4]. d[thread][n / 2].
// False: no kernel for these (n: 16, 32, 64, 96, ... 256; those with other majors than k, f16, or a in registers: 64 and
// 256 only).
bool multiply_group(int n, bool bf16, const uint8_t* image, uint32_t image_bytes, const Operand& a,
                    const uint32_t* registers, const Operand& b, bool keep, float* d);

// 64 threads: out[0..8) what mbarrier_try_wait said at each point of wrappers_hopper.cu; then 64 values read after
// mbarrier_wait, x + 1.
void mbarriers(const int* x, int* out);
// 256 threads: how many lanes of each of 8 warps were elected, twice; that they agree; after setmaxnreg and
// griddepcontrol.
void roles(int* out);

}  // namespace convoy::wrappers
