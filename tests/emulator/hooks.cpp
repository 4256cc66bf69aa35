// The calls that -fsanitize=thread puts at each load and store of the kernels (compiler-rt's tsan_interface.h
// names them); ThreadSanitizer's own run time is not linked. This file itself is not instrumented.
#include "hooks.h"

#include <cstring>

#include "machine.h"

extern char __executable_start, _end;  // the linker's

namespace emulator {
namespace {

bool tables_called = false;  // some object of the program is instrumented

bool within(const void* address, const void* first, const void* last) {
  return address >= first && address < last;
}

}  // namespace

bool instrumented() {
  return tables_called;
}

void check_access(const void* address, size_t bytes, bool write, const void* code) {
  const Thread& me = *machine.current;
  if (me.fiber.holds(address)) {
    if (me.registers_out > 0) wgmma_check_registers(address, bytes, write, code);
    return;
  }
  if (shared_holds(address))
    return write ? shared_write(me, address, bytes, code) : shared_read(me, address, bytes, code);
  if (device_holds(address))
    return write ? device_write(address, bytes, code) : device_read(address, bytes, code);
  const char* arguments = static_cast<const char*>(machine.launch->arguments.get());
  if (within(address, arguments, arguments + machine.launch->argument_bytes)) return;
  if (within(address, &__executable_start, &_end)) return;  // constants and __device__ variables
  const char* what = address < reinterpret_cast<const void*>(4096) ? "a null pointer"
                                                                   : "host memory or another thread's locals";
  fault(name_of(me) + (write ? " writes " : " reads ") + std::to_string(bytes) + " bytes of " + what +
        ", at " + name_of_code(code));
}

uint3 thread_index() {
  return machine.current->index;
}
uint3 block_index() {
  return machine.block_index;
}
dim3 block_extents() {
  return machine.launch->block;
}
dim3 grid_extents() {
  return machine.launch->grid;
}

void atomic_read(void* at, size_t bytes, void* old) {
  const void* code = __builtin_return_address(0);
  Thread& me = *machine.current;
  if (++me.spins % 64 == 0) give_way();  // it may be waiting for what another thread has to do
  if (reinterpret_cast<uintptr_t>(at) % bytes) fault("misaligned atomic at " + name_of_code(code));
  if (shared_holds(at)) {
    shared_atomic(me, at, bytes, code);
  } else {
    if (!device_holds(at)) check_access(at, bytes, true, code);
    if (device_holds(at)) device_read(at, bytes, code);
  }
  std::memcpy(old, at, bytes);
}

void atomic_write(void* at, size_t bytes, const void* value) {
  std::memcpy(at, value, bytes);
}

const void* code_here() {
  return __builtin_return_address(0);
}

void require(bool holds, const char* what, const void* code) {
  if (!holds) fault(name_of(*machine.current) + ": " + what + ", at " + name_of_code(code));
}

void sleep_turn() {
  give_way();
}

void trap(const char* file, int line) {
  fault(name_of(*machine.current) + " traps at " + name_of(Place{file, line, nullptr}));
}

}  // namespace emulator

using emulator::check_access;
using emulator::checking;

extern "C" {

#define CODE __builtin_return_address(0)
#define HOOKS(bytes)                                                                         \
  void __tsan_read##bytes(void* at) {                                                        \
    if (checking) check_access(at, bytes, false, CODE);                                      \
  }                                                                                          \
  void __tsan_write##bytes(void* at) {                                                       \
    if (checking) check_access(at, bytes, true, CODE);                                       \
  }                                                                                          \
  void __tsan_unaligned_read##bytes(void* at) {                                              \
    if (checking) check_access(at, bytes, false, CODE);                                      \
  }                                                                                          \
  void __tsan_unaligned_write##bytes(void* at) {                                             \
    if (checking) check_access(at, bytes, true, CODE);                                       \
  }                                                                                          \
  void __tsan_read_write##bytes(void* at) {                                                  \
    if (checking) check_access(at, bytes, false, CODE), check_access(at, bytes, true, CODE); \
  }                                                                                          \
  void __tsan_unaligned_read_write##bytes(void* at) {                                        \
    if (checking) check_access(at, bytes, false, CODE), check_access(at, bytes, true, CODE); \
  }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void* at, unsigned long bytes) {
  if (checking && bytes) check_access(at, bytes, false, CODE);
}
void __tsan_write_range(void* at, unsigned long bytes) {
  if (checking && bytes) check_access(at, bytes, true, CODE);
}
void* __tsan_memcpy(void* to, const void* from, unsigned long bytes) {
  if (checking && bytes) check_access(from, bytes, false, CODE), check_access(to, bytes, true, CODE);
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, unsigned long bytes) {
  if (checking && bytes) check_access(from, bytes, false, CODE), check_access(to, bytes, true, CODE);
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int value, unsigned long bytes) {
  if (checking && bytes) check_access(to, bytes, true, CODE);
  return std::memset(to, value, bytes);
}

void __tsan_init() {
  emulator::tables_called = true;
}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}

// Host code of the same files: shared_ptr's counts, guards of local statics. Always sequentially consistent.
void __tsan_atomic_thread_fence(int) {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void __tsan_atomic_signal_fence(int) {}
#define ATOMICS(bits, T)                                                                            \
  T __tsan_atomic##bits##_load(const volatile T* at, int) {                                         \
    return __atomic_load_n(at, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                 \
  void __tsan_atomic##bits##_store(volatile T* at, T v, int) {                                      \
    __atomic_store_n(at, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                 \
  T __tsan_atomic##bits##_exchange(volatile T* at, T v, int) {                                      \
    return __atomic_exchange_n(at, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                 \
  T __tsan_atomic##bits##_fetch_add(volatile T* at, T v, int) {                                     \
    return __atomic_fetch_add(at, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                 \
  T __tsan_atomic##bits##_fetch_sub(volatile T* at, T v, int) {                                     \
    return __atomic_fetch_sub(at, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                 \
  T __tsan_atomic##bits##_fetch_and(volatile T* at, T v, int) {                                     \
    return __atomic_fetch_and(at, v, __ATOMIC_SEQ_CST);                                             \
  }                                                                                                 \
  T __tsan_atomic##bits##_fetch_or(volatile T* at, T v, int) {                                      \
    return __atomic_fetch_or(at, v, __ATOMIC_SEQ_CST);                                              \
  }                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile T* at, T* expected, T v, int, int) {   \
    return __atomic_compare_exchange_n(at, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                 \
  int __tsan_atomic##bits##_compare_exchange_weak(volatile T* at, T* expected, T v, int, int) {     \
    return __atomic_compare_exchange_n(at, expected, v, true, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);  \
  }
ATOMICS(8, unsigned char)
ATOMICS(16, unsigned short)
ATOMICS(32, unsigned int)
ATOMICS(64, unsigned long)

}  // extern "C"
