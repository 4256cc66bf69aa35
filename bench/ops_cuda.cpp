// bench_ops --device cuda: forward, backward data and backward weights of every convolution and fully connected layer of
// whole nets, timed by the device, beside what it can do at most.
//
// A floor is the time that the operations take at the speed of a large product of matrices (cuBLAS, this precision), or
// the bytes of the operands at the speed of copies on the device, whichever is longer; both speeds are measured first.
// Results are checked on whole numbers, whose sums are exact; speed is measured on others, which cost a chip more power.
// A layer that fails takes its rows along, and no others. The JSON file is written anew after each row.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "bench/ops_peer.h"
#include "convoy/net.h"
#include "device.h"
#include "kernels/cast.h"
#include "kernels/fc.h"
#include "kernels/relu.h"
#include "version.h"

namespace convoy::bench {
namespace {

constexpr int64_t kBlock = 1000003;  // elements that repeat in every operand: a prime
constexpr int64_t kCheckedTerms = 10'000'000;

using Json = nlohmann::ordered_json;

struct Device {
  Device(const Cuda& c, const std::string& precision)
      : cuda(c), queue(cuda_queue(c, 0)), exec(cuda_exec(c, queue)), clock(c) {
    exec.tf32 = precision == "tf32";
    dtype = precision == "bf16" ? DType::kBF16 : precision == "f16" ? DType::kF16 : DType::kF32;
    if (dtype == DType::kF32 && precision != "f32" && precision != "tf32")
      input_error("--precision ", precision, ": expected one of f32, tf32, bf16, f16");
  }
  double half_unit() const { return dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0; }

  // Median seconds of a call, as the device takes for some in a row.
  double measure(const std::function<void()>& call, double seconds) {
    constexpr int kRounds = 5;
    const auto time = [&](int64_t calls) {
      clock.restart();
      const size_t from = clock.point(exec);
      for (int64_t i = 0; i < calls; ++i) call();
      const size_t to = clock.point(exec);
      exec.backend->synchronize(exec);
      return clock.seconds(from, to) / static_cast<double>(calls);
    };
    time(1);  // cuBLAS makes its choice
    const double once = std::max(time(1), 1e-6);
    const int64_t calls = std::clamp<int64_t>(static_cast<int64_t>(seconds / kRounds / once), 1, 1000);
    std::vector<double> times;
    for (int round = 0; round < kRounds; ++round) times.push_back(time(calls));
    std::sort(times.begin(), times.end());
    return times[kRounds / 2];
  }

  const Cuda& cuda;
  CudaQueuePointer queue;
  Exec exec;
  DeviceClock clock;
  DType dtype;
};

// A block of numbers in f32, and the operands made of it.
class Fill {
 public:
  Fill(Device& device, bool whole) : device_(device), values_(kBlock) {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    for (float& v : values_)
      v = whole ? static_cast<float>(static_cast<int>(random() % 3) - 1) : normal(random);
    staged_ = Tensor::on_host(*device.exec.backend, DType::kF32, {kBlock});
    std::copy(values_.begin(), values_.end(), staged_.view().f32());
  }
  void operator()(const View& view) const {
    Exec& exec = device_.exec;
    const int64_t element = dtype_bytes(view.dtype), first = std::min(kBlock, view.count());
    const View block(view.data, view.dtype, {first});
    if (view.dtype == DType::kF32)
      exec.backend->copy(exec, view.data, staged_.view().data, first * element);
    else
      run(exec, CastArgs{staged_.view().slice_rows(0, first), block});
    for (int64_t filled = first; filled < view.count();) {  // twice as much each time
      const int64_t more = std::min(filled, view.count() - filled);
      exec.backend->copy(exec, view.data + filled * element, view.data, more * element);
      filled += more;
    }
  }
  const float* values() const { return values_.data(); }

 private:
  Device& device_;
  std::vector<float> values_;
  Tensor staged_;
};

float to_float(const std::byte* bits, DType dtype) {
  uint16_t half = 0;
  float value = 0;
  if (dtype == DType::kF32) {
    std::memcpy(&value, bits, 4);
    return value;
  }
  std::memcpy(&half, bits, 2);
  if (dtype == DType::kBF16) {
    const uint32_t word = static_cast<uint32_t>(half) << 16;
    std::memcpy(&value, &word, 4);
    return value;
  }
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  value = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
          : exponent == 31 ? (fraction != 0 ? NAN : INFINITY)
                           : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return (half & 0x8000) != 0 ? -value : value;
}

// The operands of one layer on the device, and its three passes.
class DeviceCase {
 public:
  DeviceCase(Device& device, const Problem& problem) : device_(device), s_(problem.shape), problem_(problem) {
    const Backend& backend = *device.exec.backend;
    const auto make = [&](const Shape& shape, DType dtype) { return Tensor(backend, dtype, shape); };
    const DType t = device.dtype;
    x_ = make(s_.x(), t), w_ = make(s_.w(), t), y_ = make(s_.y(), t), dy_ = make(s_.y(), t);
    if (!problem.first) dx_ = make(s_.x(), t);
    dw_ = make(s_.w(), DType::kF32);
    if (problem.bias) {
      bias_ = make({s_.K}, DType::kF32);
      db_ = make({s_.K}, DType::kF32);
    }
    int64_t bytes = 64;
    for (const Pass pass : {kForward, kBackwardData, kBackwardWeights})
      each(pass, [&](const auto& args) {
        bytes = std::max(bytes, supports(backend, args, device.exec.threads).scratch_bytes);
      });
    scratch_ = make({bytes}, DType::kU8);
    device.exec.scratch = scratch_.view();
  }

  void fill(const Fill& with) const {
    for (const Tensor* tensor : {&x_, &w_, &dy_, &bias_})
      if (!tensor->view().empty()) with(tensor->view());
    device_.exec.backend->synchronize(device_.exec);
  }
  void pass(Pass pass) {
    each(pass, [&](const auto& args) { run(device_.exec, args); });
  }
  // Bytes that a pass reads and writes at least.
  double bytes(Pass pass) const {
    const auto all = [](std::initializer_list<const Tensor*> tensors) {
      int64_t sum = 0;
      for (const Tensor* tensor : tensors) sum += tensor->bytes();
      return static_cast<double>(sum);
    };
    return pass == kForward        ? all({&x_, &w_, &bias_, &y_})
           : pass == kBackwardData ? all({&dy_, &w_, &dx_})
                                   : all({&x_, &dy_, &dw_, &db_});
  }
  Operands operands(const Fill& with) const {
    const auto result = [this](const Tensor& tensor) {
      return [this, view = tensor.view()](int64_t i) {
        std::byte bits[4] = {};
        const int64_t element = dtype_bytes(view.dtype);
        device_.exec.backend->copy(device_.exec, bits, view.data + i * element, element);
        device_.exec.backend->synchronize(device_.exec);
        return to_float(bits, view.dtype);
      };
    };
    Operands o;
    o.x = o.w = o.dy = {with.values(), kBlock};
    if (problem_.bias) o.bias = {with.values(), kBlock};
    o.y = result(y_);
    o.dx = result(dx_);
    o.dw = result(dw_);
    if (problem_.bias) o.db = result(db_);
    o.exact = true;
    o.half_unit = device_.half_unit();
    o.most_terms = kCheckedTerms;
    return o;
  }

 private:
  static View matrix(const Tensor& tensor, int64_t columns) {
    const View& v = tensor.view();
    return v.empty() ? v : v.reshaped({v.count() / columns, columns});
  }
  template <class F>
  void each(Pass pass, const F& f) const {
    if (problem_.fc) {
      if (pass == kForward)
        f(FcForward{matrix(x_, s_.C), matrix(w_, s_.C), {bias_.view(), false}, matrix(y_, s_.K)});
      if (pass == kBackwardData)
        f(FcBackwardData{matrix(dy_, s_.K), matrix(w_, s_.C), matrix(dx_, s_.C), {}});
      if (pass == kBackwardWeights)
        f(FcBackwardWeights{matrix(x_, s_.C), matrix(dy_, s_.K), matrix(dw_, s_.C), db_.view(), true});
      return;
    }
    if (pass == kForward) f(ConvForward{s_, x_.view(), w_.view(), {bias_.view(), false}, y_.view(), {}});
    if (pass == kBackwardData) f(ConvBackwardData{s_, dy_.view(), w_.view(), dx_.view(), {}});
    if (pass == kBackwardWeights)
      f(ConvBackwardWeights{s_, x_.view(), dy_.view(), dw_.view(), db_.view(), true});
  }

  Device& device_;
  ConvShape s_;
  const Problem& problem_;
  Tensor x_, w_, bias_, y_, dy_, dx_, dw_, db_, scratch_;
};

// What the device does at most: FLOP/s of a large product, bytes/s of copies.
struct Peaks {
  double flops = 0, bytes = 0;
};

Peaks measure_peaks(Device& device, const Fill& random, double seconds) {
  const int64_t side = device.cuda.emulated ? 32 : 8192;
  Problem square{"", "", true, false, {side, 1, 1, side, side, 1, 1, 1, 1, 0, 0}, false, 1};
  Peaks peaks;
  {
    DeviceCase product(device, square);
    product.fill(random);
    peaks.flops = square.flop() / device.measure([&] { product.pass(kForward); }, 4 * seconds);
  }
  const int64_t elements = device.cuda.emulated ? 1024 : int64_t{1} << 28;
  const Tensor from(*device.exec.backend, DType::kF32, {elements}),
      to(*device.exec.backend, DType::kF32, {elements});
  random(from.view());
  const double copied = device.measure(
      [&] { device.exec.backend->copy(device.exec, to.view().data, from.view().data, 4 * elements); },
      seconds);
  const double passed = device.measure(
      [&] {
        run(device.exec, ReluForward{from.view(), to.view()});
      },
      seconds);
  peaks.bytes = 8.0 * static_cast<double>(elements) / std::min(copied, passed);
  return peaks;
}

// Layers of equal shape are one problem.
std::vector<Problem> problems_of(const Net& net, const CudaOptions& options) {
  std::vector<Problem> all;
  const std::vector<Shape> shapes = output_shapes(net, options.batch);
  for (size_t i = 0; i < net.layers.size(); ++i) {
    const Layer& layer = net.layers[i];
    if (layer.name.find(options.layer) == std::string::npos) continue;
    Problem p;
    p.net = net.name;
    p.name = layer.name;
    if (const auto* conv = std::get_if<Conv>(&layer.spec)) {
      const Shape& x = shapes[static_cast<size_t>(layer.inputs[0])];
      p.shape = {x[0],    x[1],           x[2],           x[3],        conv->filters, conv->r,
                 conv->s, conv->stride_h, conv->stride_w, conv->pad_h, conv->pad_w};
      p.bias = conv->bias;
    } else if (const auto* fc = std::get_if<Fc>(&layer.spec)) {
      p.fc = true;
      p.shape = {options.batch,
                 1,
                 1,
                 shapes[static_cast<size_t>(layer.inputs[0])].row(),
                 fc->outputs,
                 1,
                 1,
                 1,
                 1,
                 0,
                 0};
      p.bias = fc->bias;
    } else {
      continue;
    }
    p.first = layer.inputs[0] == 0;
    const auto same = std::find_if(all.begin(), all.end(), [&](const Problem& other) {
      const ConvShape &a = p.shape, &b = other.shape;
      return p.fc == other.fc && p.first == other.first && p.bias == other.bias && a.x() == b.x() &&
             a.w() == b.w() && a.stride_h == b.stride_h && a.stride_w == b.stride_w && a.pad_h == b.pad_h &&
             a.pad_w == b.pad_w;
    });
    if (same == all.end())
      all.push_back(p);
    else
      ++same->layers;
  }
  return all;
}

class Table {
 public:
  Table(Device& device, const CudaOptions& options) : device_(device), options_(options) {
    const std::string name = device_text(device.cuda.describe(0));
    std::printf("# convoy bench_ops %s (%s), %s, %s, batch %lld%s\n", version(), commit(), name.c_str(),
                options.precision.c_str(), static_cast<long long>(options.batch),
                device.cuda.emulated ? "; EMULATED: the times mean nothing" : "");
    file_ = {{"bench", "bench_ops"},
             {"commit", commit()},
             {"device", name},
             {"emulated", device.cuda.emulated},
             {"precision", options.precision},
             {"batch", options.batch},
             {"rows", Json::array()}};
  }
  void peaks(const Peaks& peaks, const std::string& peer) {
    peaks_ = peaks;
    std::printf(
        "# a product of %d x %d matrices runs at %.1f TFLOP/s, copies at %.2f TB/s (read and written)\n",
        device_.cuda.emulated ? 32 : 8192, device_.cuda.emulated ? 32 : 8192, peaks.flops / 1e12,
        peaks.bytes / 1e12);
    std::printf(
        "# floor: of operations at that speed (C) or of the operands' bytes (M), the longer; peer: %s\n",
        peer.c_str());
    std::printf(
        "# bias where the layer has one, no ReLU; taps on padding count; weights' gradients are f32\n");
    std::printf("# %-10s %-24s %6s %-11s %10s %9s %6s %10s %1s %6s %10s %6s %7s\n", "net", "layer", "layers",
                "pass", "time", "speed", "peak", "floor", "", "floor", "peer", "ratio", "#wrong");
    std::printf("# %-10s %-24s %6s %-11s %10s %9s %6s %10s %1s %6s %10s %6s %7s\n", "", "", "", "", "us",
                "TFLOP/s", "%", "us", "", "%", "us", "", "");
    file_["peak_tflops"] = peaks.flops / 1e12;
    file_["bytes_per_second"] = peaks.bytes;
    file_["peer"] = peer;
    write();
  }
  void row(const Problem& p, Pass pass, double seconds, double bytes, double peer_seconds, int64_t wrong) {
    const double by_flop = p.flop() / peaks_.flops, by_bytes = bytes / peaks_.bytes,
                 floor = std::max(by_flop, by_bytes), ratio = peer_seconds > 0 ? peer_seconds / seconds : 0;
    const bool compute = by_flop >= by_bytes;
    std::printf("  %-10s %-24s %6lld %-11s %10.1f %9.1f %6.1f %10.1f %1s %6.1f %10s %6s %7lld\n",
                p.net.c_str(), p.name.c_str(), static_cast<long long>(p.layers), kPassNames[pass],
                seconds * 1e6, p.flop() / seconds / 1e12, 100 * p.flop() / seconds / peaks_.flops,
                floor * 1e6, compute ? "C" : "M", 100 * floor / seconds,
                peer_seconds > 0 ? number(peer_seconds * 1e6, 1).c_str() : "-",
                ratio > 0 ? number(ratio, 2).c_str() : "-", static_cast<long long>(wrong));
    std::fflush(stdout);
    const ConvShape& s = p.shape;
    Json json = key(p, pass);
    json.update({{"x", {s.N, s.H, s.W, s.C}},
                 {"w", {s.K, s.R, s.S, s.C}},
                 {"stride", s.stride_h},
                 {"pad", s.pad_h},
                 {"seconds", seconds},
                 {"tflops", p.flop() / seconds / 1e12},
                 {"peak_share", p.flop() / seconds / peaks_.flops},
                 {"floor_seconds", floor},
                 {"floor_share", floor / seconds},
                 {"bound", compute ? "compute" : "memory"},
                 {"flop", p.flop()},
                 {"bytes", bytes},
                 {"wrong", wrong}});
    if (peer_seconds > 0) json.update({{"peer_seconds", peer_seconds}, {"ratio_to_peer", ratio}});
    add(std::move(json));
    wrong_ += wrong;
    const auto times = static_cast<double>(p.layers);
    seconds_ += times * seconds, floor_ += times * floor;
    if (peer_seconds > 0) peer_ += times * peer_seconds, both_ += times * seconds;
  }
  void failed(const Problem& p, const std::string& why) {
    std::printf("  %-10s %-24s failed: %s\n", p.net.c_str(), p.name.c_str(), why.c_str());
    std::fflush(stdout);
    Json json = key(p, kForward);
    json.erase("pass");
    json["error"] = why;
    add(std::move(json));
    ++failed_;
  }
  int finish() {
    std::printf("# %zu rows, %lld wrong values, %lld layers failed", file_["rows"].size(),
                static_cast<long long>(wrong_), static_cast<long long>(failed_));
    if (seconds_ > 0)
      std::printf("; all layers and passes %.3f ms, floor %.3f ms (%.0f %%)", 1e3 * seconds_, 1e3 * floor_,
                  100 * floor_ / seconds_);
    if (peer_ > 0) std::printf("; the peer's time / ours: %.2f", peer_ / both_);
    std::printf("\n");
    const bool good = wrong_ == 0 && failed_ == 0 && seconds_ > 0;
    file_["seconds"] = seconds_, file_["floor_seconds"] = floor_;
    if (peer_ > 0) file_["ratio_to_peer"] = peer_ / both_;
    write();
    return good ? 0 : 1;
  }

 private:
  static std::string number(double value, int digits) {
    char text[32];
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
  }
  static Json key(const Problem& p, Pass pass) {
    return {{"net", p.net}, {"layer", p.name}, {"layers", p.layers}, {"pass", kPassNames[pass]}};
  }
  void add(Json row) {
    file_["rows"].push_back(std::move(row));
    write();
  }
  void write() const {
    if (options_.json.empty()) return;
    std::ofstream out(options_.json);
    out << file_.dump(1, ' ', false, Json::error_handler_t::replace) << "\n";
    CONVOY_CHECK(out.good(), "cannot write ", options_.json);
  }

  Device& device_;
  const CudaOptions& options_;
  Json file_;
  Peaks peaks_;
  int64_t wrong_ = 0, failed_ = 0;
  double seconds_ = 0, floor_ = 0, peer_ = 0,
         both_ = 0;  // of a step's layers; ours where the peer has a time
};

void measure_problem(Device& device, const Problem& problem, const Fill& whole, const Fill& random,
                     double seconds, const PeerTimes& peer, Table& table) {
  DeviceCase layer(device, problem);
  for (const Pass pass : {kForward, kBackwardData, kBackwardWeights}) {
    if (pass == kBackwardData && problem.first) continue;
    layer.fill(whole);
    layer.pass(pass);
    device.exec.backend->synchronize(device.exec);
    const int64_t wrong = count_wrong(problem, pass, layer.operands(whole));
    layer.fill(random);
    const double time = device.measure([&] { layer.pass(pass); }, seconds);
    table.row(problem, pass, time, layer.bytes(pass), peer.seconds(problem, pass), wrong);
  }
}

}  // namespace

int run_cuda(const Cuda& cuda, const CudaOptions& options) {
  std::vector<Problem> problems;
  std::istringstream names(options.nets);
  for (std::string name; std::getline(names, name, ',');) {
    const std::vector<Problem> more = problems_of(load_net(name), options);
    problems.insert(problems.end(), more.begin(), more.end());
  }
  if (problems.empty())
    input_error("--net ", options.nets, " --shape ", options.layer,
                ": no convolution or fully connected layer");
  Device device(cuda, options.precision);
  Table table(device, options);
  const Fill whole(device, true), random(device, false);
  const PeerTimes peer = run_ops_peer(options, problems);  // before ours: the device is free
  table.peaks(measure_peaks(device, random, options.seconds), peer.name);
  for (const Problem& problem : problems) {
    try {
      measure_problem(device, problem, whole, random, options.seconds, peer, table);
    } catch (const std::exception& error) {
      table.failed(problem, error.what());
    }
  }
  return table.finish();
}

}  // namespace convoy::bench
