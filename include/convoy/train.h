// A model in memory, the training step, and evaluation.
#pragma once
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "convoy/backend.h"
#include "convoy/comm.h"
#include "convoy/data.h"
#include "convoy/net.h"
#include "convoy/plan.h"

namespace convoy {

enum class Loss { kSoftmax, kLogistic };
enum class OptimizerKind { kSgd, kAdamw };

struct Optimizer {
  OptimizerKind kind = OptimizerKind::kSgd;
  float momentum = 0.9f, weight_decay = 0;
  bool nesterov = false;
  float beta1 = 0.9f, beta2 = 0.999f, eps = 1e-8f;  // AdamW
  float clip_norm = 0;                              // 0: no clipping
};

struct ModelOptions {
  bool training = true;  // false: no gradients, no optimizer state, evaluation programs only
  Loss loss = Loss::kSoftmax;
  DType precision =
      DType::kF32;  // of activations, their gradients and the weights that are read; bf16, f16: on CUDA
  Optimizer optimizer;
  bool graph = true;  // on CUDA: a step of one worker is recorded, and then launched as one
  uint64_t seed = 0;  // initial weights, dropout, augmentation
  std::optional<uint64_t> initial_seed = std::nullopt;  // of the weights alone
  bool augment = false, augment_flip = false;
  int64_t augment_pad = 0;
  Normalization normalization;
};

// One entry of a program: an operation bound to its buffers, or a transfer that the operations after it wait for.
// `output` is what it wrote (for diagnosis); empty if none.
struct Operation {
  std::string name;  // "conv_forward features.0"
  int layer = 0;
  std::function<void(Exec&)> run;
  In output;
  std::optional<Traffic> transfer = std::nullopt;  // what it is for, when it is one
};

// Gradients that are summed over the workers as one, once the backward operation `after` is done.
struct Bucket {
  size_t after = 0;
  View gradients;
};

// One half of a step for a fixed number of rows, as lists that are run in order.
struct Program {
  int64_t rows = 0;
  std::vector<Operation> forward, backward, update;  // forward ends with the loss, or with the features
  std::vector<Bucket> buckets;                       // of the front half, last layer first
  In logits, row_loss, row_rank;                     // row_rank: i32, or f32 (a sum over workers)
  View dlogits;   // what the loss leaves for the backward list; empty in evaluation
  View features;  // what crosses the cut, and its gradient; empty when nothing is split
  View dfeatures;
  std::vector<std::shared_ptr<const Blocks>> blocks;  // that operations refer to
  int64_t activation_bytes = 0, scratch_bytes = 0;
};

// A pass through the split half. The rows of pass p + 1 arrive in one slot while pass p computes in the other.
struct Slot {
  View features, dfeatures, labels, row_numbers;
};
struct PassWork {
  Pass pass;
  const Program* program = nullptr;
  int slot = 0;
  int64_t first = 0;      // where the pass's rows stand in the step's order of rows
  int64_t own_first = 0;  // where this worker's rows stand in the pass
};

// Everything that a global batch of one size needs.
struct Step {
  Program front;
  std::vector<PassWork> passes;  // none when nothing is split
  Tensor row_numbers;            // i32: of the global batch, in the passes' order; on the backend
  std::vector<int32_t> order;    // the same for the host
  int64_t runs = 0;              // so far
  std::shared_ptr<void> graph;   // on CUDA, the recorded step
};

// Bytes of a run by kind; what `convoy summary` prints.
struct MemoryReport {
  int64_t parameters = 0, gradients = 0, optimizer = 0, buffers = 0, activations = 0, exchange = 0,
          scratch = 0, input = 0;
  int64_t total() const {
    return parameters + gradients + optimizer + buffers + activations + exchange + scratch + input;
  }
};

// What a worker tells the others about a step, in Model::reports.
constexpr size_t kReportBytes = 64;

// f16 loses gradients below 6e-8, so they are computed of a loss that is scaled up. Where they overflow, the step changes
// no weight and the scale is halved; after kRaiseAfter good steps it is doubled (Micikevicius et al., arXiv 1710.03740).
struct LossScale {
  static constexpr int64_t kRaiseAfter = 2000;
  float scale = 65536;
  int64_t good_steps = 0;  // since it last changed
  void step(bool overflow);
};

class DeviceClock;   // device.h
struct UploadQueue;  // upload.h

// Everything of one worker that lives on the backend, each kind in one arena. Parameters, gradients and optimizer
// state of the front half come first, those of the split half follow: their owner alone has them.
struct Model {
  Net net;
  Plan plan;
  ModelOptions options;
  Team team;
  const Backend* backend = nullptr;
  std::vector<ParameterSpec> specs;  // parameters(net): whole shapes
  std::vector<RowRange> own;         // one a spec: the rows of the whole tensor that this worker has
  std::vector<View> values;          // one a spec, own rows: in `parameters`, or in `buffers`
  std::vector<View> gradients_of;    // one a spec; empty for buffers
  Tensor parameters, buffers;
  View gradients;
  std::shared_ptr<void> gradient_memory;  // the transfer group's own, where it has some (comm.h)
  Tensor low_parameters;                  // in the precision of the activations, where that is not f32
  std::array<Tensor, 2> state;            // momentum, or AdamW's m and v
  Tensor activations, split_activations, exchange, scratch, input, scalars;
  View pixels, labels, index;               // the batch on the backend, for plan.rows rows
  View pass_labels;                         // i32 [batch], in the passes' order
  std::vector<Slot> slots;                  // 1 or 2; none when nothing is split
  std::map<int64_t, Step> train, evaluate;  // by rows of the global batch
  // Of the split half, by the pass's rows, its slot, and whether it adds to the gradients of the passes before.
  std::map<std::tuple<int64_t, int, bool>, Program> split_train, split_evaluate;
  LossScale loss_scale;                              // with f16
  int64_t split_updates = 0;                         // how often the split half was updated: counted by AdamW
  std::vector<std::unique_ptr<Communicator>> alone;  // the communicator of a worker without a team
  View nonfinite, skip;  // i32 [1]: how much of something is NaN or infinite; no update unless it is 0
  // Room for what a step brings to the host or takes from it: loss and rank of each own row, the losses of a pass, labels,
  // the step's numbers, and every worker's report.
  Tensor own_loss, own_rank, pass_loss, ordered_labels, host_scalars, host_skip;
  std::vector<std::byte> reports;
  Blocks report_blocks;
  std::shared_ptr<DeviceClock> clock;    // on CUDA
  std::shared_ptr<UploadQueue> uploads;  // once StepSettings::next was given
  MemoryReport memory() const;
  // Of the front half and of the split half.
  StepScalars* step_scalars() const { return reinterpret_cast<StepScalars*>(scalars.view().data); }
};

// Allocates a model, initialises its weights from the seed as PyTorch initialises nn.Conv2d and nn.Linear
// (uniform in ±1/sqrt(fan_in), weights and biases) and nn.BatchNorm2d (1, 0), and lowers the programs for
// the sizes of the global batch that will occur. Initial values depend on the place in the whole tensor, not on
// the division. Throws Error naming the arena and its bytes when memory is short.
Model make_model(const Net& net, const Plan& plan, const ModelOptions& options, Exec& exec,
                 const std::vector<int64_t>& train_rows, const std::vector<int64_t>& evaluate_rows,
                 const Team& team = {});

// The memory that make_model would use, without allocating it.
MemoryReport model_memory(const Net& net, const Plan& plan, const ModelOptions& options,
                          const Backend& backend, int threads);

// After the weights were changed from outside: makes their copy in the precision of the activations.
void refresh_low(Model& model, Exec& exec);

// Where parameter i's optimizer state lies (kind 0 or 1), or an empty view.
View state_of(const Model& model, size_t spec, int kind);

// What a step of the global batch came to; every worker has the same loss, correct, rows, vote and slowest.
struct StepReport {
  double loss = 0;  // sum over rows
  int64_t correct = 0, rows = 0;
  int32_t vote = 0;      // the largest of the workers'
  double slowest = 0;    // seconds: of the workers' last steps, or of this one up to its losses, the longest
  bool skipped = false;  // with f16: gradients overflowed, and no weight was changed
  // This worker's: seconds of the step, those that compute waited for transfers, and their bytes (comm.h).
  double seconds = 0;
  double device_seconds = 0;  // on CUDA: from the step's first operation to its last, by the device's clock,
                              // which then also says what was exposed
  std::array<double, kTrafficKinds> exposed{};
  std::array<int64_t, kTrafficKinds> bytes{};
  double compute_seconds() const {
    return (device_seconds > 0 ? device_seconds : seconds) - exposed[0] - exposed[1] - exposed[2] -
           exposed[3];
  }
};

// The loss, a weight or an activation is NaN or infinite. Nothing was updated.
class NonfiniteError : public Error {
 public:
  using Error::Error;
};

struct StepSettings {
  int64_t step = 0, epoch = 0;
  float lr = 0;
  std::optional<float> split_lr = std::nullopt;  // of the split half; lr unless given
  int32_t vote = 0;  // what the workers have to agree on at the end of the step, as StepReport::vote
  double last = 0;   // seconds of this worker's last step
  // On CUDA, called once the step's work is queued and its batch's memory is free: gives the batch of the next step, which
  // then travels to the device while this step computes; or null. Never called on the CPU.
  std::function<const Batch*()> next = nullptr;
};

// One training step: normalise, forward, loss, backward, update. `batch.global_rows` must be one of the lowered
// sizes. Throws NonfiniteError on every worker, naming the step and the first layer with a non-finite value, before
// the weights are changed (with per-pass updates: before that pass changes them).
StepReport train_step(Model& model, Exec& exec, const Batch& batch, const StepSettings& settings);

// The largest of the workers' values, on each of them.
int32_t largest(Model& model, Exec& exec, int32_t value);

// Forward and loss only, of this worker's rows: loss, correct and rows are theirs. `logits` (rows x classes, host
// memory) is filled when it is not null.
StepReport evaluate_batch(Model& model, Exec& exec, const Batch& batch, std::vector<float>* logits);

struct EvaluationReport {
  double loss = 0;            // mean
  double top1 = 0, top5 = 0;  // fractions
  int64_t rows = 0;
  int32_t stopped = 0;             // the largest that `stop` returned on any worker
  std::vector<int64_t> confusion;  // [label, prediction], row-major; empty unless asked for
};
// Over all workers' rows, and the same on each. `stop` is asked before every batch; once it is not 0 on any worker the
// evaluation ends, over the rows so far.
EvaluationReport evaluate(Model& model, Exec& exec, Loader& loader, bool confusion,
                          const std::function<int32_t()>& stop = nullptr);

}  // namespace convoy
