// One training step, and one evaluated batch.
#include <algorithm>
#include <cmath>

#include "convoy/train.h"
#include "kernels/fill.h"

namespace convoy {
namespace {

void upload(const Model& m, Exec& exec, const Batch& batch, const StepScalars& scalars) {
  CONVOY_CHECK(batch.rows <= m.plan.rows && batch.pixels.shape == m.pixels.shape.with_rows(batch.rows),
               "a batch of ", batch.pixels.shape, " for ", m.pixels.shape);
  exec.backend->copy(exec, m.pixels.data, batch.pixels.data, batch.pixels.bytes());
  exec.backend->copy(exec, m.labels.data, batch.labels.data, batch.labels.bytes());
  exec.backend->copy(exec, m.index.data, batch.index.data, batch.index.bytes());
  exec.backend->copy(exec, m.step_scalars(), &scalars, sizeof scalars);
}

void run_all(const std::vector<Operation>& operations, Exec& exec) {
  for (const Operation& operation : operations) operation.run(exec);
}

const Program& program_for(const std::map<int64_t, Program>& programs, int64_t rows) {
  const auto found = programs.find(rows);
  CONVOY_CHECK(found != programs.end(), "no program was lowered for ", rows, " rows");
  return found->second;
}

// Sums in row order and double precision: the same for any division of the rows.
StepReport read_loss(const Program& program, Exec& exec) {
  exec.backend->synchronize(exec);
  StepReport report;
  report.rows = program.rows;
  const float* loss = program.row_loss.f32();
  const int32_t* rank = program.row_rank.as<int32_t>();
  for (int64_t n = 0; n < program.rows; ++n) {
    report.loss += static_cast<double>(loss[n]);
    report.correct += rank[n] == 0;
  }
  return report;
}

int64_t nonfinite_in(Exec& exec, const In& x) {
  int32_t count = 0;
  run(exec, CountNonfinite{x.reshaped({x.count()}), View(&count, Shape{1})});
  exec.backend->synchronize(exec);
  return count;
}

// The forward pass once more, looking at every weight and every result: the weights are still those of this
// step.
[[noreturn]] void name_nonfinite(const Model& m, const Program& program, Exec& exec, int64_t step) {
  for (size_t i = 0; i < m.specs.size(); ++i)
    if (const int64_t count = nonfinite_in(exec, m.values[i]); count > 0)
      throw NonfiniteError(
          text("the loss is not finite at step ", step, ": ", m.specs[i].name, " holds ", count,
               " NaN or infinite values since the update before; lower --lr or set --clip-norm"));
  for (const Operation& operation : program.forward) {
    operation.run(exec);
    if (operation.output.empty()) continue;
    if (const int64_t count = nonfinite_in(exec, operation.output); count > 0)
      throw NonfiniteError(
          text("the loss is not finite at step ", step, ": the first layer with NaN or infinite values is ",
               m.net.layers[static_cast<size_t>(operation.layer)].name, " (", operation.name, ", ", count,
               " of ", operation.output.count(), "); lower --lr or set --clip-norm"));
  }
  throw NonfiniteError(text("the loss is not finite at step ", step, ": the sum over the batch overflows"));
}

}  // namespace

StepReport train_step(Model& m, Exec& exec, const Batch& batch, const StepSettings& settings) {
  const Program& program = program_for(m.train, batch.rows);
  StepScalars scalars;
  scalars.step = settings.step;
  scalars.epoch = settings.epoch;
  scalars.first_row = batch.first_row;
  scalars.lr = settings.lr;
  scalars.gradient_scale = 1.0f / static_cast<float>(batch.rows);
  upload(m, exec, batch, scalars);

  run_all(program.forward, exec);
  const StepReport report = read_loss(program, exec);
  if (!std::isfinite(report.loss)) name_nonfinite(m, program, exec, settings.step);
  run_all(program.backward, exec);
  run_all(program.update, exec);
  return report;
}

StepReport evaluate_batch(Model& m, Exec& exec, const Batch& batch, std::vector<float>* logits) {
  const Program& program = program_for(m.evaluate, batch.rows);
  upload(m, exec, batch, StepScalars());
  run_all(program.forward, exec);
  if (logits != nullptr) {
    logits->resize(static_cast<size_t>(program.logits.count()));
    exec.backend->copy(exec, logits->data(), program.logits.data, program.logits.bytes());
  }
  return read_loss(program, exec);
}

EvaluationReport evaluate(Model& m, Exec& exec, Loader& loader, bool confusion,
                          const std::function<bool()>& stop) {
  EvaluationReport report;
  int64_t correct = 0, in_five = 0;
  double loss = 0;
  std::vector<float> logits;
  loader.start(0);
  while (const Batch* batch = loader.next()) {
    if (stop && stop()) break;
    const StepReport step = evaluate_batch(m, exec, *batch, confusion ? &logits : nullptr);
    loss += step.loss;
    correct += step.correct;
    report.rows += step.rows;
    const Program& program = program_for(m.evaluate, batch->rows);
    const int32_t* rank = program.row_rank.as<int32_t>();
    in_five += std::count_if(rank, rank + batch->rows, [](int32_t r) { return r < 5; });
    if (!confusion) continue;
    const int64_t classes = program.logits.shape[1];
    report.confusion.resize(static_cast<size_t>(classes * classes));
    const int32_t* labels = batch->labels.as<int32_t>();
    for (int64_t n = 0; n < batch->rows; ++n) {
      const float* row = logits.data() + n * classes;
      const int64_t predicted = std::max_element(row, row + classes) - row;
      ++report.confusion[static_cast<size_t>(labels[n] * classes + predicted)];
    }
  }
  const auto rows = static_cast<double>(std::max<int64_t>(report.rows, 1));
  report.loss = loss / rows;
  report.top1 = static_cast<double>(correct) / rows;
  report.top5 = static_cast<double>(in_five) / rows;
  return report;
}

}  // namespace convoy
