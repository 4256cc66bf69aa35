// Ordering on the CPU, the same for every table (src/cpu_queue.cpp). An Exec without a queue runs tasks at once.
#pragma once
#include "convoy/backend.h"

namespace convoy {

void cpu_submit(Exec& exec, const Task& task);
Event cpu_record(Exec& exec);
void cpu_wait(Exec& exec, Event event);
void cpu_synchronize(Exec& exec);

// Of the calling thread (src/exec_cpu.cpp).
void cpu_flush_denormals();
void cpu_wake_on_time();  // its sleeps end when they should: Linux adds up to 50 us unless it is told

// Of the CPUs that the process may use: equal for processes that share them.
uint64_t cpu_mask_hash();

}  // namespace convoy
