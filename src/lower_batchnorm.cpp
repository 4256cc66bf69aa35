// Batch norm with what follows it: a residual addition, a ReLU.
#include "kernels/batchnorm.h"
#include "lowering.h"

namespace convoy {

void Lowering::forward(int i, const BatchNorm& spec) {
  const int from = layer(i).inputs[0];
  const View x = out(from);
  const int64_t channels = x.shape[x.shape.rank - 1];
  BatchNormForward args;
  args.x = x;
  args.gamma = parameter(i, ParameterSpec::kGamma);
  args.beta = parameter(i, ParameterSpec::kBeta);
  args.eps = spec.eps;

  // An addition whose other operand is already there becomes this operation's residual.
  int last = i, residual = -1;
  if (const int add = sole_consumer<Add>(i); add >= 0) {
    const std::vector<int>& operands = layer(add).inputs;
    const int other = operands[0] == i ? operands[1] : operands[0];
    if (other != i && !out(other).empty() && split(other) == split(i)) {
      fused_[static_cast<size_t>(add)] = true;
      residual = other;
      last = add;
      args.residual = out(other);
    }
  }
  last = fuse_relu(last, &args.relu);

  if (!training_) {
    args.mean = parameter(i, ParameterSpec::kRunningMean);
    args.m2 = parameter(i, ParameterSpec::kRunningVar);
    args.count = 1;
    args.y = activation(x.shape);
    out(last) = args.y;
    emit(program.forward, i, args, {x, args.residual, args.y}, args.y);
    return;
  }

  // The split half has every row here; the front half's workers put their rows' statistics together, unless each trains
  // apart.
  const PlanOptions& plan = b_.plan->options;
  const bool merge = half_ == Half::kFront && world_ > 1 && plan.sync_batchnorm && !plan.average;
  const int64_t pixels = shapes_[static_cast<size_t>(i)].count() / channels_of(i);
  const View statistics = buffer(DType::kF32, {2, channels});
  const View mean = statistics.slice_rows(0, 1).reshaped({channels});
  const View m2 = statistics.slice_rows(1, 1).reshaped({channels});
  emit(program.forward, i, BatchNormStatistics{x, mean, m2}, {x, statistics}, mean);
  if (merge) merge_statistics(i, statistics, pixels);
  args.mean = mean;
  args.m2 = m2;
  args.count = (merge ? global_rows_ : rows_) * pixels;
  args.y = activation(x.shape);
  out(last) = args.y;
  emit(program.forward, i, args, {x, mean, m2, args.residual, args.y}, args.y);
  if (args.count > 0)
    running_.push_back([=] {
      const BatchNormRunning running{mean,
                                     m2,
                                     args.count,
                                     spec.momentum,
                                     parameter(i, ParameterSpec::kRunningMean),
                                     parameter(i, ParameterSpec::kRunningVar),
                                     b_.skip};
      emit(program.update, i, running, {mean, m2}, running.running_mean);
    });

  backward_.push_back([=] {
    const Gradient g = grad(last);
    const In mask = args.relu && !g.masked ? In(out(last)) : In();
    BatchNormBackwardSums sums;
    sums.x = x;
    sums.dy = g.dy;
    sums.mean = mean;
    sums.m2 = m2;
    sums.count = args.count;
    sums.eps = spec.eps;
    sums.mask = mask;
    sums.dgamma = gradient(i, ParameterSpec::kGamma);
    sums.dbeta = gradient(i, ParameterSpec::kBeta);
    sums.sums = buffer(DType::kF32, {2 * channels});
    sums.overwrite = true;
    emit(program.backward, i, sums, {x, g.dy, mean, m2, mask, sums.sums}, sums.dgamma);
    if (merge) sum_over_workers(program.backward, i, sums.sums, "sum batch norm");

    const bool hand_down = residual >= 0 && wants_gradient(residual);
    const bool alias = hand_down && mask.empty();  // the residual's gradient is dy itself
    BatchNormBackwardData data;
    data.x = x;
    data.dy = g.dy;
    data.mean = mean;
    data.m2 = m2;
    data.gamma = args.gamma;
    data.sums = sums.sums;
    data.count = args.count;
    data.eps = spec.eps;
    data.mask = mask;
    data.dx = g.shared || alias ? new_gradient(from) : g.dy;
    if (hand_down && !alias) data.dresidual = new_gradient(residual);
    emit(program.backward, i, data, {x, g.dy, mean, m2, sums.sums, mask, data.dx, data.dresidual}, data.dx);
    if (wants_gradient(from)) arrive(from, data.dx, false, false);
    if (hand_down) arrive(residual, alias ? g.dy : data.dresidual, alias && g.shared, false);
  });
}

void Lowering::merge_statistics(int i, const View& statistics, int64_t pixels) {
  const int64_t channels = statistics.shape[1];
  Communicator* comm = b_.team.compute;
  Blocks elements;
  for (int r = 0; r < world_; ++r) elements.push_back(part_of(global_rows_, r, world_).count * pixels);
  const auto counts = share(elements), ones = share(Blocks(static_cast<size_t>(world_), 1));
  const View all = buffer(DType::kF32, {world_, 2 * channels});
  const Label label{Traffic::kOther, "gather statistics"};
  const View mine = statistics.reshaped({1, 2 * channels});
  emit_transfer(program.forward, i, label,
                [=](Exec& exec) { comm->all_gather(exec, label, mine, all, *ones); }, {statistics, all});
  program.blocks.push_back(counts);
  const View mean = statistics.slice_rows(0, 1).reshaped({channels});
  const View m2 = statistics.slice_rows(1, 1).reshaped({channels});
  emit(program.forward, i, BatchNormMerge{all, counts.get(), mean, m2}, {all, statistics}, mean);
}

}  // namespace convoy
