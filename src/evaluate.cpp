// Evaluation of a whole data set.
#include <algorithm>
#include <cstring>
#include <functional>

#include "convoy/train.h"

namespace convoy {
namespace {

// Sums over the workers, in rank order: loss, correct, in_five and rows, and the confusion matrix.
struct Totals {
  double loss = 0;
  int64_t correct = 0, in_five = 0, rows = 0;
  std::vector<int64_t> confusion;
};

void add_up(Model& m, Exec& compute, Totals& totals) {
  Exec& exec = m.team.host_exec(compute);
  const int world = m.team.world();
  if (world == 1) return;
  const size_t confusion = totals.confusion.size(),
               bytes = sizeof(double) + (3 + confusion) * sizeof(int64_t);
  std::vector<std::byte> all(bytes * static_cast<size_t>(world));
  const auto row = [&](int r) { return all.data() + bytes * static_cast<size_t>(r); };
  int64_t counts[3] = {totals.correct, totals.in_five, totals.rows};
  std::byte* mine = row(m.team.rank());
  std::memcpy(mine, &totals.loss, sizeof totals.loss);
  std::memcpy(mine + 8, counts, sizeof counts);
  if (confusion > 0) std::memcpy(mine + 32, totals.confusion.data(), confusion * 8);
  const Shape shape{world, static_cast<int64_t>(bytes)};
  m.team.host()->all_gather(exec, {Traffic::kOther, "gather evaluation"},
                            In(mine, DType::kU8, shape.with_rows(1)), View(all.data(), DType::kU8, shape),
                            m.report_blocks);
  exec.backend->synchronize(exec);
  Totals sum;
  sum.confusion.resize(confusion);
  std::vector<int64_t> matrix(confusion);
  for (int r = 0; r < world; ++r) {
    double loss = 0;
    std::memcpy(&loss, row(r), sizeof loss);
    std::memcpy(counts, row(r) + 8, sizeof counts);
    if (confusion > 0) std::memcpy(matrix.data(), row(r) + 32, confusion * 8);
    sum.loss += loss;
    sum.correct += counts[0];
    sum.in_five += counts[1];
    sum.rows += counts[2];
    std::transform(matrix.begin(), matrix.end(), sum.confusion.begin(), sum.confusion.begin(), std::plus<>());
  }
  totals = sum;
}

}  // namespace

int32_t largest(Model& m, Exec& compute, int32_t value) {
  Exec& exec = m.team.host_exec(compute);
  const int world = m.team.world();
  if (world == 1) return value;
  std::vector<int32_t> all(static_cast<size_t>(world));
  int32_t* mine = &all[static_cast<size_t>(m.team.rank())];
  *mine = value;
  m.team.host()->all_gather(exec, {Traffic::kOther, "vote"}, View(mine, Shape{1}),
                            View(all.data(), Shape{world}), m.report_blocks);
  exec.backend->synchronize(exec);
  return *std::max_element(all.begin(), all.end());
}

EvaluationReport evaluate(Model& m, Exec& exec, Loader& loader, bool confusion,
                          const std::function<int32_t()>& stop) {
  Totals totals;
  const int64_t classes = output_shapes(m.net, 1).back().row();
  if (confusion) totals.confusion.resize(static_cast<size_t>(classes * classes));
  std::vector<float> logits;
  int32_t stopped = 0;
  loader.start(0);
  while (const Batch* batch = loader.next()) {
    if (stop && (stopped = largest(m, exec, stop())) != 0) break;
    const StepReport step = evaluate_batch(m, exec, *batch, confusion ? &logits : nullptr);
    totals.loss += step.loss;
    totals.correct += step.correct;
    totals.rows += step.rows;
    const int32_t* ranks = m.own_rank.view().as<int32_t>();
    totals.in_five += std::count_if(ranks, ranks + batch->rows, [](int32_t rank) { return rank < 5; });
    if (!confusion) continue;
    const int32_t* labels = batch->labels.as<int32_t>();
    for (int64_t n = 0; n < batch->rows; ++n) {
      const float* row = logits.data() + n * classes;
      const int64_t predicted = std::max_element(row, row + classes) - row;
      ++totals.confusion[static_cast<size_t>(labels[n] * classes + predicted)];
    }
  }
  add_up(m, exec, totals);
  EvaluationReport report;
  const auto rows = static_cast<double>(std::max<int64_t>(totals.rows, 1));
  report.loss = totals.loss / rows;
  report.top1 = static_cast<double>(totals.correct) / rows;
  report.top5 = static_cast<double>(totals.in_five) / rows;
  report.rows = totals.rows;
  report.stopped = stopped;
  report.confusion = std::move(totals.confusion);
  return report;
}

}  // namespace convoy
