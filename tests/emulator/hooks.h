// What kernels read of the machine, and their atomics. The values come from functions of the emulator's own
// objects, which are not instrumented.
#pragma once
#include <cstddef>

#include "vector_types.h"

namespace emulator {

uint3 thread_index();
uint3 block_index();
dim3 block_extents();
dim3 grid_extents();

// An atomic: reads `old`, and after it writes. Nothing comes between the two.
void atomic_read(void* at, size_t bytes, void* old);
void atomic_write(void* at, size_t bytes, const void* value);

// For the twins of PTX instructions: the kernel's code that the caller was inlined into, and a rule of
// theirs.
const void* code_here();
void require(bool holds, const char* what, const void* code);

void sleep_turn();  // __nanosleep: lets others run
[[noreturn]] void trap(const char* file, int line);

}  // namespace emulator
