// Speed of the convolution and fully connected kernels: GFLOP/s, share of the FMA peak, ratio to oneDNN.
//
// Ours and the peer run in turn, in one process; the figures are medians. A wrong result has no speed: exit
// status 1. With --device cuda: ops_cuda.cpp.
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "bench/ops_bench.h"
#include "convoy/backend.h"
#include "device.h"
#include "kernels/fc.h"

namespace convoy {

#define PEAK(isa)                                       \
  namespace cpu_##isa {                                 \
    double multiply_add(int64_t rounds, float* memory); \
  }
CONVOY_PEAKS
#undef PEAK

namespace bench {
namespace {

struct Options {
  std::string isa = "auto", shape, net, json;
  int threads = 1;
  int64_t batch = 0;
  double seconds = 0.3;
};

// One thread is timed by its processor time, which other programs on the machine leave alone; several by the
// clock.
double now(int threads) {
  timespec t;
  clock_gettime(threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Median seconds a call of each function, in turn.
std::vector<double> measure(const std::vector<std::function<void()>>& functions, int threads,
                            double seconds) {
  constexpr int kRounds = 9;
  std::vector<std::vector<double>> times(functions.size());
  std::vector<int64_t> calls;
  for (const auto& f : functions) {
    f();
    const double start = now(threads);
    f();
    const double once = std::max(now(threads) - start, 1e-7);
    calls.push_back(std::max<int64_t>(1, static_cast<int64_t>(seconds / kRounds / once)));
  }
  for (int round = 0; round < kRounds; ++round)
    for (size_t i = 0; i < functions.size(); ++i) {
      const double start = now(threads);
      for (int64_t j = 0; j < calls[i]; ++j) functions[i]();
      times[i].push_back((now(threads) - start) / static_cast<double>(calls[i]));
    }
  std::vector<double> medians;
  for (const auto& t : times) medians.push_back(median(t));
  return medians;
}

// GFLOP/s of multiply-adds in registers, on all threads at once.
double fma_peak(const std::string& isa, int threads) {
  double (*run)(int64_t, float*) = nullptr;
#define PEAK(name) \
  if (isa == #name) run = cpu_##name::multiply_add;
  CONVOY_PEAKS
#undef PEAK
  CONVOY_CHECK(run != nullptr, isa);
  std::vector<double> rates;
  for (int round = 0; round < 7; ++round) {
    constexpr int64_t kRounds = 4'000'000;
    std::vector<std::thread> others;
    double flop = 0;
    const double start = now(threads);
    for (int i = 1; i < threads; ++i)
      others.emplace_back([run] {
        alignas(64) float memory[32] = {};
        run(kRounds, memory);
      });
    alignas(64) float memory[32] = {};
    flop = run(kRounds, memory) * threads;
    for (std::thread& other : others) other.join();
    rates.push_back(flop / (now(threads) - start) / 1e9);
  }
  return median(rates);
}

// The operands of one problem in the backend's memory, and its three passes.
class Case {
 public:
  Case(const Backend& backend, Exec& exec, const Problem& problem)
      : exec_(exec), s_(problem.shape), fc_(problem.fc) {
    for (const Shape& shape : {s_.x(), s_.w(), Shape{s_.K}, s_.y(), s_.x(), s_.w(), Shape{s_.K}, s_.y()}) {
      tensors_.emplace_back(backend, DType::kF32, shape);
      float* data = reinterpret_cast<float*>(tensors_.back().view().data);
      uint32_t state = static_cast<uint32_t>(tensors_.size());
      for (int64_t i = 0; i < shape.count(); ++i) {
        state = state * 1664525u + 1013904223u;
        data[i] = static_cast<float>(state >> 8) / 8388608.0f - 1;
      }
    }
    const auto scratch = [&](Pass pass) {
      return fc_ ? (pass == kForward        ? backend.fc_forward_query(fc_forward(), exec.threads)
                    : pass == kBackwardData ? backend.fc_backward_data_query(fc_data(), exec.threads)
                                            : backend.fc_backward_weights_query(fc_weights(), exec.threads))
                       .scratch_bytes
                 : (pass == kForward        ? backend.conv_forward_query(forward(), exec.threads)
                    : pass == kBackwardData ? backend.conv_backward_data_query(data(), exec.threads)
                                            : backend.conv_backward_weights_query(weights(), exec.threads))
                       .scratch_bytes;
    };
    scratch_ = Tensor(
        backend, DType::kU8,
        Shape{std::max({scratch(kForward), scratch(kBackwardData), scratch(kBackwardWeights), int64_t{64}})});
    exec_.scratch = scratch_.view();
  }

  void run(Pass pass) {
    const Backend& b = *exec_.backend;
    if (fc_)
      pass == kForward        ? b.fc_forward(exec_, fc_forward())
      : pass == kBackwardData ? b.fc_backward_data(exec_, fc_data())
                              : b.fc_backward_weights(exec_, fc_weights());
    else
      pass == kForward        ? b.conv_forward(exec_, forward())
      : pass == kBackwardData ? b.conv_backward_data(exec_, data())
                              : b.conv_backward_weights(exec_, weights());
  }

  Operands operands() const {
    const auto result = [this](size_t i) { return [data = at(i).f32()](int64_t e) { return data[e]; }; };
    Operands o;
    o.x = {at(0).f32()};
    o.w = {at(1).f32()};
    o.bias = {at(2).f32()};
    o.dy = {at(7).f32()};
    o.y = result(3);
    o.dx = result(4);
    o.dw = result(5);
    o.db = result(6);
    return o;
  }

 private:
  const View& at(size_t i) const { return tensors_[i].view(); }
  View matrix(size_t i, int64_t columns) const { return at(i).reshaped({at(i).count() / columns, columns}); }
  ConvForward forward() const { return {s_, at(0), at(1), {at(2), false}, at(3), {}}; }
  ConvBackwardData data() const { return {s_, at(7), at(1), at(4), {}}; }
  ConvBackwardWeights weights() const { return {s_, at(0), at(7), at(5), at(6), true}; }
  FcForward fc_forward() const { return {matrix(0, s_.C), matrix(1, s_.C), {at(2), false}, matrix(3, s_.K)}; }
  FcBackwardData fc_data() const { return {matrix(7, s_.K), matrix(1, s_.C), matrix(4, s_.C), {}}; }
  FcBackwardWeights fc_weights() const {
    return {matrix(0, s_.C), matrix(7, s_.K), matrix(5, s_.C), at(6), true};
  }

  Exec& exec_;
  ConvShape s_;
  bool fc_;
  std::vector<Tensor> tensors_;
  Tensor scratch_;
};

int run(const Options& options) {
  const Backend& backend = cpu_backend(options.isa);
  const std::string isa = std::string(backend.name).substr(4);
  Exec exec = cpu_exec(backend, options.threads);
  const std::string peer = peer_open(isa, exec.threads);
  const double peak = fma_peak(isa, exec.threads);
  std::printf("# convoy bench_ops, %s, %d thread%s, FMA peak %.0f GFLOP/s measured now\n", backend.name,
              exec.threads, exec.threads == 1 ? "" : "s", peak);
  std::printf(
      "# peer: %s; bias on, no ReLU; FLOP count taps on padding too; medians of 9 alternating rounds, timed "
      "by %s\n",
      peer.empty() ? "none (oneDNN is not installed)"
                   : (peer + ", better of its layouts nhwc and any, held to " + isa).c_str(),
      exec.threads == 1 ? "processor time" : "the clock");
  std::printf("# %-12s %-18s %5s %-11s %10s %9s %6s %9s %6s %6s %7s\n", "net", "shape", "batch", "pass",
              "time", "ours", "peak", "peer", "layout", "ratio", "#wrong");
  std::printf("# %-12s %-18s %5s %-11s %10s %9s %6s %9s %6s %6s %7s\n", "", "", "", "", "us", "GFLOP/s", "%",
              "GFLOP/s", "", "", "");
  int64_t total_wrong = 0, rows = 0;
  double least_ratio = 1e9;
  nlohmann::json records = nlohmann::json::array();
  for (Problem problem : problems()) {
    if (problem.net.find(options.net) == std::string::npos ||
        problem.name.find(options.shape) == std::string::npos)
      continue;
    if (options.batch > 0) problem.shape.N = options.batch;
    Case ours(backend, exec, problem);
    for (const Pass pass : {kForward, kBackwardData, kBackwardWeights}) {
      if (pass == kBackwardData && problem.first) continue;
      ours.run(pass);
      const int64_t wrong = count_wrong(problem, pass, ours.operands());
      std::vector<PeerRun> peers = peer_runs(problem, pass);
      std::vector<std::function<void()>> functions{[&] { ours.run(pass); }};
      for (const PeerRun& p : peers) functions.push_back(p.run);
      const std::vector<double> seconds = measure(functions, exec.threads, options.seconds);
      const double rate = problem.flop() / seconds[0] / 1e9;
      size_t best = 0;
      for (size_t i = 1; i < seconds.size(); ++i)
        if (best == 0 || seconds[i] < seconds[best]) best = i;
      const double peer_rate = best > 0 ? problem.flop() / seconds[best] / 1e9 : 0;
      const std::string layout = best > 0 ? peers[best - 1].layout : "-";
      std::printf("  %-12s %-18s %5lld %-11s %10.1f %9.1f %6.1f %9.1f %6s %6.2f %7lld\n", problem.net.c_str(),
                  problem.name.c_str(), static_cast<long long>(problem.shape.N), kPassNames[pass],
                  seconds[0] * 1e6, rate, 100 * rate / peak, peer_rate, layout.c_str(),
                  best > 0 ? rate / peer_rate : 0.0, static_cast<long long>(wrong));
      std::fflush(stdout);
      total_wrong += wrong;
      ++rows;
      if (best > 0) least_ratio = std::min(least_ratio, rate / peer_rate);
      records.push_back({{"net", problem.net},
                         {"shape", problem.name},
                         {"batch", problem.shape.N},
                         {"pass", kPassNames[pass]},
                         {"seconds", seconds[0]},
                         {"gflops", rate},
                         {"peak_share", rate / peak},
                         {"peer_gflops", peer_rate},
                         {"peer_layout", layout},
                         {"wrong", wrong}});
    }
  }
  CONVOY_CHECK(rows > 0, "no shape matches --net '", options.net, "' --shape '", options.shape, "'");
  std::printf("# %lld rows, %lld wrong values", static_cast<long long>(rows),
              static_cast<long long>(total_wrong));
  if (least_ratio < 1e9) std::printf(", least ratio to the peer %.2f", least_ratio);
  std::printf("\n");
  if (!options.json.empty()) {
    std::ofstream file(options.json);
    file << nlohmann::json{{"bench", "ops"},
                           {"backend", backend.name},
                           {"threads", exec.threads},
                           {"peak_gflops", peak},
                           {"peer", peer},
                           {"rows", records}}
                .dump(1)
         << "\n";
    CONVOY_CHECK(file.good(), "cannot write ", options.json);
  }
  return total_wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bench
}  // namespace convoy

int main(int argc, char** argv) {
  convoy::bench::Options options;
  convoy::bench::CudaOptions cuda;
  cuda.peer_script = CONVOY_SOURCE_DIR "/bench/peers/torch_ops.py";
  std::string device = "cpu";
  CLI::App app{"Speed of the convolution and fully connected kernels"};
  app.add_option("--device", device, "cpu, or cuda: every layer of whole nets")->capture_default_str();
  app.add_option("--isa", options.isa, "auto, plain, avx2 or avx512")->capture_default_str();
  app.add_option("--threads", options.threads, "OpenMP threads")->capture_default_str();
  app.add_option("--batch", options.batch, "images, in place of each shape's own (on CUDA: 256)");
  app.add_option(
      "--net", options.net,
      "only nets whose name contains this; on CUDA: NAME|FILE.net,... (default: " + cuda.nets + ")");
  app.add_option("--shape", options.shape, "only shapes (on CUDA: layers) whose name contains this");
  app.add_option("--seconds", options.seconds, "time for each row and implementation (on CUDA: 0.05)")
      ->capture_default_str();
  app.add_option("--json", options.json, "also write the figures to this file");
  app.add_option("--precision", cuda.precision, "on CUDA: f32, tf32, bf16, f16")->capture_default_str();
  app.add_option("--peer", cuda.peer, "on CUDA: a python with PyTorch, for bench/peers/torch_ops.py");
  app.add_option("--peer-script", cuda.peer_script, "the peer's script")->capture_default_str();
  app.add_option("--peer-seconds", cuda.peer_seconds, "the peer ends by then, with what it has")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    const convoy::Cuda* const found = convoy::choose_device(device);
    if (found == nullptr) return convoy::bench::run(options);
    if (!options.net.empty()) cuda.nets = options.net;
    if (options.batch > 0) cuda.batch = options.batch;
    if (app.count("--seconds") > 0) cuda.seconds = options.seconds;
    cuda.layer = options.shape;
    cuda.json = options.json;
    return convoy::bench::run_cuda(*found, cuda);
  } catch (const convoy::InputError& error) {
    std::fprintf(stderr, "bench_ops: %s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_ops: %s\n", error.what());
    return 1;
  }
}
