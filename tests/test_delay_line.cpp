// Simulated links: results are those of the communicator behind, a transfer lasts at least as long as the model
// says, and waiting costs no processor time.
#include <ctime>
#include <functional>

#include "comm_tests.h"
#include "delay_line.h"
#include "rank_threads.h"

namespace convoy {
namespace {

using comm_tests::synchronize;

Ranks behind_links(Ranks ranks, const LinkSpeed& speed, const std::vector<std::shared_ptr<Link>>& links) {
  for (size_t r = 0; r < ranks.size(); ++r)
    ranks[r] = std::make_unique<DelayLine>(std::move(ranks[r]), speed, links[r]);
  return ranks;
}
std::vector<std::shared_ptr<Link>> new_links(int world) {
  std::vector<std::shared_ptr<Link>> links;
  for (int r = 0; r < world; ++r) links.push_back(std::make_shared<Link>());
  return links;
}

double clock_seconds(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

struct Spent {
  double wall = 0, cpu = 0;
};
// What `body` takes from the moment that all ranks have begun.
template <class Body>
Spent time_on(const Ranks& ranks, const Body& body) {
  Spent spent;
  const double cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
  run_on(ranks, false, [&](Communicator& comm, Exec& exec) {
    comm.barrier(exec);
    const double start = clock_seconds(CLOCK_MONOTONIC);
    body(comm, exec);
    const double wall = clock_seconds(CLOCK_MONOTONIC) - start;
    if (comm.rank() == 0) spent.wall = wall;
  });
  spent.cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
  return spent;
}

TEST(DelayLine, ResultsAreThoseOfTheCommunicatorBehind) {
  for (const int world : {1, 2, 3})
    for (const auto& test : comm_tests::cases()) {
      SCOPED_TRACE(test.name);
      run_on(behind_links(thread_communicators(world), {50, 0}, new_links(world)), true, test.body);
    }
}

// 0.001 GB/s: a byte a microsecond; a message costs 2 ms. Blocks of 10, 20, 30 kB on three ranks.
TEST(DelayLine, CollectivesLastAsLongAsTheModelSays) {
  static const Blocks blocks{10, 20, 30};
  struct Known {
    const char* name;
    double milliseconds;
    std::function<void(Communicator&, Exec&, View mine, View all)> call;
  };
  const Known table[] = {
      // rank 2 sends its 30 kB twice, in 2 messages
      {"all_gather", 60 + 4,
       [](auto& c, auto& e, View mine, View all) { c.all_gather(e, {}, mine, all, blocks); }},
      {"reduce_scatter", 60 + 4,
       [](auto& c, auto& e, View mine, View all) { c.reduce_scatter(e, {}, all, mine, blocks); }},
      // 60 kB, blocks of 20 kB, twice
      {"all_reduce", 2 * (40 + 4), [](auto& c, auto& e, View, View all) { c.all_reduce(e, {}, all); }},
      {"broadcast", 2 * 60 + 4, [](auto& c, auto& e, View, View all) { c.broadcast(e, {}, all, 1); }},
      {"reduce", 2 * 60 + 4, [](auto& c, auto& e, View, View all) { c.reduce(e, {}, all, all, 2); }},
  };
  for (const Known& known : table) {
    const Spent spent =
        time_on(behind_links(thread_communicators(3), {0.001, 2000}, new_links(3)),
                [&](Communicator& comm, Exec& exec) {
                  std::vector<float> x(15000), y(7500);
                  const int64_t own = blocks[static_cast<size_t>(comm.rank())];
                  known.call(comm, exec, View(y.data(), {own, 250}), View(x.data(), {60, 250}));
                });
    EXPECT_GE(spent.wall, 0.98e-3 * known.milliseconds) << known.name;
    EXPECT_LE(spent.wall, 3e-3 * known.milliseconds) << known.name;
    EXPECT_LE(spent.cpu, 0.25e-3 * known.milliseconds) << known.name << ": waiting costs processor time";
  }
}

TEST(DelayLine, SendsLastAsLongAsTheModelSays) {
  const Spent spent =
      time_on(behind_links(thread_communicators(2), {0.001, 2000}, new_links(2)),
              [](Communicator& comm, Exec& exec) { comm_tests::ring<uint8_t>(comm, exec, 30000, 1); });
  EXPECT_GE(spent.wall, 0.98 * 2 * 0.032);  // there and back
  EXPECT_LE(spent.wall, 3 * 2 * 0.032);
}

TEST(DelayLine, OneRankWaitsForNobody) {
  const Spent spent = time_on(behind_links(thread_communicators(1), {1e-6, 1e6}, new_links(1)),
                              [](Communicator& comm, Exec& exec) {
                                comm_tests::all_reduce(comm, exec, 1000, 1);
                                comm_tests::broadcast<float>(comm, exec, 1000, 0, 1);
                                comm_tests::all_gather<float>(comm, exec, {10}, 10, false, 1);
                              });
  EXPECT_LE(spent.wall, 0.5);
}

// Two groups of the same workers, at once: their transfers follow one another on the links.
TEST(DelayLine, GroupsOfAWorkerShareItsLinks) {
  const auto links = new_links(2);
  const LinkSpeed speed{0.001, 0};
  const Ranks a = behind_links(thread_communicators(2), speed, links),
              b = behind_links(thread_communicators(2), speed, links);
  const Spent spent = time_on(a, [&](Communicator& comm, Exec& exec) {
    const CpuQueuePointer queue_a = cpu_queue(), queue_b = cpu_queue();
    Exec on_a = cpu_queue_exec(*exec.backend, queue_a), on_b = cpu_queue_exec(*exec.backend, queue_b);
    std::vector<float> x(10000), y(10000);
    comm.all_reduce(on_a, {}, View(x.data(), {10000}));
    b[static_cast<size_t>(comm.rank())]->all_reduce(on_b, {}, View(y.data(), {10000}));
    synchronize(on_a);
    synchronize(on_b);
  });
  EXPECT_GE(spent.wall, 0.98 * 2 * 0.040);
  EXPECT_LE(spent.wall, 3 * 2 * 0.040);
}

TEST(DelayLine, AbortReachesTheCommunicatorBehind) {
  const Ranks ranks = behind_links(thread_communicators(2), {1, 1}, new_links(2));
  run_on(ranks, true, [](Communicator& comm, Exec& exec) {
    if (comm.rank() == 0) return comm.abort();
    std::vector<float> x(10);
    comm.all_reduce(exec, {}, View(x.data(), {10}));
    EXPECT_THROW(synchronize(exec), Aborted);
  });
}

TEST(DelayLine, RefusesLinksWithoutSpeed) {
  EXPECT_THROW(behind_links(thread_communicators(1), {0, 1}, new_links(1)), Error);
  EXPECT_THROW(behind_links(thread_communicators(1), {1, -1}, new_links(1)), Error);
}

}  // namespace
}  // namespace convoy
