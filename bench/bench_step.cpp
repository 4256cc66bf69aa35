// Images per second of whole training steps (forward, loss, backward, SGD with momentum 0.9), data resident
// in memory.
//
// With --peer PYTHON the same net runs in PyTorch (bench/peers/torch_step.py) in turn with ours: round by
// round, so that other load on the machine falls on both; the ratio is that of the medians. With --profile
// each operation's share of the step.
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "convoy/philox.h"
#include "convoy/train.h"
#include "device.h"
#include "version.h"

namespace convoy {
namespace {

struct Problem {
  std::string name;  // the net, and after an @ which of its inputs; or FILE.net
  int64_t batch;
  Input image;
  int64_t classes;
};
// The table of peers: bench/peers/torch_step.py has the same.
const Problem kTable[] = {
    {"cifar_cnn", 32, {32, 32, 3}, 10}, {"cifar_cnn", 128, {32, 32, 3}, 10},
    {"mnist_cnn", 64, {28, 28, 1}, 10}, {"mlp", 64, {28, 28, 1}, 10},
    {"mlp", 1, {28, 28, 1}, 10},        {"vgg16", 128, {32, 32, 3}, 10},
    {"resnet18", 64, {32, 32, 3}, 10},  {"alexnet", 32, {224, 224, 3}, 1000},
};
const Problem kGpuTable[] = {
    {"vgg16@224", 256, {224, 224, 3}, 1000},    {"alexnet@224", 256, {224, 224, 3}, 1000},
    {"resnet18@224", 256, {224, 224, 3}, 1000}, {"vgg16@32", 256, {32, 32, 3}, 10},
    {"cifar_cnn@32", 256, {32, 32, 3}, 10},
};

struct Options {
  std::vector<std::string> nets;
  int64_t batch = 0;
  int threads = 1, rounds = 3;
  double seconds = 2, peer_seconds = 600;
  std::string isa = "auto", device = "cpu", precision, peer, peer_variants, json,
              peer_script = CONVOY_SOURCE_DIR "/bench/peers/torch_step.py";
  bool profile = false;
  const Cuda* cuda = nullptr;
};

double clock_seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

struct Ours {
  Net net;
  CudaQueuePointer queue;
  Exec exec;
  Model model;
  Tensor pixels, labels, index;  // where the model is
  Batch batch;
  int64_t step = 0;
  bool wrong = false;

  Ours(const Problem& p, const Options& o) {
    net = adapt_net(load_net(p.name.substr(0, p.name.find('@'))), p.image, p.classes);
    if (o.cuda != nullptr) queue = cuda_queue(*o.cuda, 0);
    exec = o.cuda != nullptr ? cuda_exec(*o.cuda, queue) : cpu_exec(cpu_backend(o.isa), o.threads);
    ModelOptions options;
    exec.tf32 = o.precision == "tf32";
    options.precision = o.precision == "bf16"  ? DType::kBF16
                        : o.precision == "f16" ? DType::kF16
                                               : DType::kF32;
    const auto channels = static_cast<size_t>(p.image.c);
    options.normalization = {std::vector<float>(channels, 0.5f), std::vector<float>(channels, 0.25f)};
    model = make_model(net, make_plan(net, p.batch), options, exec, {p.batch}, {});
    const Shape image{p.batch, p.image.h, p.image.w, p.image.c};
    std::vector<uint8_t> bytes(static_cast<size_t>(image.count()));
    for (size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<uint8_t>(philox(1, static_cast<uint32_t>(i), 0, 0, 0).v[0]);
    std::vector<int32_t> classes;
    for (int64_t n = 0; n < p.batch; ++n) classes.push_back(static_cast<int32_t>(n % p.classes));
    const auto put = [&](Tensor& tensor, DType type, const Shape& shape, const void* from) {
      tensor = Tensor(*exec.backend, type, shape);
      exec.backend->copy(exec, tensor.view().data, from, tensor.bytes());
      exec.backend->synchronize(exec);
    };
    put(pixels, DType::kU8, image, bytes.data());
    put(labels, DType::kI32, {p.batch}, classes.data());
    put(index, DType::kI32, {p.batch}, std::vector<int32_t>(classes.size()).data());
    batch.pixels = pixels.view();
    batch.labels = labels.view();
    batch.index = index.view();
    batch.rows = batch.global_rows = p.batch;
    for (int i = 0; i < 3; ++i) one();
  }
  void one() {
    const StepReport report = train_step(model, exec, batch, {step++, 0, 1e-4f});
    wrong = wrong || !std::isfinite(report.loss);
  }
  // images/s by the clock, and by processor time
  std::pair<double, double> rate(double seconds) {
    const double wall = clock_seconds(CLOCK_MONOTONIC), cpu = clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
    int64_t steps = 0;
    double spent = 0;
    do {
      one();
      ++steps;
      spent = clock_seconds(CLOCK_MONOTONIC) - wall;
    } while (spent < seconds);
    const auto images = static_cast<double>(steps * batch.rows);
    return {images / spent, images / (clock_seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu)};
  }
  void profile(double seconds) {
    const Program& program = model.train.at(batch.rows).front;
    std::vector<const Operation*> all;
    for (const auto* list : {&program.forward, &program.backward, &program.update})
      for (const Operation& operation : *list) all.push_back(&operation);
    std::vector<double> spent(all.size());
    double total = 0;
    while (total < seconds)
      for (size_t i = 0; i < all.size(); ++i) {
        const double start = clock_seconds(CLOCK_MONOTONIC);
        all[i]->run(exec);
        exec.backend->synchronize(exec);
        const double now = clock_seconds(CLOCK_MONOTONIC) - start;
        spent[i] += now;
        total += now;
      }
    std::printf("#   %-52s%10s\n", "operation", "share %");
    for (size_t i = 0; i < all.size(); ++i)
      std::printf("    %-52s%10.2f\n", all[i]->name.c_str(), 100 * spent[i] / total);
  }
};

struct Peer {
  std::string variant, version;
  double images_per_second = 0, images_per_cpu_second = 0;
};

// One run of the peer; its best variant, or the one asked for.
Peer run_peer(const Options& o, const Problem& p, const std::string& variant) {
  const std::string out =
      (std::filesystem::temp_directory_path() / text("convoy-peer-", getpid(), ".json")).string();
  const std::string command =
      text("timeout -k 5 ", std::ceil(o.peer_seconds), " \"", o.peer, "\" \"", o.peer_script, "\" --net ",
           p.name, " --batch ", p.batch, " --threads ", o.threads,
           o.cuda != nullptr ? " --device cuda --precision " + o.precision : std::string(), " --seconds ",
           o.seconds, " --repeats 1 ", variant.empty() ? std::string() : "--variants " + variant, " --json ",
           out, " >/dev/null");
  int status = -1;
  std::thread([&] {  // of its own: this thread is pinned, and the peer would be too
    cpu_unpin();
    status = std::system(command.c_str());
  })
      .join();
  CONVOY_CHECK(status == 0, "the peer ended with status ", status, ": ", command);
  nlohmann::json rows;
  std::ifstream(out) >> rows;
  std::filesystem::remove(out);
  if (rows.is_object()) rows = rows.at("rows");
  Peer best;
  for (const auto& row : rows)
    if (row.at("images_per_second") > best.images_per_second)
      best = {row.at("variant"), row.at("torch_version"), row.at("images_per_second"),
              row.value("images_per_cpu_second", 0.0)};
  return best;
}

std::vector<Problem> problems_of(const Options& o) {
  std::vector<Problem> table(std::begin(kTable), std::end(kTable)), found;
  if (o.cuda != nullptr) table.assign(std::begin(kGpuTable), std::end(kGpuTable));
  for (const Problem& p : table)
    if ((o.nets.empty() || std::find(o.nets.begin(), o.nets.end(), p.name) != o.nets.end()) &&
        (o.batch == 0 || o.batch == p.batch))
      found.push_back(p);
  for (const std::string& name : o.nets) {
    if (name.size() < 4 || name.compare(name.size() - 4, 4, ".net") != 0) continue;
    const Net net = load_net(name);
    found.push_back({name, o.batch > 0 ? o.batch : 128, net.input(), output_shapes(net, 1).back().row()});
  }
  return found;
}

// Ours, and the peer's in turn. A peer that fails leaves our figures.
nlohmann::ordered_json measure(const Options& o, const Problem& p, const std::string& device) {
  Ours ours(p, o);
  std::vector<double> rate, cpu_rate, peer_rate, peer_cpu_rate;
  Peer peer;
  bool has_peer = !o.peer.empty();
  for (int round = 0; round < o.rounds; ++round) {
    const auto [by_clock, by_cpu] = ours.rate(o.seconds);
    rate.push_back(by_clock);
    cpu_rate.push_back(by_cpu);
    if (!has_peer) continue;
    try {
      peer = run_peer(o, p, round == 0 ? o.peer_variants : peer.variant);
      peer_rate.push_back(peer.images_per_second);
      peer_cpu_rate.push_back(peer.images_per_cpu_second);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "bench_step: %s: %s\n", p.name.c_str(), error.what());
      has_peer = false;
    }
  }
  const double mine = median(rate), mine_cpu = median(cpu_rate), theirs = median(peer_rate),
               theirs_cpu = median(peer_cpu_rate);
  std::printf("  %-12s%8lld%14.1f%14.1f%8d", p.name.c_str(), static_cast<long long>(p.batch), mine, mine_cpu,
              ours.wrong ? 1 : 0);
  if (theirs > 0)
    std::printf("  %-24s%14.1f%14.1f%8.2f", peer.variant.c_str(), theirs, theirs_cpu, mine / theirs);
  if (theirs_cpu > 0) std::printf("%8.2f", mine_cpu / theirs_cpu);
  std::printf("\n");
  if (o.profile) ours.profile(o.seconds);
  std::fflush(stdout);
  nlohmann::ordered_json row = {
      {"net", p.name},      {"batch", p.batch},          {"threads", o.threads},
      {"backend", device},  {"images_per_second", mine}, {"images_per_cpu_second", mine_cpu},
      {"wrong", ours.wrong}};
  if (theirs > 0)
    row.update({{"peer", "PyTorch " + peer.version},
                {"peer_variant", peer.variant},
                {"peer_images_per_second", theirs},
                {"peer_images_per_cpu_second", theirs_cpu},
                {o.cuda != nullptr ? "ratio_to_pytorch" : "ratio", mine / theirs}});
  return row;
}

int bench(const Options& o) {
  const std::string device = o.cuda != nullptr ? device_text(o.cuda->describe(0)) + ", " + o.precision
                                               : text(cpu_backend(o.isa).name, ", ", o.threads, " threads");
  std::printf("# bench_step: convoy %s (%s), %s, median of %d rounds of %g s%s\n", version(), commit(),
              device.c_str(), o.rounds, o.seconds,
              o.cuda != nullptr && o.cuda->emulated ? "; EMULATED: the times mean nothing" : "");
  std::printf("# %-12s%8s%14s%14s%8s  %-24s%14s%14s%8s%8s\n", "net", "batch", "convoy", "convoy", "#wrong",
              "peer variant", "peer", "peer", "ratio", "cpu");
  std::printf("# %-12s%8s%14s%14s%8s  %-24s%14s%14s%8s%8s\n", "", "images", "images/s", "images/cpu-s", "",
              "", "images/s", "images/cpu-s", "", "ratio");
  nlohmann::ordered_json file;
  file["bench"] = "bench_step";
  file["commit"] = commit();
  file["compiler"] = compiler();
  file["rows"] = nlohmann::json::array();
  int wrong = 0, failed = 0;
  for (const Problem& p : problems_of(o)) {
    try {
      file["rows"].push_back(measure(o, p, device));
      wrong += file["rows"].back().at("wrong").get<bool>();
    } catch (const std::exception& error) {  // of this net alone
      std::printf("  %-12s%8lld failed: %s\n", p.name.c_str(), static_cast<long long>(p.batch), error.what());
      ++failed;
    }
    if (!o.json.empty()) std::ofstream(o.json) << file.dump(1) << '\n';
  }
  const size_t rows = file["rows"].size();
  std::printf("# %zu rows, %d wrong (loss not finite), %d failed\n", rows, wrong, failed);
  return wrong == 0 && failed == 0 && rows > 0 ? 0 : 1;
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  convoy::Options o;
  CLI::App app("Images per second of whole training steps.");
  app.add_option("--net", o.nets, "nets of the table (default: all), or FILE.net with its own input");
  app.add_option("--batch", o.batch, "only the problems of this batch size; of a FILE.net (default 128)");
  app.add_option("--threads", o.threads, "OpenMP threads")->capture_default_str();
  app.add_option("--rounds", o.rounds, "measurements, in turn with the peer's")->capture_default_str();
  app.add_option("--seconds", o.seconds, "length of a measurement")->capture_default_str();
  app.add_option("--device", o.device, "cpu, cuda: with nets of its own")->capture_default_str();
  app.add_option("--precision", o.precision, "on CUDA: f32, tf32, bf16, f16 (default: bf16)");
  app.add_option("--isa", o.isa, "auto, plain, avx2, avx512")->capture_default_str();
  app.add_option("--peer", o.peer, "a python with PyTorch: compare with bench/peers/torch_step.py");
  app.add_option("--peer-variants", o.peer_variants,
                 "of the peer's first round, \"nchw channels_last\"; then its best (default: all)");
  app.add_option("--peer-seconds", o.peer_seconds, "a run of the peer ends by then")->capture_default_str();
  app.add_option("--peer-script", o.peer_script, "the peer's script")->capture_default_str();
  app.add_flag("--profile", o.profile, "each operation's share of a step");
  app.add_option("--json", o.json, "also write the rows here");
  CLI11_PARSE(app, argc, argv);
  try {
    o.cuda = convoy::choose_device(o.device);
    if (o.precision.empty()) o.precision = o.cuda != nullptr ? "bf16" : "f32";
    if (o.cuda == nullptr && o.precision != "f32")
      convoy::input_error("--precision ", o.precision, ": the CPU computes in f32");
    return convoy::bench(o);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_step: error: %s\n", error.what());
    return 1;
  }
}
