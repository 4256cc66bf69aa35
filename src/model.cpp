#include <algorithm>
#include <array>
#include <cmath>

#include "convoy/philox.h"
#include "convoy/train.h"
#include "device.h"
#include "kernels/cast.h"
#include "kernels/fill.h"
#include "lower.h"
#include "transport.h"

namespace convoy {
namespace {

// A tensor starts on a cache line; the padding is zero and stays zero under every update.
constexpr int64_t kAlignElements = 16;
int64_t aligned(int64_t count) {
  return (count + kAlignElements - 1) / kAlignElements * kAlignElements;
}

// Which rows of each whole tensor this worker has.
std::vector<RowRange> own_rows(const Plan& plan, const std::vector<ParameterSpec>& specs) {
  std::vector<RowRange> own;
  own.reserve(specs.size());
  for (const ParameterSpec& spec : specs)
    own.push_back(plan.split(spec.layer) ? plan.own_rows(spec.shape[0]) : RowRange{0, spec.shape[0]});
  return own;
}

Shape own_shape(const Model& m, size_t spec) {
  return m.specs[spec].shape.with_rows(m.own[spec].count);
}

// Elements of the front half's tensors, or of all; trained ones or buffers.
int64_t arena_elements(const Model& m, bool buffers, bool front_only = false) {
  int64_t elements = 0;
  for (size_t i = 0; i < m.specs.size(); ++i)
    if (m.specs[i].buffer() == buffers && !(front_only && m.plan.split(m.specs[i].layer)))
      elements += aligned(own_shape(m, i).count());
  return elements;
}

// One view a spec, in order, behind each other; empty for those of the other kind.
std::vector<View> slice(const Model& m, bool buffers, std::byte* arena, DType dtype = DType::kF32) {
  std::vector<View> views;
  for (size_t i = 0; i < m.specs.size(); ++i) {
    if (m.specs[i].buffer() != buffers) {
      views.emplace_back();
      continue;
    }
    views.emplace_back(arena, dtype, own_shape(m, i));
    arena += aligned(views.back().count()) * dtype_bytes(dtype);
  }
  return views;
}

int state_kinds(const ModelOptions& options) {
  if (!options.training) return 0;
  if (options.optimizer.kind == OptimizerKind::kAdamw) return 2;
  return options.optimizer.momentum != 0 ? 1 : 0;
}

Tensor zeros(const Backend& backend, Exec& exec, const char* arena, int64_t elements,
             DType dtype = DType::kF32) {
  try {
    Tensor tensor(backend, dtype, {elements});
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
  const uint64_t seed = model.options.initial_seed.value_or(model.options.seed);
  for (size_t i = 0; i < model.specs.size(); ++i) {
    // A worker's rows start anywhere in a group of four random numbers.
    const int64_t start = model.own[i].first * model.specs[i].shape.row();
    const int64_t elements = model.values[i].count();
    for (int64_t first = 0; first < elements; first += kPart) {
      const int64_t count = std::min(kPart, elements - first);
      Philox4 random{};
      for (int64_t j = 0; j < count; ++j) {
        const int64_t element = start + first + j;
        if (j == 0 || element % 4 == 0)
          random =
              philox(seed, static_cast<uint32_t>(element / 4), 0, 0, kInitStream + static_cast<uint32_t>(i));
        part[static_cast<size_t>(j)] = initial_value(model.specs[i], uniform_float(random.v[element % 4]));
      }
      model.backend->copy(exec, model.values[i].f32() + first, part.data(), 4 * count);
    }
  }
}

// Batch, labels and places in the data set, and the normalisation, in one tensor.
struct InputViews {
  View pixels, labels, index, pass_labels, mean, stddev, sum_of_squares, nonfinite, skip;
  int64_t bytes = 0;
};

// Views placed one behind the other from `base` on, on cache lines.
class Placer {
 public:
  explicit Placer(std::byte* base) : base_(base) {}
  View place(DType type, const Shape& shape) {
    const View view(base_ + bytes_, type, shape);
    bytes_ += (view.bytes() + 63) / 64 * 64;
    return view;
  }
  int64_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  int64_t bytes_ = 0;
};

InputViews input_views(const Model& m, std::byte* base) {
  InputViews v;
  Placer placer(base);
  const Input& in = m.net.input();
  v.pixels = placer.place(DType::kU8, {m.plan.rows, in.h, in.w, in.c});
  v.labels = placer.place(DType::kI32, {m.plan.rows});
  v.index = placer.place(DType::kI32, {m.plan.rows});
  if (m.plan.features >= 0) v.pass_labels = placer.place(DType::kI32, {m.plan.batch});
  v.mean = placer.place(DType::kF32, {in.c});
  v.stddev = placer.place(DType::kF32, {in.c});
  v.sum_of_squares = placer.place(DType::kF32, {2});
  v.nonfinite = placer.place(DType::kI32, {1});
  v.skip = placer.place(DType::kI32, {1});
  v.bytes = placer.bytes();
  return v;
}

bool trains_front(const Model& m) {
  return !m.specs.empty() && !m.plan.split(m.specs.front().layer);
}

// The slots of the exchange, and their bytes: two as soon as there is a second pass.
std::vector<Slot> make_slots(const Model& m, const std::vector<std::vector<Pass>>& all, std::byte* base,
                             int64_t* bytes) {
  size_t passes = 0;
  int64_t rows = 0;
  for (const std::vector<Pass>& of : all) {
    passes = std::max(passes, of.size());
    for (const Pass& pass : of) rows = std::max(rows, pass.total);
  }
  std::vector<Slot> slots(std::min<size_t>(passes, 2));
  Placer placer(base);
  for (Slot& slot : slots) {
    const Shape shape = output_shapes(m.net, 1)[static_cast<size_t>(m.plan.features)].with_rows(rows);
    slot.features = placer.place(m.options.precision, shape);
    if (m.options.training && trains_front(m)) slot.dfeatures = placer.place(DType::kF32, shape);
    slot.labels = placer.place(DType::kI32, {rows});
    slot.row_numbers = placer.place(DType::kI32, {rows});
  }
  *bytes = placer.bytes();
  return slots;
}

std::byte* const kMeasuring = reinterpret_cast<std::byte*>(64);  // never read or written

Bindings make_bindings(const Model& m, const InputViews& in, std::byte* parameters, std::byte* low,
                       std::byte* gradients, std::byte* buffers, const View (&state)[2], int threads) {
  Bindings b;
  b.net = &m.net;
  b.plan = &m.plan;
  b.options = &m.options;
  b.team = m.team;
  b.backend = m.backend;
  b.threads = threads;
  b.specs = m.specs;
  b.values = slice(m, false, parameters);
  const std::vector<View> running = slice(m, true, buffers);
  for (size_t i = 0; i < running.size(); ++i)
    if (!running[i].empty()) b.values[i] = running[i];
  const Shape arena{arena_elements(m, false)};
  if (m.options.precision != DType::kF32) {
    b.low_values = slice(m, false, low, m.options.precision);
    b.low_arena = View(low, m.options.precision, arena);
  }
  b.gradients = slice(m, false, gradients);
  b.parameter_arena = View(parameters, DType::kF32, arena);
  b.gradient_arena = View(gradients, DType::kF32, arena);
  b.front_elements = arena_elements(m, false, true);
  for (int k = 0; k < 2; ++k) b.state[k] = state[k];
  b.sum_of_squares = in.sum_of_squares;
  if (!m.backend->host_memory) b.skip = in.skip;
  b.pixels = in.pixels;
  b.labels = in.labels;
  b.index = in.index;
  b.mean = in.mean;
  b.stddev = in.stddev;
  return b;
}

Model describe(const Net& net, const Plan& plan, const ModelOptions& options, const Backend& backend,
               const Team& team) {
  CONVOY_CHECK(team.world() == plan.options.world && team.rank() == plan.options.rank, "rank ", team.rank(),
               " of ", team.world(), ", planned as ", plan.options.rank, " of ", plan.options.world);
  Model m;
  m.net = net;
  m.plan = plan;
  m.options = options;
  m.team = team;
  m.backend = &backend;
  m.specs = parameters(net);
  m.own = own_rows(plan, m.specs);
  return m;
}

std::vector<std::vector<Pass>> all_passes(const Model& m, const std::vector<int64_t>& train_rows,
                                          const std::vector<int64_t>& evaluate_rows) {
  std::vector<std::vector<Pass>> all;
  for (const std::vector<int64_t>* sizes : {&train_rows, &evaluate_rows})
    for (const int64_t rows : *sizes) all.push_back(m.plan.passes(rows));
  return all;
}

// What a run with these programs needs, by kind.
struct Need {
  MemoryReport memory;
  int64_t split_activations = 0;
};

Need measure(const Model& m, int threads, const std::vector<int64_t>& train_rows,
             const std::vector<int64_t>& evaluate_rows) {
  const InputViews in = input_views(m, kMeasuring);
  View state[2];
  const int64_t elements = arena_elements(m, false);
  for (int k = 0; k < state_kinds(m.options); ++k) state[k] = View(kMeasuring, DType::kF32, {elements});
  Bindings b = make_bindings(m, in, kMeasuring, kMeasuring, kMeasuring, kMeasuring, state, threads);
  b.scalars = reinterpret_cast<const StepScalars*>(kMeasuring);
  Need need;
  MemoryReport& r = need.memory;
  r.parameters = elements * 4;
  if (m.options.precision != DType::kF32) r.parameters += elements * dtype_bytes(m.options.precision);
  r.gradients = m.options.training ? elements * 4 : 0;
  r.optimizer = elements * 4 * state_kinds(m.options);
  r.buffers = arena_elements(m, true) * 4;
  r.input = in.bytes;
  const std::vector<Slot> slots =
      make_slots(m, all_passes(m, train_rows, evaluate_rows), kMeasuring, &r.exchange);
  int64_t front = 0;
  const auto add = [&](const std::vector<int64_t>& sizes, bool training) {
    for (const int64_t rows : sizes) {
      const Program p = lower(b, Half::kFront, m.plan.own_rows(rows).count, rows, training, nullptr);
      front = std::max(front, p.activation_bytes);
      r.scratch = std::max(r.scratch, p.scratch_bytes);
      for (const Pass& pass : m.plan.passes(rows)) {
        b.slot = slots[0];
        const Program split = lower(b, Half::kSplit, pass.total, rows, training, nullptr);
        need.split_activations = std::max(need.split_activations, split.activation_bytes);
        r.scratch = std::max(r.scratch, split.scratch_bytes);
      }
    }
  };
  add(train_rows, true);
  add(evaluate_rows, false);
  r.activations = front + need.split_activations;
  return need;
}

// The programs of a global batch of `rows`.
Step make_step(Model& m, Bindings& b, Exec& exec, int64_t rows, bool training) {
  Step step;
  b.accumulate = false;
  step.front = lower(b, Half::kFront, m.plan.own_rows(rows).count, rows, training, m.activations.view().data);
  auto& programs = training ? m.split_train : m.split_evaluate;
  for (Pass& pass : m.plan.passes(rows)) {
    PassWork work;
    work.slot = static_cast<int>(step.passes.size() % m.slots.size());
    work.first = static_cast<int64_t>(step.order.size());
    for (int r = 0; r < m.team.rank(); ++r) work.own_first += pass.rows[static_cast<size_t>(r)];
    const std::vector<int32_t> numbers = rows_of(pass, m.team.world(), rows);
    step.order.insert(step.order.end(), numbers.begin(), numbers.end());
    b.slot = m.slots[static_cast<size_t>(work.slot)];
    b.accumulate = !step.passes.empty() && !m.plan.options.update_each_pass;
    Program& program = programs[{pass.total, work.slot, b.accumulate}];
    if (program.forward.empty())
      program = lower(b, Half::kSplit, pass.total, rows, training, m.split_activations.view().data);
    work.program = &program;
    work.pass = std::move(pass);
    step.passes.push_back(std::move(work));
  }
  const auto count = static_cast<int64_t>(step.order.size());
  if (count == 0) return step;
  step.row_numbers = Tensor(*m.backend, DType::kI32, {count});
  m.backend->copy(exec, step.row_numbers.view().data, step.order.data(), count * 4);
  return step;
}

}  // namespace

MemoryReport model_memory(const Net& net, const Plan& plan, const ModelOptions& options,
                          const Backend& backend, int threads) {
  CONVOY_CHECK(plan.options.world == 1, "of one worker");
  const Model m = describe(net, plan, options, backend, {});
  const std::vector<int64_t> none, rows{plan.batch};
  return measure(m, threads, options.training ? rows : none, options.training ? none : rows).memory;
}

Model make_model(const Net& net, const Plan& plan, const ModelOptions& options, Exec& exec,
                 const std::vector<int64_t>& train_rows, const std::vector<int64_t>& evaluate_rows,
                 const Team& team) {
  const Backend& backend = *exec.backend;
  Model m = describe(net, plan, options, backend, team);
  if (team.compute == nullptr && plan.features >= 0) {  // passes without anybody to exchange rows with
    m.alone = backend.host_memory ? thread_communicators(1) : cuda_communicators(*find_cuda(), "local", 1);
    m.team.compute = m.team.transfer = m.alone[0].get();
  }
  if (team.compute == nullptr) m.team.queue = exec;
  const Need need = measure(m, exec.threads, train_rows, evaluate_rows);
  const int64_t elements = arena_elements(m, false);

  m.parameters = zeros(backend, exec, "parameters", elements);
  if (options.precision != DType::kF32) {
    CONVOY_CHECK(!backend.host_memory, backend.name, " computes in f32, not in ",
                 dtype_name(options.precision));
    m.low_parameters = zeros(backend, exec, "weights in low precision", elements, options.precision);
  }
  m.buffers = zeros(backend, exec, "running statistics", arena_elements(m, true));
  if (options.training) {
    try {
      m.gradient_memory = team.world() > 1
                              ? team.transfer->memory(backend, 4 * elements)
                              : std::shared_ptr<void>(backend.alloc(4 * elements), backend.release);
    } catch (const Error& e) {
      throw Error(text("no memory for the gradients: ", e.what()));
    }
    m.gradients = View(static_cast<std::byte*>(m.gradient_memory.get()), DType::kF32, {elements});
    run(exec, FillArgs{0, m.gradients});
  }
  View state[2];
  for (int k = 0; k < state_kinds(options); ++k) {
    m.state[static_cast<size_t>(k)] = zeros(backend, exec, "optimizer state", elements);
    state[k] = m.state[static_cast<size_t>(k)].view();
  }
  m.activations =
      zeros(backend, exec, "activations", (need.memory.activations - need.split_activations + 3) / 4);
  m.split_activations = zeros(backend, exec, "split half's activations", (need.split_activations + 3) / 4);
  m.exchange = zeros(backend, exec, "exchanged rows", (need.memory.exchange + 3) / 4);
  m.scratch = Tensor(backend, DType::kU8, {need.memory.scratch});
  m.input = Tensor(backend, DType::kU8, {need.memory.input});
  m.scalars = Tensor(backend, DType::kU8, {static_cast<int64_t>(2 * sizeof(StepScalars))});
  exec.scratch = m.scratch.view();

  const InputViews in = input_views(m, m.input.view().data);
  m.pixels = in.pixels;
  m.labels = in.labels;
  m.index = in.index;
  m.pass_labels = in.pass_labels;
  int64_t slot_bytes = 0;
  m.slots = make_slots(m, all_passes(m, train_rows, evaluate_rows), m.exchange.view().data, &slot_bytes);
  m.nonfinite = in.nonfinite;
  m.skip = in.skip;
  m.own_loss = Tensor::on_host(backend, DType::kF32, {plan.rows});
  m.own_rank = Tensor::on_host(backend, DType::kI32, {plan.rows});
  m.pass_loss = Tensor::on_host(backend, DType::kF32, {plan.batch});
  m.ordered_labels = Tensor::on_host(backend, DType::kI32, {plan.batch});
  m.host_skip = Tensor::on_host(backend, DType::kI32, {1});
  m.host_scalars = Tensor::on_host(backend, DType::kU8, {static_cast<int64_t>(2 * sizeof(StepScalars))});
  m.reports.resize(static_cast<size_t>(team.world()) * kReportBytes);
  m.report_blocks.assign(static_cast<size_t>(team.world()), 1);
  if (!backend.host_memory) m.clock = std::make_shared<DeviceClock>(*find_cuda());
  const auto channels = static_cast<size_t>(net.input().c);
  CONVOY_CHECK(
      options.normalization.mean.size() == channels && options.normalization.stddev.size() == channels,
      "normalisation for ", options.normalization.mean.size(), " channels, images have ", channels);
  backend.copy(exec, in.mean.data, options.normalization.mean.data(), in.mean.bytes());
  backend.copy(exec, in.stddev.data, options.normalization.stddev.data(), in.stddev.bytes());

  Bindings b = make_bindings(m, in, m.parameters.view().data, m.low_parameters.view().data, m.gradients.data,
                             m.buffers.view().data, state, exec.threads);
  b.scalars = m.step_scalars();
  m.values = b.values;
  m.gradients_of = b.gradients;
  initialize(m, exec);
  refresh_low(m, exec);
  for (const int64_t rows : train_rows) m.train[rows] = make_step(m, b, exec, rows, true);
  for (const int64_t rows : evaluate_rows) m.evaluate[rows] = make_step(m, b, exec, rows, false);
  return m;
}

void refresh_low(Model& m, Exec& exec) {
  const View& low = m.low_parameters.view();
  if (low.count() > 0) run(exec, CastArgs{m.parameters.view(), low});
}

MemoryReport Model::memory() const {
  MemoryReport r;
  r.parameters = parameters.bytes() + low_parameters.bytes();
  r.gradients = gradients.bytes();
  r.optimizer = state[0].bytes() + state[1].bytes();
  r.buffers = buffers.bytes();
  r.activations = activations.bytes() + split_activations.bytes();
  r.exchange = exchange.bytes();
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
