// PyTorch as the peer of bench_ops --device cuda: bench/peers/torch_ops.py times the same layers.
#pragma once
#include <map>

#include "bench/ops_bench.h"

namespace convoy::bench {

struct PeerTimes {
  std::string name = "none (--peer)";
  std::map<std::pair<std::string, int>, double> by_layer;  // "net layer", pass

  double seconds(const Problem& problem, Pass pass) const;  // 0: not measured
};
// What the peer has measured when it ends, or after --peer-seconds. Where it fails, a line on stderr says why.
PeerTimes run_ops_peer(const CudaOptions& options, const std::vector<Problem>& problems);

}  // namespace convoy::bench
