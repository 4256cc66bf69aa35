// Arithmetic of sizes. For sources in kernels/ only.
#pragma once
#include <cstdint>

namespace convoy::CONVOY_CPU {

constexpr int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
constexpr int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}
constexpr int64_t divide_up(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

}  // namespace convoy::CONVOY_CPU
