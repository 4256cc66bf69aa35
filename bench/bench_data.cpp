// Images per second of every reader: from the data set on one thread ("read"), and through the loader,
// shuffled, as a trainer takes them ("loader"). Augmentation is part of a step's first operation, not of the
// readers.
//   bench_data [--mnist DIR] [--cifar10 DIR] [--cifar100 DIR] [--folder DIR] [--threads N] [--seconds S]
//   [--json FILE]
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "convoy/data.h"

namespace {

using namespace convoy;

struct Time {
  double wall = 0, cpu = 0;
};
Time now() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return {std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
          seconds(usage.ru_utime) + seconds(usage.ru_stime)};
}

struct Result {
  std::string data, how;
  int64_t images = 0, bytes = 0, wrong = 0;
  double wall = 0, cpu = 0;
};

uint64_t checksum(const uint8_t* bytes, int64_t count) {
  uint64_t hash = 14695981039346656037u;
  for (int64_t i = 0; i < count; i += 61) hash = (hash ^ bytes[i]) * 1099511628211u;
  return hash;
}

Result time_read(const std::string& name, const DataSet& set, double seconds) {
  const int64_t bytes = set.image.h * set.image.w * set.image.c;
  std::vector<uint8_t> pixels(static_cast<size_t>(bytes));
  const std::vector<int32_t> order = epoch_order(set.count(), 1, 0, true);
  Result result{name, "read", 0, bytes, 0, 0, 0};
  const Time start = now();
  for (Time t = start; t.wall - start.wall < seconds; t = now())
    for (int i = 0; i < 32; ++i)
      set.read(order[static_cast<size_t>(result.images++ % set.count())], pixels.data());
  const Time end = now();
  result.wall = end.wall - start.wall;
  result.cpu = end.cpu - start.cpu;
  return result;
}

Result time_loader(const std::string& name, const DataSet& set, int threads, double seconds) {
  const int64_t bytes = set.image.h * set.image.w * set.image.c;
  Loader::Options options;
  options.threads = threads;
  Loader loader(set, options);
  Result result{name, text("loader-", threads), 0, bytes, 0, 0, 0};
  std::vector<uint8_t> again(static_cast<size_t>(bytes));
  double checking_wall = 0, checking_cpu = 0;
  const Time start = now();
  Time t = start;
  for (int64_t epoch = 0; t.wall - start.wall < seconds; ++epoch) {
    loader.start(epoch);
    while (const Batch* batch = loader.next()) {
      result.images += batch->rows;
      t = now();
      if (t.wall - start.wall >= seconds) break;
      if (result.images / batch->rows % 16 != 1) continue;
      // One row of every 16th batch is compared with what the data set gives.
      const int64_t row = batch->rows / 2;
      set.read(batch->index.as<int32_t>()[row], again.data());
      result.wrong +=
          checksum(again.data(), bytes) != checksum(batch->pixels.as<uint8_t>() + row * bytes, bytes);
      const Time checked = now();
      checking_wall += checked.wall - t.wall;
      checking_cpu += checked.cpu - t.cpu;
    }
  }
  const Time end = now();
  result.wall = end.wall - start.wall - checking_wall;
  result.cpu = end.cpu - start.cpu - checking_cpu;
  return result;
}

}  // namespace

int main(int argc, char** argv) try {
  CLI::App app("Images per second of every reader");
  std::string mnist, cifar10, cifar100, folder, json;
  int threads = 1;
  double seconds = 1;
  app.add_option("--mnist", mnist, "folder of MNIST's files");
  app.add_option("--cifar10", cifar10, "folder of CIFAR-10's files");
  app.add_option("--cifar100", cifar100, "folder of CIFAR-100's files");
  app.add_option("--folder", folder, "folder with train/<class>/ and val/<class>/");
  app.add_option("--threads", threads, "reading threads of the loader (default 1)")
      ->check(CLI::Range(1, 256));
  app.add_option("--seconds", seconds, "time for each line (default 1)");
  app.add_option("--json", json, "also write the results to this file");
  CLI11_PARSE(app, argc, argv);

  std::vector<DataOptions> sources(2);
  sources[1].name = "synthetic:224x224x3:1000";
  const auto add = [&sources](const std::string& name, const std::string& dir) {
    if (dir.empty()) return;
    sources.emplace_back();
    sources.back().name = name;
    sources.back().dir = dir;
  };
  add("mnist", mnist);
  add("cifar10", cifar10);
  add("cifar100", cifar100);
  add(folder, folder);

  std::printf("# bench_data: batch 128, shuffled, %d loader thread%s\n", threads, threads == 1 ? "" : "s");
  std::printf("# %-38s %10s %10s %10s %12s %12s %7s\n", "data", "how", "load", "bytes", "throughput",
              "per cpu", "#wrong");
  std::printf("# %-38s %10s %10s %10s %12s %12s %7s\n", "", "", "s", "an image", "images/s", "images/cpu-s",
              "");
  nlohmann::json rows = nlohmann::json::array();
  int64_t wrong = 0;
  for (const DataOptions& source : sources) {
    const Time before = now();
    const DataSets sets = load_data(source);
    const double load = now().cpu - before.cpu;
    for (const Result& r : {time_read(source.name, sets.train, seconds),
                            time_loader(source.name, sets.train, threads, seconds)}) {
      const double per_second = static_cast<double>(r.images) / r.wall,
                   per_cpu = static_cast<double>(r.images) / r.cpu;
      const std::string name = r.data.size() > 38 ? "..." + r.data.substr(r.data.size() - 35) : r.data;
      std::printf("  %-38s %10s %10.3f %10lld %12.0f %12.0f %7lld\n", name.c_str(), r.how.c_str(), load,
                  static_cast<long long>(r.bytes), per_second, per_cpu, static_cast<long long>(r.wrong));
      rows.push_back({{"data", source.name},
                      {"how", r.how},
                      {"threads", threads},
                      {"load_cpu_seconds", load},
                      {"image_bytes", r.bytes},
                      {"images_per_second", per_second},
                      {"images_per_cpu_second", per_cpu},
                      {"wrong", r.wrong}});
      wrong += r.wrong;
    }
  }
  std::printf("# %s\n",
              wrong == 0 ? "every compared image was right" : "WRONG images: the figures above mean nothing");
  if (!json.empty()) {
    std::ofstream out(json);
    out << nlohmann::json{{"bench", "data"}, {"results", rows}}.dump(2) << "\n";
    if (!out.flush()) input_error("--json ", json, ": cannot be written");
  }
  return wrong == 0 ? 0 : 1;
} catch (const convoy::InputError& error) {
  std::fprintf(stderr, "bench_data: %s\n", error.what());
  return 2;
} catch (const std::exception& error) {
  std::fprintf(stderr, "bench_data: %s\n", error.what());
  return 1;
}
