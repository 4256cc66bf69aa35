// The parts of bench_ops: shapes, the check of results, and the peer.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "convoy/backend.h"
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
  bool bias = true;
  int64_t layers = 1;  // of the net that have this shape

  double flop() const {  // of each pass, taps on padding included
    const ConvShape& s = shape;
    return 2.0 * static_cast<double>(s.y().count()) * static_cast<double>(s.R * s.S * s.C);
  }
};
std::vector<Problem> problems();

// An operand: its elements, or a block of them that repeats.
struct Elements {
  const float* data = nullptr;
  int64_t period = 0;  // 0: none
  float operator[](int64_t i) const { return data[period > 0 ? i % period : i]; }
};

// The operands of a problem's passes, and the elements of its results.
struct Operands {
  Elements x, w, bias, dy;  // bias: may have no data
  std::function<float(int64_t)> y, dx, dw, db;
  // Exact: every sum of the operands' products is a number of f32, whatever its order, so that only the roundings of y
  // and dx to their type count (fc rounds twice); else sums of f32 are rounded too.
  bool exact = false;
  double half_unit = 0;                   // of the type of y and dx, where that is not f32
  int64_t most_terms = int64_t{1} << 62;  // that the sampled sums of a pass may have, about
};

// How many of the sampled elements of a pass's result lie outside the rounding bound of a reference in double precision:
// gamma(n) · sum of |terms|, and the result's own roundings.
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

// On a CUDA device: every layer of whole nets.
struct CudaOptions {
  std::string nets = "vgg16,alexnet,resnet18", layer, precision = "bf16", json, peer, peer_script;
  int64_t batch = 256;
  double seconds = 0.05;  // of each row
  double peer_seconds = 60;
};
int run_cuda(const Cuda& cuda, const CudaOptions& options);

}  // namespace convoy::bench
