// Errors. Everything below `main` throws; `main` catches once and chooses the exit status.
//
// Error      : something broke inside (a failed check, a full disk): exit status 1.
// InputError : what the user gave is wrong (an option, a file, a net): exit status 2. Its text is one line
// that
//              names the file, line, tensor or option, what is wrong with it, and what to do.
#pragma once
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace convoy {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class InputError : public Error {
 public:
  using Error::Error;
};

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws Error with the place, the condition and the values that broke it.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& values);

// Throws InputError with the parts as its one line.
template <class... Parts>
[[noreturn]] void input_error(const Parts&... parts) {
  throw InputError(text(parts...));
}

#define CONVOY_CHECK(condition, ...) \
  (static_cast<bool>(condition)      \
       ? void()                      \
       : ::convoy::check_failed(__FILE__, __LINE__, #condition, ::convoy::text(__VA_ARGS__)))

// a * b and a + b of sizes read from files: throw InputError with `what` when the result does not fit in
// int64_t.
int64_t checked_product(int64_t a, int64_t b, const char* what);
int64_t checked_sum(int64_t a, int64_t b, const char* what);

}  // namespace convoy
