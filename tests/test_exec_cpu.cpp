#include <gtest/gtest.h>

#include <cstdlib>
#include <set>
#include <thread>
#include <vector>

#include "convoy/backend.h"

#ifdef __linux__
#include <sched.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

namespace convoy {
namespace {

const Backend& any() {
  return *cpu_backends().back();
}

// body(thread) on every thread of a team of `threads`.
template <class Body>
void on_team(int threads, const Body& body) {
  static_cast<void>(threads);
#ifdef _OPENMP
#pragma omp parallel num_threads(threads)
  body(omp_get_thread_num());
#else
  body(0);
#endif
}

TEST(ExecCpu, HoldsWhatWasAsked) {
  const Exec ex = cpu_exec(any(), 3);
  EXPECT_EQ(ex.backend, &any());
  EXPECT_EQ(ex.threads, 3);
  EXPECT_TRUE(ex.scratch.empty());
  EXPECT_THROW(cpu_exec(any(), -1), Error);
}

#if defined(__x86_64__)
TEST(ExecCpu, FlushesDenormalsOnEveryThread) {
  for (const int threads : {1, 2, 4}) {
    cpu_exec(any(), threads);
    std::vector<float> results(static_cast<size_t>(threads), 1.0f), inputs = results;
    on_team(threads, [&](int t) {
      volatile float smallest = 1.2e-38f, denormal = 1e-40f;
      results[static_cast<size_t>(t)] = smallest * 0.25f;
      inputs[static_cast<size_t>(t)] = denormal * 1e10f;
    });
    on_team(1, [](int) {});  // a smaller team in between ends threads; the new ones inherit the mode
    on_team(threads, [&](int t) {
      volatile float smallest = 1.2e-38f;
      results[static_cast<size_t>(t)] += smallest * 0.25f;
    });
    for (const float r : results) EXPECT_EQ(r, 0.0f) << threads << " threads";
#ifdef _OPENMP
    for (const float r : inputs) EXPECT_EQ(r, 0.0f) << threads << " threads";
#endif
  }
}
#endif

#if defined(__linux__)
cpu_set_t mask() {
  cpu_set_t m;
  CPU_ZERO(&m);
  EXPECT_EQ(sched_getaffinity(0, sizeof(m), &m), 0);
  return m;
}

TEST(ExecCpu, ZeroThreadsMeansEveryCpuOfTheMask) {
  cpu_unpin();
  const cpu_set_t all = mask();
  const int cpus = CPU_COUNT(&all);
  EXPECT_EQ(cpu_exec(any(), 0).threads, cpus);
  EXPECT_EQ(cpu_exec(any(), 0).threads,
            cpus);  // pinning the caller has not narrowed what the process may use
}

#ifdef _OPENMP
TEST(ExecCpu, PinsOneThreadPerCpu) {
  if (std::getenv("OMP_PROC_BIND") != nullptr) GTEST_SKIP() << "OMP_PROC_BIND decides";
  cpu_unpin();
  const cpu_set_t all = mask();
  const int cpus = CPU_COUNT(&all);
  for (const int threads : {1, cpus}) {
    cpu_exec(any(), threads);
    std::vector<cpu_set_t> masks(static_cast<size_t>(threads));
    on_team(threads, [&](int t) { masks[static_cast<size_t>(t)] = mask(); });
    std::set<int> used;
    for (const cpu_set_t& m : masks) {
      EXPECT_EQ(CPU_COUNT(&m), 1);
      for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
        if (CPU_ISSET(cpu, &m)) used.insert(cpu);
    }
    EXPECT_EQ(static_cast<int>(used.size()), threads);
  }
  cpu_exec(any(), cpus + 1);  // more threads than CPUs: nobody is pinned, and the caller is freed
  on_team(cpus + 1, [&](int) {
    const cpu_set_t m = mask();
    EXPECT_TRUE(CPU_EQUAL(&m, &all));
  });
}

TEST(ExecCpu, UnpinFreesAHelper) {
  if (std::getenv("OMP_PROC_BIND") != nullptr) GTEST_SKIP() << "OMP_PROC_BIND decides";
  cpu_unpin();
  const cpu_set_t all = mask();
  cpu_exec(any(), 1);
  std::thread helper([&] {
    const cpu_set_t inherited = mask();
    EXPECT_EQ(CPU_COUNT(&inherited), 1);
    cpu_unpin();
    const cpu_set_t freed = mask();
    EXPECT_TRUE(CPU_EQUAL(&freed, &all));
  });
  helper.join();
}
#endif
#endif

}  // namespace
}  // namespace convoy
