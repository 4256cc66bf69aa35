// What nvcc and the emulator (tests/emulator/emulator.h) spell differently. Nothing else in kernels/ may.
//
//   CONVOY_LAUNCH(kernel, grid, block, shared_bytes, stream, arguments...)   kernel<<<...>>>(arguments...)
//   CONVOY_SHARED(float, tile, [32][33]);      a shared array of the block; CONVOY_SHARED(int, last, ) a
//                                              variable
//   CONVOY_DYNAMIC_SHARED(float, memory);      float* memory = the launch's shared_bytes, 128-byte aligned
//   CONVOY_UNROLL                              #pragma unroll, of the loop that follows
//   CONVOY_ARCH                                the architecture that this pass compiles for (800, ...), 0 on
//                                              the host and emulated, where every wrapper works
//   CONVOY_HAS_HOPPER                          whether the program holds the kernels for sm_90a (*hopper*.cu)
// A kernel's name with a comma in it stands in parentheses.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#if defined(CONVOY_EMULATED) || defined(CONVOY_HOPPER)
#define CONVOY_HAS_HOPPER true
#else
#define CONVOY_HAS_HOPPER false
#endif

#if defined(CONVOY_EMULATED)

#define CONVOY_ARCH 0
#define CONVOY_IS_EMULATED true
#define CONVOY_UNROLL
#define CONVOY_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  ::emulator::launch(#kernel, kernel, grid, block, shared_bytes, stream, __VA_ARGS__)
#define CONVOY_SHARED(type, name, extents)    \
  static const char name##_key = 0;           \
  auto& name = *static_cast<type(*) extents>( \
      ::emulator::shared_array(&name##_key, #name, sizeof(type extents), alignof(type)))
#define CONVOY_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(::emulator::shared_dynamic())

#else

#define CONVOY_IS_EMULATED false
#if defined(__CUDA_ARCH__)
#define CONVOY_ARCH __CUDA_ARCH__
#else
#define CONVOY_ARCH 0
#endif
#define CONVOY_UNROLL _Pragma("unroll")
#define CONVOY_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
  kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__)
#define CONVOY_SHARED(type, name, extents) __shared__ type name extents
#define CONVOY_DYNAMIC_SHARED(type, name)                                 \
  extern __shared__ __align__(128) unsigned char convoy_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(convoy_dynamic_shared)

#endif
