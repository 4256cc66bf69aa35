// A model in memory, the training step, and evaluation.
#pragma once
#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "convoy/backend.h"
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
  Optimizer optimizer;
  uint64_t seed = 0;  // initial weights, dropout, augmentation
  bool augment = false, augment_flip = false;
  int64_t augment_pad = 0;
  Normalization normalization;
};

// One entry of a program: an operation bound to its buffers. `output` is what it wrote (for diagnosis); empty
// if none.
struct Operation {
  std::string name;  // "conv_forward features.0"
  int layer = 0;
  std::function<void(Exec&)> run;
  In output;
};

// A step for a fixed number of rows, as lists that are run in order.
struct Program {
  int64_t rows = 0;
  std::vector<Operation> forward, backward, update;  // forward ends with the loss
  In logits, row_loss, row_rank;
  View dlogits;  // what the loss leaves for the backward list; empty in evaluation
  int64_t activation_bytes = 0, scratch_bytes = 0;
};

// Bytes of a run by kind; what `convoy summary` prints.
struct MemoryReport {
  int64_t parameters = 0, gradients = 0, optimizer = 0, buffers = 0, activations = 0, scratch = 0, input = 0;
  int64_t total() const {
    return parameters + gradients + optimizer + buffers + activations + scratch + input;
  }
};

// Everything that lives on the backend, each kind in one arena.
struct Model {
  Net net;
  Plan plan;
  ModelOptions options;
  const Backend* backend = nullptr;
  std::vector<ParameterSpec> specs;  // parameters(net)
  std::vector<View> values;          // one a spec: in `parameters`, or in `buffers`
  std::vector<View> gradients_of;    // one a spec; empty for buffers
  Tensor parameters, gradients, buffers;
  std::array<Tensor, 2> state;  // momentum, or AdamW's m and v
  Tensor activations, scratch, input, scalars;
  View pixels, labels, index;                  // the batch on the backend, for plan.rows rows
  std::map<int64_t, Program> train, evaluate;  // by rows
  MemoryReport memory() const;
  StepScalars* step_scalars() const { return reinterpret_cast<StepScalars*>(scalars.view().data); }
};

// Allocates a model, initialises its weights from the seed as PyTorch initialises nn.Conv2d and nn.Linear
// (uniform in ±1/sqrt(fan_in), weights and biases) and nn.BatchNorm2d (1, 0), and lowers the programs for
// `rows` (each a batch size that will occur; plan.rows is always among them). Throws Error naming the arena
// and its bytes when memory is short.
Model make_model(const Net& net, const Plan& plan, const ModelOptions& options, Exec& exec,
                 const std::vector<int64_t>& train_rows, const std::vector<int64_t>& evaluate_rows);

// The memory that make_model would use, without allocating it.
MemoryReport model_memory(const Net& net, const Plan& plan, const ModelOptions& options,
                          const Backend& backend, int threads);

// Where parameter i's optimizer state lies (kind 0 or 1), or an empty view.
View state_of(const Model& model, size_t spec, int kind);

struct StepReport {
  double loss = 0;  // sum over rows
  int64_t correct = 0, rows = 0;
};

// The loss, a weight or an activation is NaN or infinite. Nothing was updated.
class NonfiniteError : public Error {
 public:
  using Error::Error;
};

struct StepSettings {
  int64_t step = 0, epoch = 0;
  float lr = 0;
};

// One training step: normalise, forward, loss, backward, update. `batch.rows` must be one of the lowered
// sizes. Throws NonfiniteError, naming the step and the first layer with a non-finite value, before the
// weights are changed.
StepReport train_step(Model& model, Exec& exec, const Batch& batch, const StepSettings& settings);

// Forward and loss only. `logits` (rows x classes, host memory) is filled when it is not null.
StepReport evaluate_batch(Model& model, Exec& exec, const Batch& batch, std::vector<float>* logits);

struct EvaluationReport {
  double loss = 0;            // mean
  double top1 = 0, top5 = 0;  // fractions
  int64_t rows = 0;
  std::vector<int64_t> confusion;  // [label, prediction], row-major; empty unless asked for
};
// `stop` is asked before every batch; once it says so the evaluation ends, over the rows so far.
EvaluationReport evaluate(Model& model, Exec& exec, Loader& loader, bool confusion,
                          const std::function<bool()>& stop = nullptr);

}  // namespace convoy
