// Fibers: call stacks that take turns on one thread of the operating system.
#pragma once
#include <cstddef>

#include "address_sanitizer.h"

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void start(void (*entry)());  // what the next resume() runs; whatever the stack held before is dropped
  void resume();                // runs the fiber until it suspends
  void suspend();               // called by the fiber itself: back to resume()'s caller
  bool holds(const void* address) const {
    return address >= stack_ && address < static_cast<char*>(stack_) + kStackBytes;
  }

 private:
#if defined(EMULATOR_ADDRESS_SANITIZER)
  static constexpr size_t kStackBytes = 256 << 10;
#else
  static constexpr size_t kStackBytes = 64 << 10;
#endif
  void entered();

  void* stack_;
  void* mapping_;  // the stack, below it a page that faults
#if defined(__x86_64__)
  void* mine_ = nullptr;
  void* caller_ = nullptr;
#else
  ucontext_t mine_;
  ucontext_t caller_;
#endif
  void (*entry_)() = nullptr;
  // AddressSanitizer's notes of the two stacks.
  void* fake_stack_ = nullptr;
  const void* caller_stack_ = nullptr;
  size_t caller_bytes_ = 0;

  static void run();
};

}  // namespace emulator
