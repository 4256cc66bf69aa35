// The two ends that are not layers: the loss and the update.
#include "kernels/add.h"
#include "kernels/fill.h"
#include "kernels/sgd.h"
#include "kernels/softmax.h"
#include "lowering.h"

namespace convoy {

void Lowering::loss() {
  const int last = static_cast<int>(b_.net->layers.size()) - 1;
  const bool whole_loss = !split(last) || !training_ || b_.options->loss == Loss::kSoftmax;
  const View z = whole_loss ? whole(last) : out(last);
  const View logits = z.reshaped({rows_, z.shape.row()});
  const View dx = training_ ? activation(logits.shape) : View();
  const View row_loss = buffer(DType::kF32, {rows_});
  const View labels = (half_ == Half::kSplit ? b_.slot.labels : b_.labels).slice_rows(0, rows_);
  program.logits = logits;
  program.row_loss = row_loss;
  program.dlogits = dx;
  View row_rank;
  if (whole_loss) row_rank = buffer(DType::kI32, {rows_});
  if (b_.options->loss == Loss::kSoftmax) {
    const SoftmaxCrossEntropy args{logits, labels, dx, row_loss, row_rank, loss_scalars()};
    emit(program.forward, last, args, {logits, dx, row_loss, row_rank}, row_loss);
  } else {
    LogisticCrossEntropy args{logits, labels, dx, row_loss, row_rank};
    args.scalars = loss_scalars();
    if (!whole_loss) {
      args.first_class = own_columns(last).first;
      args.classes = channels_of(last);
    }
    emit(program.forward, last, args, {logits, dx, row_loss, row_rank}, row_loss);
    if (!whole_loss) row_rank = shared_logistic_loss(last, logits, labels, row_loss);
  }
  program.row_rank = row_rank;
  if (!training_) return;
  // Every worker computed the gradient of all logits: its columns need no sum.
  const View dy = dx.reshaped(z.shape);
  grad(last) = {whole_loss && split(last) ? slice(program.backward, last, dy) : dy, false, false};
}

// Every worker has the loss of its own classes. The rows' sums and ranks are put together; the gradient needs
// neither.
View Lowering::shared_logistic_loss(int last, const View& logits, const View& labels, const View& row_loss) {
  const View sums = buffer(DType::kF32, {2 * rows_}), logit = sums.slice_rows(0, rows_);
  const View rank = buffer(DType::kF32, {rows_});
  const int64_t first_class = own_columns(last).first;
  emit(program.forward, last, LabelLogit{logits, labels, first_class, logit}, {logits, sums}, logit);
  sum_over_workers(program.forward, last, logit, "sum label logits");
  emit(program.forward, last, LabelRank{logits, labels, logit, first_class, rank}, {logits, sums, rank},
       rank);
  sum_over_workers(program.forward, last, rank, "sum ranks");
  sum_over_workers(program.forward, last, row_loss, "sum losses");
  return rank;
}

void Lowering::sum_over_workers(std::vector<Operation>& list, int i, const View& view, const char* name) {
  Communicator* comm = b_.team.compute;
  const Label label{Traffic::kOther, name};
  emit_transfer(list, i, label, [=](Exec& exec) { comm->all_reduce(exec, label, view); }, {view});
}

// The square of the gradient's norm, for clipping. Each worker has all of the front half's gradients, and its own
// part of the split half's.
void Lowering::norm() {
  const View front = b_.sum_of_squares.slice_rows(0, 1), split_half = b_.sum_of_squares.slice_rows(1, 1);
  emit_update(SumOfSquares{b_.gradient_arena.slice_rows(0, b_.front_elements), front});
  if (b_.plan->features < 0) return;
  const int64_t elements = b_.gradient_arena.count() - b_.front_elements;
  emit_update(SumOfSquares{b_.gradient_arena.slice_rows(b_.front_elements, elements), split_half});
  if (world_ > 1) sum_over_workers(program.update, begin_, split_half, "sum norms");
  emit_update(AddArgs{front, split_half, front, false});
}

// A row whose loss is not finite has no finite gradient either, and the last layer's gradients are sums over all rows.
// Gradients in f16 may overflow anywhere, so all are looked at, by the sum of their squares.
void Lowering::guard() {
  if (dtype_ == DType::kF16) {
    const View squares = b_.sum_of_squares.slice_rows(0, 1);
    const int64_t first = half_ == Half::kFront ? 0 : b_.front_elements;
    emit_update(
        SumOfSquares{b_.gradient_arena.slice_rows(first, b_.gradient_arena.count() - first), squares});
    if (world_ > 1 && !b_.plan->options.average)
      sum_over_workers(program.update, begin_, squares, "sum squares");
    return emit_update(CountNonfinite{squares, b_.skip});
  }
  for (size_t s = b_.specs.size(); s-- > 0;) {
    if (b_.gradients[s].empty()) continue;
    emit_update(CountNonfinite{b_.gradients[s], b_.skip});
    return;
  }
}

// Optimizers run over this half's part of the arenas. The front half is updated first: it makes the norm.
void Lowering::update() {
  // The front half's update comes first, and its guard is for both halves, unless the split half is updated each pass.
  if (!b_.skip.empty() && (half_ == Half::kFront || b_.plan->options.update_each_pass)) guard();
  for (const auto& running : running_) running();
  const Optimizer& o = b_.options->optimizer;
  if (o.clip_norm > 0 && half_ == Half::kFront) norm();
  const bool front = half_ == Half::kFront;
  const int64_t first = front ? 0 : b_.front_elements;
  const int64_t count = front ? b_.front_elements : b_.gradient_arena.count() - b_.front_elements;
  const auto part = [&](const View& arena) { return arena.empty() ? arena : arena.slice_rows(first, count); };
  const auto fill = [&](auto& args) {
    args.scalars = b_.scalars + (front ? 0 : 1);
    args.weight_decay = o.weight_decay;
    args.clip_norm = o.clip_norm;
    if (o.clip_norm > 0) args.sum_of_squares = b_.sum_of_squares.slice_rows(0, 1);
    args.w = part(b_.parameter_arena);
    args.g = part(b_.gradient_arena);
    args.skip = b_.skip;
    args.low = part(b_.low_arena);
  };
  if (o.kind == OptimizerKind::kSgd) {
    SgdUpdate args;
    fill(args);
    args.momentum = o.momentum;
    args.nesterov = o.nesterov;
    args.velocity = part(b_.state[0]);
    emit_update(args);
  } else {
    AdamwUpdate args;
    fill(args);
    args.beta1 = o.beta1;
    args.beta2 = o.beta2;
    args.eps = o.eps;
    args.m = part(b_.state[0]);
    args.v = part(b_.state[1]);
    emit_update(args);
  }
}

}  // namespace convoy
