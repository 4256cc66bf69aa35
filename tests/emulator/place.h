// Where a kernel stands: the default argument of whatever may have to report it.
#pragma once

namespace emulator {

struct Place {
  const char* file = nullptr;
  int line = 0;
  const void* code = nullptr;  // instead of a file and a line: a return address

  static constexpr Place here(const char* f = __builtin_FILE(), int l = __builtin_LINE()) {
    return {f, l, nullptr};
  }
};

}  // namespace emulator
