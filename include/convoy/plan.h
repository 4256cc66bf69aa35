// How the work of a step is divided: a pure function of the net, the workers and the mode. lower() carries it
// out, `convoy plan` prints it.
//
// Layers before the cut are data-parallel: every worker holds their weights and sees its own rows. From the cut
// on every worker holds part_of(outputs, rank, world) of each layer's outputs and sees the rows of everybody,
// pass by pass (exchange.h). One layer's output crosses the cut: the features.
#pragma once
#include <cstdint>
#include <vector>

#include "convoy/exchange.h"
#include "convoy/net.h"

namespace convoy {

enum class Parallel : uint8_t { kData, kHybrid, kModel };

struct PlanOptions {
  int world = 1, rank = 0;
  Parallel parallel = Parallel::kData;
  Scheme scheme = Scheme::kA;
  int64_t fc_batch_size = 0;  // rows of a pass; 0: the batch for scheme A, ceil(batch / world) for B and C
  bool update_each_pass = false;  // --fc-update pass
  bool sync_batchnorm = true;     // statistics over the global batch
  bool average = false;           // --sync average: workers train alone, their weights are averaged
};

struct Plan {
  int64_t batch = 0;  // rows of the global batch
  int64_t rows = 0;   // of them here, at most: buffers are sized for these
  PlanOptions options;
  int cut = 0;            // the first split layer; layers.size() when none is split
  int features = -1;      // the layer whose output crosses the cut; -1 when none is split
  int64_t pass_rows = 0;  // rows of a pass
  bool split(int layer) const { return layer >= cut; }
  RowRange own_rows(int64_t global_rows) const { return part_of(global_rows, options.rank, options.world); }
  std::vector<Pass> passes(int64_t global_rows) const;  // none when nothing is split
};

// Throws InputError naming the net, the layer and the option: a cut that more than one layer's output crosses,
// batch norm after the cut in several passes, per-pass updates without passes, bytes past 2^62.
Plan make_plan(const Net& net, int64_t batch, const PlanOptions& options = {});

}  // namespace convoy
