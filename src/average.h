// Training apart (--sync average): every worker updates its own weights from its own rows, and from time to time all
// take the mean of what they have. Weights, optimizer state and running statistics alike.
#pragma once
#include "convoy/train.h"

namespace convoy {

void average_weights(Model& model, Exec& exec);

// Every worker takes rank 0's running statistics of batch norm: they differ with --batchnorm local.
void share_statistics(Model& model, Exec& exec);

}  // namespace convoy
