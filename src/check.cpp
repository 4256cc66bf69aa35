#include "convoy/check.h"

namespace convoy {

void check_failed(const char* file, int line, const char* condition, const std::string& values) {
  throw Error(text(file, ":", line, ": ", condition, " does not hold: ", values));
}

int64_t checked_product(int64_t a, int64_t b, const char* what) {
  int64_t product = 0;
  if (__builtin_mul_overflow(a, b, &product)) input_error(what, " overflows: ", a, " x ", b);
  return product;
}

int64_t checked_sum(int64_t a, int64_t b, const char* what) {
  int64_t sum = 0;
  if (__builtin_add_overflow(a, b, &sum)) input_error(what, " overflows: ", a, " + ", b);
  return sum;
}

}  // namespace convoy
