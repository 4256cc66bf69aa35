// The twins of mma.cuh: what each instruction does, in C++. `code` is where the kernel calls it.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

namespace convoy::twin {

inline emulator::Place place(const void* code) {
  return {nullptr, 0, code};
}
inline void barrier_sync(int id, int threads, const void* code) {
  emulator::barrier(id, static_cast<unsigned>(threads), 0, "barrier_sync", place(code));
}
inline void barrier_arrive(int id, int threads, const void* code) {
  emulator::barrier_arrive(id, static_cast<unsigned>(threads), place(code));
}

// Formats of operands: kCount elements in a register of 32 bits.
struct F16 {
  static constexpr int kCount = 2;
  static float element(uint32_t r, int i) { return emulator::F16::value(static_cast<uint16_t>(r >> 16 * i)); }
};
struct BF16 {
  static constexpr int kCount = 2;
  static float element(uint32_t r, int i) {
    return emulator::BF16::value(static_cast<uint16_t>(r >> 16 * i));
  }
};
struct TF32 {
  static constexpr int kCount = 1;
  static float element(uint32_t r, int) { return __uint_as_float(r & 0xffffe000u); }
};
inline uint32_t to_tf32(float v) {
  const uint32_t bits = __float_as_uint(v);
  if (v != v || (bits & 0x7fffffffu) == 0x7f800000u) return bits;
  return (bits + 0x1000u) & 0xffffe000u;
}

// Fragments of m16n8k*, with g = lane / 4, t = lane % 4, e the element of the register, n elements a
// register: a[i] row g + 8(i % 2), column tn + e + 4n(i / 2); b[i] row tn + e + 4ni, column g; d[i] row g +
// 8(i / 2), column 2t + i % 2.
template <int kK, class Format, int kA, int kB>
void mma(const char* name, float (&d)[4], const uint32_t (&a)[kA], const uint32_t (&b)[kB],
         const void* code) {
  struct Operands {
    uint32_t a[kA], b[kB];
    float d[4];
  };
  struct Result {
    float d[4];
  };
  Operands mine;
  std::memcpy(mine.a, a, sizeof a);
  std::memcpy(mine.b, b, sizeof b);
  std::memcpy(mine.d, d, sizeof d);
  const Result result = emulator::warp_exchange<Result>(
      ~0u, name, place(code), mine, [](const Operands* const* in, Result* const* out, uint32_t) {
        constexpr int n = Format::kCount;
        float x[16][kK], y[kK][8];
        for (int lane = 0; lane < 32; ++lane) {
          const int g = lane / 4, t = lane % 4;
          for (int e = 0; e < n; ++e) {
            for (int i = 0; i < kA; ++i) {
              x[g + 8 * (i % 2)][t * n + e + 4 * n * (i / 2)] = Format::element(in[lane]->a[i], e);
            }
            for (int i = 0; i < kB; ++i) y[t * n + e + 4 * n * i][g] = Format::element(in[lane]->b[i], e);
          }
        }
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < 4; ++i) {
            const int row = lane / 4 + 8 * (i / 2), column = 2 * (lane % 4) + i % 2;
            float sum = in[lane]->d[i];
            for (int k = 0; k < kK; ++k) sum += x[row][k] * y[k][column];
            out[lane]->d[i] = sum;
          }
        }
      });
  std::memcpy(d, result.d, sizeof d);
}

template <int kCount>
struct Registers {
  uint32_t r[kCount];
};

// Element e of register i of the lane: its row among matrix i's addresses, and its column.
template <bool kTransposed>
int matrix_row(int lane, int e) {
  return kTransposed ? 2 * (lane % 4) + e : lane / 4;
}
template <bool kTransposed>
int matrix_column(int lane, int e) {
  return kTransposed ? lane / 4 : 2 * (lane % 4) + e;
}

template <bool kTransposed, int kCount>
void ldmatrix(uint32_t (&r)[kCount], const void* row, const void* code) {
  const auto result = emulator::warp_exchange<Registers<kCount>>(
      ~0u, "ldmatrix", place(code), row,
      [code](const void* const* const* in, Registers<kCount>* const* out, uint32_t) {
        for (unsigned lane = 0; lane < 8 * kCount; ++lane) emulator::lane_read(lane, *in[lane], 16, code);
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < kCount; ++i) {
            uint16_t halves[2];
            for (int e = 0; e < 2; ++e) {
              const auto* source =
                  static_cast<const uint16_t*>(*in[8 * i + matrix_row<kTransposed>(lane, e)]);
              halves[e] = source[matrix_column<kTransposed>(lane, e)];
            }
            out[lane]->r[i] = halves[0] | static_cast<uint32_t>(halves[1]) << 16;
          }
        }
      });
  std::memcpy(r, result.r, sizeof r);
}

template <bool kTransposed>
void stmatrix(void* row, const uint32_t (&r)[4], const void* code) {
  struct Row {
    void* at;
    uint32_t r[4];
  };
  struct Nothing {};
  Row mine{row, {r[0], r[1], r[2], r[3]}};
  emulator::warp_exchange<Nothing>(
      ~0u, "stmatrix", place(code), mine, [code](const Row* const* in, Nothing* const*, uint32_t) {
        for (unsigned lane = 0; lane < 32; ++lane) emulator::lane_write(lane, in[lane]->at, 16, code);
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < 4; ++i) {
            for (int e = 0; e < 2; ++e) {
              auto* target = static_cast<uint16_t*>(in[8 * i + matrix_row<kTransposed>(lane, e)]->at);
              target[matrix_column<kTransposed>(lane, e)] = static_cast<uint16_t>(in[lane]->r[i] >> 16 * e);
            }
          }
        }
      });
}

// wmma's fragments are nobody's business: here lane l holds half a line, elements 8(l % 2) and on of line l /
// 2 (a row of a and d, a column of b), in the first four registers.
inline void wmma_load(uint32_t (&r)[8], const __half* from, int leading, const void* code) {
  emulator::require(reinterpret_cast<uintptr_t>(from) % 32 == 0 && leading % 8 == 0, "misaligned wmma", code);
  const int lane = static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
  const __half* line = from + lane / 2 * leading + lane % 2 * 8;
  for (int i = 0; i < 4; ++i) r[i] = line[2 * i].bits | static_cast<uint32_t>(line[2 * i + 1].bits) << 16;
  for (int i = 4; i < 8; ++i) r[i] = 0;
}
inline void wmma_store(float* to, const float (&d)[8], int leading, const void* code) {
  emulator::require(reinterpret_cast<uintptr_t>(to) % 32 == 0 && leading % 4 == 0, "misaligned wmma", code);
  const int lane = static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % 32;
  for (int i = 0; i < 8; ++i) to[lane / 2 * leading + lane % 2 * 8 + i] = d[i];
}
inline void wmma_mma(float (&d)[8], const uint32_t (&a)[8], const uint32_t (&b)[8], const void* code) {
  struct Operands {
    uint32_t a[4], b[4];
    float d[8];
  };
  struct Result {
    float d[8];
  };
  Operands mine;
  std::memcpy(mine.a, a, sizeof mine.a);
  std::memcpy(mine.b, b, sizeof mine.b);
  std::memcpy(mine.d, d, sizeof mine.d);
  const Result result = emulator::warp_exchange<Result>(
      ~0u, "wmma_mma", place(code), mine, [](const Operands* const* in, Result* const* out, uint32_t) {
        for (int lane = 0; lane < 32; ++lane) {
          for (int i = 0; i < 8; ++i) {
            const int row = lane / 2, column = lane % 2 * 8 + i;
            float sum = in[lane]->d[i];
            for (int k = 0; k < 16; ++k) {
              sum += F16::element(in[2 * row + k / 8]->a[k % 8 / 2], k % 2) *
                     F16::element(in[2 * column + k / 8]->b[k % 8 / 2], k % 2);
            }
            out[lane]->d[i] = sum;
          }
        }
      });
  std::memcpy(d, result.d, sizeof d);
}

}  // namespace convoy::twin
