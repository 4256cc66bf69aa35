#include <algorithm>
#include <array>
#include <cmath>

#include "convoy/philox.h"
#include "convoy/train.h"
#include "kernels/fill.h"
#include "lower.h"

namespace convoy {
namespace {

// A tensor starts on a cache line; the padding is zero and stays zero under every update.
constexpr int64_t kAlignElements = 16;
int64_t aligned(int64_t count) {
  return (count + kAlignElements - 1) / kAlignElements * kAlignElements;
}

int64_t arena_elements(const std::vector<ParameterSpec>& specs, bool buffers) {
  int64_t elements = 0;
  for (const ParameterSpec& spec : specs)
    if (spec.buffer() == buffers) elements += aligned(spec.shape.count());
  return elements;
}

// One view a spec, in order, behind each other; empty for those of the other kind.
std::vector<View> slice(const std::vector<ParameterSpec>& specs, bool buffers, std::byte* arena) {
  std::vector<View> views;
  for (const ParameterSpec& spec : specs) {
    if (spec.buffer() != buffers) {
      views.emplace_back();
      continue;
    }
    views.emplace_back(arena, DType::kF32, spec.shape);
    arena += aligned(spec.shape.count()) * dtype_bytes(DType::kF32);
  }
  return views;
}

int state_kinds(const ModelOptions& options) {
  if (!options.training) return 0;
  if (options.optimizer.kind == OptimizerKind::kAdamw) return 2;
  return options.optimizer.momentum != 0 ? 1 : 0;
}

Tensor zeros(const Backend& backend, Exec& exec, const char* arena, int64_t elements) {
  try {
    Tensor tensor(backend, DType::kF32, {elements});
    run(exec, FillArgs{0, tensor.view()});  // first touched by the threads that will use it
    return tensor;
  } catch (const Error& e) {
    throw Error(text("no memory for the ", arena, ": ", e.what()));
  }
}

float initial_value(const ParameterSpec& spec, float random) {
  switch (spec.role) {
    case ParameterSpec::kGamma:
    case ParameterSpec::kRunningVar:
      return 1;
    case ParameterSpec::kBeta:
    case ParameterSpec::kRunningMean:
      return 0;
    case ParameterSpec::kWeight:
    case ParameterSpec::kBias:
      break;
  }
  return (2 * random - 1) * static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.fan_in)));
}

// In parts: the largest tensor of a net can be most of its memory.
void initialize(Model& model, Exec& exec) {
  constexpr int64_t kPart = 4096;
  std::array<float, kPart> part;
  for (size_t i = 0; i < model.specs.size(); ++i) {
    const int64_t elements = model.specs[i].shape.count();
    for (int64_t first = 0; first < elements; first += kPart) {
      const int64_t count = std::min(kPart, elements - first);
      for (int64_t j = 0; j < count; j += 4) {
        const Philox4 random = philox(model.options.seed, static_cast<uint32_t>((first + j) / 4), 0, 0,
                                      kInitStream + static_cast<uint32_t>(i));
        for (int64_t k = 0; k < 4 && j + k < count; ++k)
          part[static_cast<size_t>(j + k)] = initial_value(model.specs[i], uniform_float(random.v[k]));
      }
      model.backend->copy(exec, model.values[i].f32() + first, part.data(), 4 * count);
    }
  }
}

// Batch, labels and places in the data set, and the normalisation, in one tensor.
struct InputViews {
  View pixels, labels, index, mean, stddev, sum_of_squares;
  int64_t bytes = 0;
};

InputViews input_views(const Net& net, int64_t rows, std::byte* base) {
  InputViews v;
  const Input& in = net.input();
  const auto place = [&](DType type, const Shape& shape) {
    View view(base + v.bytes, type, shape);
    v.bytes += (view.bytes() + 63) / 64 * 64;
    return view;
  };
  v.pixels = place(DType::kU8, {rows, in.h, in.w, in.c});
  v.labels = place(DType::kI32, {rows});
  v.index = place(DType::kI32, {rows});
  v.mean = place(DType::kF32, {in.c});
  v.stddev = place(DType::kF32, {in.c});
  v.sum_of_squares = place(DType::kF32, {1});
  return v;
}

std::byte* const kMeasuring = reinterpret_cast<std::byte*>(64);  // never read or written

Bindings make_bindings(const Model& m, const InputViews& in, std::byte* parameters, std::byte* gradients,
                       std::byte* buffers, const View (&state)[2], int threads) {
  Bindings b;
  b.net = &m.net;
  b.options = &m.options;
  b.backend = m.backend;
  b.threads = threads;
  b.specs = m.specs;
  b.values = slice(m.specs, false, parameters);
  const std::vector<View> running = slice(m.specs, true, buffers);
  for (size_t i = 0; i < running.size(); ++i)
    if (!running[i].empty()) b.values[i] = running[i];
  const Shape arena{arena_elements(m.specs, false)};
  b.gradients = slice(m.specs, false, gradients);
  b.parameter_arena = View(parameters, DType::kF32, arena);
  b.gradient_arena = View(gradients, DType::kF32, arena);
  for (int k = 0; k < 2; ++k) b.state[k] = state[k];
  b.sum_of_squares = in.sum_of_squares;
  b.pixels = in.pixels;
  b.labels = in.labels;
  b.index = in.index;
  b.mean = in.mean;
  b.stddev = in.stddev;
  return b;
}

Model describe(const Net& net, const Plan& plan, const ModelOptions& options, const Backend& backend) {
  Model m;
  m.net = net;
  m.plan = plan;
  m.options = options;
  m.backend = &backend;
  m.specs = parameters(net);
  return m;
}

// What a run with these programs needs, by kind.
MemoryReport measure(const Model& m, int threads, const std::vector<int64_t>& train_rows,
                     const std::vector<int64_t>& evaluate_rows) {
  const InputViews in = input_views(m.net, m.plan.rows, kMeasuring);
  View state[2];
  const int64_t elements = arena_elements(m.specs, false);
  for (int k = 0; k < state_kinds(m.options); ++k) state[k] = View(kMeasuring, DType::kF32, {elements});
  const Bindings b = make_bindings(m, in, kMeasuring, kMeasuring, kMeasuring, state, threads);
  MemoryReport r;
  r.parameters = elements * 4;
  r.gradients = m.options.training ? elements * 4 : 0;
  r.optimizer = elements * 4 * state_kinds(m.options);
  r.buffers = arena_elements(m.specs, true) * 4;
  r.input = in.bytes;
  const auto add = [&](const std::vector<int64_t>& all_rows, bool training) {
    for (const int64_t rows : all_rows) {
      const Program p = lower(b, rows, training, nullptr);
      r.activations = std::max(r.activations, p.activation_bytes);
      r.scratch = std::max(r.scratch, p.scratch_bytes);
    }
  };
  add(train_rows, true);
  add(evaluate_rows, false);
  return r;
}

}  // namespace

MemoryReport model_memory(const Net& net, const Plan& plan, const ModelOptions& options,
                          const Backend& backend, int threads) {
  const Model m = describe(net, plan, options, backend);
  const std::vector<int64_t> none, rows{plan.rows};
  return measure(m, threads, options.training ? rows : none, options.training ? none : rows);
}

Model make_model(const Net& net, const Plan& plan, const ModelOptions& options, Exec& exec,
                 const std::vector<int64_t>& train_rows, const std::vector<int64_t>& evaluate_rows) {
  Model m = describe(net, plan, options, *exec.backend);
  const Backend& backend = *exec.backend;
  const MemoryReport need = measure(m, exec.threads, train_rows, evaluate_rows);
  const int64_t elements = arena_elements(m.specs, false);

  m.parameters = zeros(backend, exec, "parameters", elements);
  m.buffers = zeros(backend, exec, "running statistics", arena_elements(m.specs, true));
  if (options.training) m.gradients = zeros(backend, exec, "gradients", elements);
  View state[2];
  for (int k = 0; k < state_kinds(options); ++k) {
    m.state[static_cast<size_t>(k)] = zeros(backend, exec, "optimizer state", elements);
    state[k] = m.state[static_cast<size_t>(k)].view();
  }
  m.activations = zeros(backend, exec, "activations", (need.activations + 3) / 4);
  m.scratch = Tensor(backend, DType::kU8, {need.scratch});
  m.input = Tensor(backend, DType::kU8, {need.input});
  m.scalars = Tensor(backend, DType::kU8, {static_cast<int64_t>(sizeof(StepScalars))});
  exec.scratch = m.scratch.view();

  const InputViews in = input_views(net, plan.rows, m.input.view().data);
  m.pixels = in.pixels;
  m.labels = in.labels;
  m.index = in.index;
  const auto channels = static_cast<size_t>(net.input().c);
  CONVOY_CHECK(
      options.normalization.mean.size() == channels && options.normalization.stddev.size() == channels,
      "normalisation for ", options.normalization.mean.size(), " channels, images have ", channels);
  backend.copy(exec, in.mean.data, options.normalization.mean.data(), in.mean.bytes());
  backend.copy(exec, in.stddev.data, options.normalization.stddev.data(), in.stddev.bytes());

  Bindings b = make_bindings(m, in, m.parameters.view().data, m.gradients.view().data, m.buffers.view().data,
                             state, exec.threads);
  b.scalars = m.step_scalars();
  m.values = b.values;
  m.gradients_of = b.gradients;
  initialize(m, exec);
  for (const int64_t rows : train_rows) m.train[rows] = lower(b, rows, true, m.activations.view().data);
  for (const int64_t rows : evaluate_rows)
    m.evaluate[rows] = lower(b, rows, false, m.activations.view().data);
  return m;
}

MemoryReport Model::memory() const {
  MemoryReport r;
  r.parameters = parameters.bytes();
  r.gradients = gradients.bytes();
  r.optimizer = state[0].bytes() + state[1].bytes();
  r.buffers = buffers.bytes();
  r.activations = activations.bytes();
  r.scratch = scratch.bytes();
  r.input = input.bytes();
  return r;
}

View state_of(const Model& model, size_t spec, int kind) {
  const View& arena = model.state[static_cast<size_t>(kind)].view();
  const View& value = model.values[spec];
  if (arena.empty() || model.specs[spec].buffer()) return {};
  return View(arena.data + (value.data - model.parameters.view().data), DType::kF32, value.shape);
}

}  // namespace convoy
