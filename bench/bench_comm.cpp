// Collectives, as nccl-tests print them: time, algorithm bandwidth (size / time) and bus bandwidth, which is
// comparable with a link's (nccl-tests, doc/PERFORMANCE.md). The size is that of the whole: what all ranks give
// or get together in all_gather and reduce_scatter.
//   bench_comm [--transport threads|mpi] [--world K] [--collective NAME ...] [--min-bytes N] [--max-bytes N]
//   [--link-gbps X --link-us Y] [--json FILE]
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <fstream>
#include <functional>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "comm_mpi.h"
#include "convoy/comm.h"
#include "delay_line.h"
#include "version.h"

namespace convoy {
namespace {

struct Options {
  std::string transport = "threads", json;
  std::vector<std::string> collectives;
  int world = 2;
  int64_t min_bytes = 8, max_bytes = 16 << 20;
  double seconds = 0.1, link_gbps = 0, link_us = 0;
};

// Small whole numbers: every sum is exact.
float value(int rank, int64_t i) {
  return static_cast<float>((i * 7 + rank * 3) % 31 - 15);
}
float sum(int world, int64_t i) {
  float total = 0;
  for (int r = 0; r < world; ++r) total += value(r, i);
  return total;
}

// One rank's operands of `count` floats, a row each, and who has which.
struct Operands {
  Operands(int rank, int world, int64_t count) : own(part_of(count, rank, world)) {
    for (int r = 0; r < world; ++r) blocks.push_back(part_of(count, r, world).count);
    mine.resize(static_cast<size_t>(own.count));
    all.resize(static_cast<size_t>(count));
  }
  View mine_view() { return {mine.data(), {own.count, 1}}; }
  View all_view() { return {all.data(), {static_cast<int64_t>(all.size()), 1}}; }
  // all[i] = rank's value(i), mine[i] = that of its rows.
  void refill(int rank) {
    for (size_t i = 0; i < all.size(); ++i) all[i] = value(rank, static_cast<int64_t>(i));
    for (size_t i = 0; i < mine.size(); ++i) mine[i] = value(rank, own.first + static_cast<int64_t>(i));
  }
  RowRange own;
  Blocks blocks;
  std::vector<float> mine, all;
};

struct Collective {
  const char* name;
  double (*bus_factor)(double world);  // busbw / algbw
  void (*call)(Communicator&, Exec&, Operands&);
  int64_t (*wrong)(const Communicator&, const Operands&);
};

template <class Want>
int64_t count_wrong(const std::vector<float>& got, const Want& want) {
  int64_t wrong = 0;
  for (size_t i = 0; i < got.size(); ++i) wrong += got[i] != want(static_cast<int64_t>(i));
  return wrong;
}

constexpr Label kLabel{Traffic::kOther, "bench"};
const Collective kCollectives[] = {
    {"all_reduce", [](double n) { return 2 * (n - 1) / n; },
     [](Communicator& c, Exec& e, Operands& o) { c.all_reduce(e, kLabel, o.all_view()); },
     [](const Communicator& c, const Operands& o) {
       return count_wrong(o.all, [&](int64_t i) { return sum(c.world(), i); });
     }},
    {"all_gather", [](double n) { return (n - 1) / n; },
     [](Communicator& c, Exec& e, Operands& o) {
       c.all_gather(e, kLabel, o.mine_view(), o.all_view(), o.blocks);
     },
     [](const Communicator& c, const Operands& o) {
       int owner = 0;
       const auto count = static_cast<int64_t>(o.all.size());
       return count_wrong(o.all, [&](int64_t i) {
         while (part_of(count, owner, c.world()).end() <= i) ++owner;
         return value(owner, i);
       });
     }},
    {"reduce_scatter", [](double n) { return (n - 1) / n; },
     [](Communicator& c, Exec& e, Operands& o) {
       c.reduce_scatter(e, kLabel, o.all_view(), o.mine_view(), o.blocks);
     },
     [](const Communicator& c, const Operands& o) {
       return count_wrong(o.mine, [&](int64_t i) { return sum(c.world(), o.own.first + i); });
     }},
    {"broadcast", [](double) { return 1.0; },
     [](Communicator& c, Exec& e, Operands& o) { c.broadcast(e, kLabel, o.all_view(), 0); },
     [](const Communicator&, const Operands& o) {
       return count_wrong(o.all, [](int64_t i) { return value(0, i); });
     }},
    {"reduce", [](double) { return 1.0; },
     [](Communicator& c, Exec& e, Operands& o) { c.reduce(e, kLabel, o.all_view(), o.all_view(), 0); },
     [](const Communicator& c, const Operands& o) {
       return count_wrong(o.all,
                          [&](int64_t i) { return c.rank() == 0 ? sum(c.world(), i) : value(c.rank(), i); });
     }},
};

struct Row {
  const char* collective;
  int64_t bytes, count, wrong;
  double seconds;
};

// One line of the table on every rank: the time of a call, and the wrong elements of all ranks together.
Row measure(const Collective& collective, Communicator& comm, Exec& exec, int64_t bytes, double seconds) {
  Operands operands(comm.rank(), comm.world(), bytes / 4);
  const auto repeat = [&](int64_t times) {
    comm.barrier(exec);
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < times; ++i) collective.call(comm, exec, operands);
    exec.backend->synchronize(exec);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  operands.refill(comm.rank());
  float once[2] = {0, 0};  // summed over the ranks: wrong elements, and the time of a call
  once[1] = static_cast<float>(repeat(1));
  once[0] = static_cast<float>(collective.wrong(comm, operands));
  comm.all_reduce(exec, kLabel, View(once, {2}));
  exec.backend->synchronize(exec);
  const double mean = std::max(1e-7, static_cast<double>(once[1]) / comm.world());
  const auto times = static_cast<int64_t>(std::clamp(seconds / mean, 1.0, 10000.0));
  std::fill(operands.all.begin(), operands.all.end(), 0.0f);  // repeated sums stay finite
  const double spent = repeat(times);
  return {collective.name, bytes, bytes / 4, static_cast<int64_t>(once[0]),
          spent / static_cast<double>(times)};
}

void print_row(const Row& row, double bus_factor) {
  const double algbw = static_cast<double>(row.bytes) / row.seconds * 1e-9;
  std::printf("  %-16s%12lld%12lld%12.2f%12.2f%12.2f%10lld\n", row.collective,
              static_cast<long long>(row.bytes), static_cast<long long>(row.count), row.seconds * 1e6, algbw,
              algbw * bus_factor, static_cast<long long>(row.wrong));
  std::fflush(stdout);
}

// Every line of the table, on every rank; rank 0 prints.
std::vector<Row> run_rank(const Options& o, Communicator& comm) {
  const CpuQueuePointer queue = cpu_queue();
  Exec exec = cpu_queue_exec(*cpu_backends().front(), queue);
  std::vector<Row> rows;
  for (const Collective& collective : kCollectives) {
    if (!o.collectives.empty() &&
        std::find(o.collectives.begin(), o.collectives.end(), collective.name) == o.collectives.end())
      continue;
    for (int64_t bytes = o.min_bytes; bytes <= o.max_bytes; bytes *= 4) {
      rows.push_back(measure(collective, comm, exec, bytes, o.seconds));
      if (comm.rank() == 0) print_row(rows.back(), collective.bus_factor(comm.world()));
    }
  }
  return rows;
}

// The ranks that live in this process, by transport.
std::vector<std::unique_ptr<Communicator>> local_ranks(const Options& o) {
  const std::map<std::string, std::function<std::vector<std::unique_ptr<Communicator>>()>> transports = {
      {"threads", [&] { return thread_communicators(o.world); }},
      {"mpi", [] {
         if (mpi() == nullptr) input_error("--transport mpi: this build has no MPI");
         mpi()->init();
         std::vector<std::unique_ptr<Communicator>> one;
         one.push_back(mpi()->communicator());
         return one;
       }}};
  auto ranks = transports.at(o.transport)();
  if (o.link_gbps > 0)
    for (auto& comm : ranks)
      comm = std::make_unique<DelayLine>(std::move(comm), LinkSpeed{o.link_gbps, o.link_us},
                                         std::make_shared<Link>());
  return ranks;
}

int bench(const Options& o) {
  const auto ranks = local_ranks(o);
  const bool prints = ranks.front()->rank() == 0;
  if (prints) {
    std::printf("# bench_comm: convoy %s (%s), %s, %d ranks, %u cores", version(), commit(),
                o.transport.c_str(), ranks.front()->world(), std::thread::hardware_concurrency());
    if (o.link_gbps > 0) std::printf(", simulated links of %g GB/s, %g us a message", o.link_gbps, o.link_us);
    std::printf("\n# %-16s%12s%12s%12s%12s%12s%10s\n", "collective", "size", "count", "time", "algbw",
                "busbw", "#wrong");
    std::printf("# %-16s%12s%12s%12s%12s%12s%10s\n", "", "(B)", "(f32)", "(us)", "(GB/s)", "(GB/s)", "");
  }
  std::vector<std::vector<Row>> results(ranks.size());
  std::vector<std::thread> threads;
  std::mutex mutex;
  std::exception_ptr error;  // the first: the others are only told to end
  for (size_t r = 0; r < ranks.size(); ++r)
    threads.emplace_back([&, r] {
      try {
        results[r] = run_rank(o, *ranks[r]);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!error) error = std::current_exception();
        ranks[r]->abort();
      }
    });
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);

  if (o.transport == "mpi") mpi()->finalize();

  const std::vector<Row>& rows = results.front();
  int64_t wrong = 0;
  nlohmann::ordered_json list = nlohmann::json::array();
  for (const Row& row : rows) {
    wrong += row.wrong;
    list.push_back({{"collective", row.collective},
                    {"bytes", row.bytes},
                    {"seconds", row.seconds},
                    {"wrong", row.wrong}});
  }
  if (prints) std::printf("# %zu rows, %lld wrong\n", rows.size(), static_cast<long long>(wrong));
  if (prints && !o.json.empty()) {
    nlohmann::ordered_json file;
    file["bench"] = "bench_comm";
    file["commit"] = commit();
    file["compiler"] = compiler();
    file["transport"] = o.transport;
    file["world"] = ranks.front()->world();
    if (o.link_gbps > 0) file["link"] = {{"gb_per_second", o.link_gbps}, {"us_per_message", o.link_us}};
    file["rows"] = list;
    std::ofstream(o.json) << file.dump(1) << '\n';
  }
  return wrong == 0 && !rows.empty() ? 0 : 1;
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  convoy::Options o;
  CLI::App app("Time and bandwidth of the collectives.");
  app.add_option("--transport", o.transport, "how ranks talk")
      ->check(CLI::IsMember({"threads", "mpi"}))
      ->capture_default_str();
  app.add_option("--world", o.world, "ranks")->check(CLI::PositiveNumber)->capture_default_str();
  app.add_option("--collective", o.collectives, "which (default: all)")
      ->check(CLI::IsMember({"all_reduce", "all_gather", "reduce_scatter", "broadcast", "reduce"}));
  app.add_option("--min-bytes", o.min_bytes, "smallest size; the next is four times as large")
      ->check(CLI::Range(int64_t{4}, int64_t{1} << 36))
      ->capture_default_str();
  app.add_option("--max-bytes", o.max_bytes, "largest size")->capture_default_str();
  app.add_option("--seconds", o.seconds, "length of a measurement")->capture_default_str();
  CLI::Option* link =
      app.add_option("--link-gbps", o.link_gbps, "simulate links of so many GB/s (default: none)")
          ->check(CLI::PositiveNumber);
  app.add_option("--link-us", o.link_us, "what a message costs on them, us")
      ->needs(link)
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--json", o.json, "also write the rows here");
  CLI11_PARSE(app, argc, argv);
  try {
    return convoy::bench(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_comm: error: %s\n", error.what());
    return 1;
  }
}
