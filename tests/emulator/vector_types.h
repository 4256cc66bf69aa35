// CUDA's vector types, with its alignments.
#pragma once

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define EMULATOR_VECTORS(name, type, bytes)                          \
  struct alignas(2 * bytes) name##2 {                                \
    type x, y;                                                       \
  };                                                                 \
  struct name##3 {                                                   \
    type x, y, z;                                                    \
  };                                                                 \
  struct alignas(4 * bytes < 16 ? 4 * bytes : 16) name##4 {          \
    type x, y, z, w;                                                 \
  };                                                                 \
  constexpr name##2 make_##name##2(type x, type y) {                 \
    return {x, y};                                                   \
  }                                                                  \
  constexpr name##3 make_##name##3(type x, type y, type z) {         \
    return {x, y, z};                                                \
  }                                                                  \
  constexpr name##4 make_##name##4(type x, type y, type z, type w) { \
    return {x, y, z, w};                                             \
  }
EMULATOR_VECTORS(char, signed char, 1)
EMULATOR_VECTORS(uchar, unsigned char, 1)
EMULATOR_VECTORS(short, short, 2)
EMULATOR_VECTORS(ushort, unsigned short, 2)
EMULATOR_VECTORS(int, int, 4)
EMULATOR_VECTORS(uint, unsigned, 4)
EMULATOR_VECTORS(float, float, 4)
EMULATOR_VECTORS(longlong, long long, 8)
EMULATOR_VECTORS(double, double, 8)
#undef EMULATOR_VECTORS
