#include "schemes_check.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "convoy/checkpoint.h"
#include "synthetic_batch.h"

namespace convoy {
namespace {

constexpr float kRate = 0.02f;
constexpr double kFirstBound = 1e-3, kLastBound = 0.02;

void train_once(Model& model, Exec& exec, const Batch& batch, int64_t step) {
  StepSettings settings;
  settings.step = step;
  settings.lr = kRate;
  train_step(model, exec, batch, settings);
}

// The norm of a - b, for all of b.
double distance(const float* a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double off = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    sum += off * off;
  }
  return std::sqrt(sum);
}

}  // namespace

OneWorkersWeights::OneWorkersWeights(const Net& net, int64_t batch, const Exec& exec) {
  Exec own = exec;
  const Plan plan = make_plan(net, batch);
  Model model = make_model(net, plan, synthetic_options(net), own, {batch}, {});
  const SyntheticBatch data(net, plan, *own.backend);
  using Values = std::vector<std::vector<float>>;
  const auto all_values = [&] {
    const HostTensors tensors = host_tensors(model, own);
    Values values;
    for (size_t i = 0; i < model.specs.size(); ++i)
      values.emplace_back(tensors.values[i],
                          tensors.values[i] + (model.specs[i].buffer() ? 0 : model.values[i].count()));
    return values;
  };
  const Values initial = all_values();
  const auto keep = [&](std::vector<Tensor>& moment, double part) {
    Values now = all_values();
    for (size_t i = 0; i < model.specs.size(); ++i) {
      Tensor tensor{std::move(now[i]), 0};
      constexpr double kRounding = std::numeric_limits<float>::epsilon();
      const std::vector<float> zeros(tensor.values.size());
      tensor.bound = part * distance(tensor.values.data(), initial[i]) +
                     4 * kRounding * distance(tensor.values.data(), zeros);
      moment.push_back(std::move(tensor));
    }
  };
  for (int64_t step = 0; step < kCheckedSteps; ++step) {
    train_once(model, own, data.batch(), step);
    if (step == 0) keep(first_, kFirstBound);
  }
  keep(last_, kLastBound);
}

double OneWorkersWeights::difference(const Model& model, Exec& exec,
                                     const std::vector<Tensor>& moment) const {
  const HostTensors tensors = host_tensors(model, exec);
  double worst = 0;
  for (size_t i = 0; i < model.specs.size(); ++i) {
    if (model.specs[i].buffer()) continue;
    const Tensor& want = moment[i];
    const int64_t first = model.own[i].first * model.specs[i].shape.row();
    const auto* begin = want.values.data() + first;
    const double off = distance(tensors.values[i], {begin, begin + model.values[i].count()});
    if (off == 0) continue;
    if (std::isnan(off)) return std::numeric_limits<double>::infinity();
    worst = std::max(worst, off / want.bound);
  }
  return worst;
}

double OneWorkersWeights::wrong(Model& model, Exec& exec, const Batch& batch) const {
  double worst = 0;
  for (int64_t step = 0; step < kCheckedSteps; ++step) {
    train_once(model, exec, batch, step);
    if (step == 0) worst = difference(model, exec, first_);
  }
  return std::max(worst, difference(model, exec, last_));
}

}  // namespace convoy
