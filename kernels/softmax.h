// Losses over logits x[N,F] and labels[N] (i32, 0 <= label < F, else Error; on CUDA such a row gets NaN loss and
// gradient and rank F), one row at a time.
//
//   softmax   row_loss = log(sum of exp(x - max)) + max - x[label];
//             dx = softmax(x) - onehot(label)
//   logistic  row_loss = sum over f of log(1 + exp(x)) - [f = label] · x, computed without overflow;
//             dx = sigmoid(x) - onehot(label)         (independent logistic units, Krizhevsky 2014)
//
// With scalars, dx is multiplied by their loss_scale. x and dx are f32; on CUDA each may be f32, bf16 or f16.
// Gradients and losses are sums over rows, never means: the update divides. row_loss[N] f32; row_rank[N] i32
// is the number of classes that beat the label's (a higher logit, or an equal one with a lower index): top-1
// is rank 0. A row with a NaN logit gets NaN loss and gradient and rank F. dx may be x, and may be empty; so
// may row_rank.
//
// Where the classes are split over workers, x[N,F] holds classes [first_class, first_class + F) of `classes`
// (0: x holds them all; F may be 0). Labels are in [0, classes); a row whose label is elsewhere has no own
// label:
//
//   logistic     row_loss is this slice's share: the shares add up to the loss of all classes; row_rank must
//                be empty. A NaN spoils its row in its slice, and by the sum the row's loss
//   label_logit  logit[n] = x[n, label - first_class], or 0 where the label is elsewhere: added up, the
//                label's logit
//   label_rank   rank[n] = how many classes of the slice beat the label, whose logit is given: added up,
//                row_rank. A NaN logit of the slice or of the label counts as F, so that the sum is never 0
//
// logit and rank are f32 [N], rank a whole number.
#pragma once
#include "convoy/backend.h"

namespace convoy {

struct SoftmaxCrossEntropy {
  In x, labels;
  Out dx, row_loss, row_rank;
  const StepScalars* scalars = nullptr;
};
struct LogisticCrossEntropy {
  In x, labels;
  Out dx, row_loss, row_rank;
  int64_t first_class = 0, classes = 0;
  const StepScalars* scalars = nullptr;
};

struct LabelLogit {
  In x, labels;
  int64_t first_class = 0;
  Out logit;
};
struct LabelRank {
  In x, labels, logit;
  int64_t first_class = 0;
  Out rank;
};

}  // namespace convoy
