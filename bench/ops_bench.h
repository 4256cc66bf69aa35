// The parts of bench_ops: shapes, the check of results, and the peer.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "kernels/conv.h"

namespace convoy::bench {

enum Pass { kForward, kBackwardData, kBackwardWeights };
constexpr const char* kPassNames[] = {"fwd", "bwd-data", "bwd-weights"};

// A convolution; a fully connected layer is one of 1 x 1 images.
struct Problem {
  std::string net, name;
  bool fc = false;
  bool first = false;  // reads the images: its backward data is never wanted
  ConvShape shape;

  double flop() const {  // of each pass, taps on padding included
    const ConvShape& s = shape;
    return 2.0 * static_cast<double>(s.y().count()) * static_cast<double>(s.R * s.S * s.C);
  }
};
std::vector<Problem> problems();

// The operands of a problem's passes, f32, in plain memory.
struct Operands {
  float *x, *w, *bias, *y, *dx, *dw, *db;
  const float* dy;
};

// How many of the sampled elements of a pass's result lie outside the rounding bound gamma(n) · sum of
// |terms| of a reference in double precision.
int64_t count_wrong(const Problem& problem, Pass pass, const Operands& operands);

// A run of the peer's implementation, in the layout named.
struct PeerRun {
  std::string layout;
  std::function<void()> run;
};
// "oneDNN 2.6.3", or "" without a peer. The peer is held to the instruction set and threads (before its first
// use).
std::string peer_open(const std::string& isa, int threads);
std::vector<PeerRun> peer_runs(const Problem& problem, Pass pass);

}  // namespace convoy::bench
