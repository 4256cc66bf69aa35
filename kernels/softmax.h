// Losses over logits x[N,F] and labels[N] (i32, 0 <= label < F, else Error), one row at a time.
//
//   softmax   row_loss = log(sum of exp(x - max)) + max - x[label];
//             dx = softmax(x) - onehot(label)
//   logistic  row_loss = sum over f of log(1 + exp(x)) - [f = label] · x, computed without overflow;
//             dx = sigmoid(x) - onehot(label)         (independent logistic units, Krizhevsky 2014)
//
// Gradients and losses are sums over rows, never means: the update divides. row_loss[N] f32; row_rank[N] i32
// is the number of classes that beat the label's (a higher logit, or an equal one with a lower index): top-1
// is rank 0. A row with a NaN logit gets NaN loss and gradient and rank F. dx may be x, and may be empty; so
// may row_rank.
#pragma once
#include "convoy/tensor.h"

namespace convoy {

struct SoftmaxCrossEntropy {
  In x, labels;
  Out dx, row_loss, row_rank;
};
struct LogisticCrossEntropy {
  In x, labels;
  Out dx, row_loss, row_rank;
};

}  // namespace convoy
