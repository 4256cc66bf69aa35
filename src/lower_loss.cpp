// The two ends that are not layers: the loss and the update.
#include "kernels/sgd.h"
#include "kernels/softmax.h"
#include "lowering.h"

namespace convoy {

void Lowering::loss() {
  const int last = static_cast<int>(b_.net->layers.size()) - 1;
  const View logits = out(last).reshaped({rows_, out(last).shape.row()});
  const View dx = training_ ? buffer(DType::kF32, logits.shape) : View();
  const View row_loss = buffer(DType::kF32, {rows_}), row_rank = buffer(DType::kI32, {rows_});
  const View labels = b_.labels.slice_rows(0, rows_);
  program.logits = logits;
  program.row_loss = row_loss;
  program.row_rank = row_rank;
  program.dlogits = dx;
  if (b_.options->loss == Loss::kSoftmax) {
    const SoftmaxCrossEntropy args{logits, labels, dx, row_loss, row_rank};
    emit(program.forward, last, args, {logits, dx, row_loss, row_rank}, row_loss);
  } else {
    const LogisticCrossEntropy args{logits, labels, dx, row_loss, row_rank};
    emit(program.forward, last, args, {logits, dx, row_loss, row_rank}, row_loss);
  }
  if (training_) grad(last) = {dx.reshaped(out(last).shape), false, false};
}

void Lowering::update() {
  for (const auto& running : running_) running();
  const Optimizer& o = b_.options->optimizer;
  In norm;
  if (o.clip_norm > 0) {
    norm = b_.sum_of_squares;
    emit(program.update, 0, SumOfSquares{b_.gradient_arena, b_.sum_of_squares}, {}, {});
  }
  if (o.kind == OptimizerKind::kSgd) {
    SgdUpdate args;
    args.scalars = b_.scalars;
    args.momentum = o.momentum;
    args.weight_decay = o.weight_decay;
    args.nesterov = o.nesterov;
    args.clip_norm = o.clip_norm;
    args.sum_of_squares = norm;
    args.w = b_.parameter_arena;
    args.g = b_.gradient_arena;
    args.velocity = b_.state[0];
    emit(program.update, 0, args, {}, {});
  } else {
    AdamwUpdate args;
    args.scalars = b_.scalars;
    args.beta1 = o.beta1;
    args.beta2 = o.beta2;
    args.eps = o.eps;
    args.weight_decay = o.weight_decay;
    args.clip_norm = o.clip_norm;
    args.sum_of_squares = norm;
    args.w = b_.parameter_arena;
    args.g = b_.gradient_arena;
    args.m = b_.state[0];
    args.v = b_.state[1];
    emit(program.update, 0, args, {}, {});
  }
}

}  // namespace convoy
