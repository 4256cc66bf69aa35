// The time of a training step as a pure function of the plan, the speed of its layers, and the links. `precision`, of
// activations, counts for the bytes that travel; how fast layers are then, their times say.
//
// It plays the step (train_step.cpp) on two queues: compute, and transfers beside it. Every worker has an outgoing
// and an incoming link for both queues; who asks first is served first, whole transfers at a time. A transfer takes
//   max over workers of max(bytes out, bytes in) / rate + messages x latency;
// all workers start it together and have the largest worker's rows and outputs. Not modelled: transfers that are no
// rows, columns or gradients (losses, batch norm's statistics), copies within a worker, and workers that slow each
// other down.
#pragma once
#include <array>
#include <limits>

#include "convoy/plan.h"
#include "convoy/train.h"
#include "trace.h"

namespace convoy {

// Seconds of one call of a layer for `rows` rows and `share` of its outputs (split layers; else 1).
struct CallTime {
  double call = 0;     // whatever the rows and the share
  double weights = 0;  // of all its outputs, whatever the rows
  double row = 0;      // of all its outputs
  double seconds(int64_t rows, double share) const {
    return rows == 0 ? 0 : call + share * (weights + static_cast<double>(rows) * row);
  }
};
struct LayerTime {
  CallTime forward, backward;
};
struct LayerTimes {
  std::vector<LayerTime> layers;  // one a layer of the net
  double pass = 0;                // a pass beside its layers, when several workers take part
  double update = 0;              // of one parameter
  double step = 0;                // a step beside everything else: loading, reading the loss
};

struct LinkFigures {
  double bytes_per_second = std::numeric_limits<double>::infinity();  // of each worker's link, either way
  double message_seconds = 0;
  int root_workers = 0;     // neighbours this many at a time share a root; 0: all do
  double across_roots = 1;  // rate to a worker of another root, as a part of bytes_per_second
};

struct StepModel {
  double seconds = 0;
  std::array<double, kTrafficKinds> exposed{};  // that compute waits for transfers; their sum is not compute
  double compute_seconds() const { return seconds - exposed[0] - exposed[1] - exposed[2] - exposed[3]; }
  TracedWorker timeline;
};
StepModel model_step(const Net& net, const Plan& plan, Loss loss, const LayerTimes& times,
                     const LinkFigures& links, DType precision = DType::kF32);

// Payload of a step by kind, as `rank`'s communicators count it (comm.h): rows, columns, gradients; other is left
// out. Gradients: 2(K-1)/K of the front half's, each tensor filled up to 64 bytes.
std::array<int64_t, kTrafficKinds> step_bytes(const Net& net, const Plan& plan, Loss loss, int rank,
                                              DType precision = DType::kF32);

// Seconds that the step's transfers of rows take on such links, one after the other: what can be hidden.
double row_transfer_seconds(const Net& net, const Plan& plan, const LinkFigures& links);

// Memory of a worker for rows that came or go: features and their gradients, of two passes when there are several.
int64_t exchange_bytes(const Net& net, const Plan& plan, DType precision = DType::kF32);

// The largest part of a layer's outputs that a worker has.
double largest_share(const Shape& outputs, int world);

// Trained parameters of a layer: whole, and of one rank (its outputs' part when the layer is split).
int64_t layer_parameters(const Net& net, int layer);
int64_t own_parameters(const Net& net, const Plan& plan, int layer, int rank);

}  // namespace convoy
