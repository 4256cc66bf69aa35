// Where the threads of a CPU Exec run, and their floating-point mode.
#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "convoy/backend.h"
#include "kernels/cpu_queue.h"

#ifdef __linux__
#include <sched.h>
#include <sys/prctl.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#else
#include <thread>
#endif

namespace convoy {
namespace {

#ifdef __linux__
// The CPUs that the process may use, as it was started: pinning narrows the mask of the thread that asks.
const cpu_set_t& process_mask() {
  static const cpu_set_t mask = [] {
    cpu_set_t m;
    CPU_ZERO(&m);
    CONVOY_CHECK(sched_getaffinity(0, sizeof(m), &m) == 0, "sched_getaffinity failed");
    return m;
  }();
  return mask;
}

// The first CPU of the core that `cpu` belongs to; itself where the system does not say.
int first_sibling(int cpu) {
  std::ifstream file(text("/sys/devices/system/cpu/cpu", cpu, "/topology/thread_siblings_list"));
  int first = cpu;
  file >> first;
  return file ? first : cpu;
}

// Those CPUs, one of every core before any core's second.
std::vector<int> cpus_to_use() {
  std::vector<int> firsts, seconds, cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &process_mask())) continue;
    const int core = first_sibling(cpu);
    const bool taken = std::find(cores.begin(), cores.end(), core) != cores.end();
    (taken ? seconds : firsts).push_back(cpu);
    cores.push_back(core);
  }
  firsts.insert(firsts.end(), seconds.begin(), seconds.end());
  return firsts;
}

void pin(int cpu) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof(one), &one);  // a refusal costs speed alone
}

int available() {
  return CPU_COUNT(&process_mask());
}
#else
std::vector<int> cpus_to_use() {
  return {};
}
void pin(int) {}
int available() {
#ifdef _OPENMP
  return omp_get_num_procs();
#else
  return static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
#endif
}
#endif

}  // namespace

void cpu_flush_denormals() {
#if defined(__x86_64__)
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  _mm_setcsr(_mm_getcsr() | kFlushToZero | kDenormalsAreZero);
#endif
}

uint64_t cpu_mask_hash() {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
#ifdef __linux__
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    hash = (hash ^ (CPU_ISSET(cpu, &process_mask()) ? 1 : 0)) * 0x100000001b3u;
#endif
  return hash;
}

void cpu_wake_on_time() {
#ifdef __linux__
  prctl(PR_SET_TIMERSLACK, 1000UL);  // nanoseconds
#endif
}

void cpu_unpin() {
#ifdef __linux__
  sched_setaffinity(0, sizeof(cpu_set_t), &process_mask());
#endif
}

Exec cpu_exec(const Backend& backend, int threads, int first_cpu) {
  CONVOY_CHECK(threads >= 0 && first_cpu >= 0, "threads ", threads, ", first CPU ", first_cpu);
  Exec ex;
  ex.backend = &backend;
  ex.threads = threads > 0 ? threads : available();
  const std::vector<int> cpus = cpus_to_use();
  const bool ours = std::getenv("OMP_PROC_BIND") == nullptr;
  const auto first = static_cast<size_t>(first_cpu);
  const bool enough = cpus.size() >= first + static_cast<size_t>(ex.threads);
  const auto prepare = [&](int thread) {
    cpu_flush_denormals();
    if (ours && enough) pin(cpus[first + static_cast<size_t>(thread)]);
    if (ours && !enough) cpu_unpin();  // the caller may have been pinned for a smaller team
  };
#ifdef _OPENMP
#pragma omp parallel num_threads(ex.threads)
  prepare(omp_get_thread_num());
#else
  prepare(0);
#endif
  return ex;
}

}  // namespace convoy
