// The bytes that workers report for a step are those of the design's formulas, written out here for one net.
#include <gtest/gtest.h>

#include "parallel_state.h"

namespace convoy {
namespace {

// One image: 8x8x4 = 256, then 8x8x16 = 1024, pooled 4x4x16 = 256, then 2x2x32 = 128; then 48 and 5. Parameters are
// numbers of whole cache lines, on which tensors begin, but for fc 5's: the fill between tensors travels with them.
constexpr const char* kNet =
    "input 8x8x4\nconv 16 3x3 pad 1\nrelu\nmaxpool 2\nconv 32 3x3\nrelu\nfc 48\nrelu\nfc 5\n";
constexpr int64_t kFrontParameters = 16 * 9 * 4 + 16 + 32 * 9 * 16 + 32;
constexpr int64_t kAllParameters = kFrontParameters + 48 * 128 + 48 + 5 * 48 + 5, kFill = 11;
constexpr int64_t kRows = 13;

struct Case {
  const char* name;
  PlanOptions options;
};
const Case kCases[] = {
    {"data", mode(Parallel::kData)},
    {"hybrid_a", mode(Parallel::kHybrid, Scheme::kA)},
    {"hybrid_b", mode(Parallel::kHybrid, Scheme::kB)},
    {"hybrid_b5", mode(Parallel::kHybrid, Scheme::kB, 5)},
    {"hybrid_c", mode(Parallel::kHybrid, Scheme::kC)},
    {"hybrid_c3", mode(Parallel::kHybrid, Scheme::kC, 3)},
    {"model_a", mode(Parallel::kModel, Scheme::kA)},
    {"model_c4", mode(Parallel::kModel, Scheme::kC, 4)},
};

using Bytes = std::array<int64_t, kTrafficKinds>;

Bytes wanted(Parallel parallel, Loss loss, int rank, int world) {
  const auto others = [&](int64_t of) { return of - part_of(of, rank, world).count; };
  const int64_t logits =
      loss == Loss::kSoftmax ? others(5) : 0;  // gathered, but their gradient is everybody's
  int64_t rows = 0, columns = 0;
  if (parallel == Parallel::kHybrid) {
    rows = 2 * others(kRows) * 128;               // features there, their gradient back
    columns = kRows * (2 * others(48) + logits);  // fc 48's outputs are whole for fc 5
  } else if (parallel == Parallel::kModel) {
    rows = others(kRows) * 256;  // nothing before the cut wants a gradient
    columns = kRows * (2 * (16 * others(16) + 4 * others(32) + others(48)) + logits);
  }
  Bytes bytes{};
  bytes[static_cast<size_t>(Traffic::kRows)] = rows * 4;
  bytes[static_cast<size_t>(Traffic::kColumns)] = columns * 4;
  return bytes;
}

class StepBytes : public ::testing::TestWithParam<std::tuple<Case, int, Loss>> {};

TEST_P(StepBytes, AreThoseOfTheFormulas) {
  const auto& [c, world, loss] = GetParam();
  const Net net = parse_net(kNet, "bytes.net");
  ModelOptions options;
  options.loss = loss;
  options.normalization = half_normalization(net);
  Examples examples(net, kRows, 8);
  std::vector<Bytes> seen(static_cast<size_t>(world));
  run_team(world, team_backend(), [&, &plan = c.options, workers = world](Team& team, Exec& exec) {
    const Plan own = make_plan(net, kRows, of_worker(plan, team, workers));
    Model model = make_model(net, own, options, exec, {kRows}, {}, team);
    seen[static_cast<size_t>(team.rank())] =
        train_step(model, exec, examples.batch(team.rank(), workers), {0, 0, 0.1f}).bytes;
  });
  const Parallel parallel = c.options.parallel;
  int64_t gradients = 0;
  for (int rank = 0; rank < world; ++rank) {
    const Bytes want = wanted(parallel, loss, rank, world), &got = seen[static_cast<size_t>(rank)];
    for (const Traffic kind : {Traffic::kRows, Traffic::kColumns})
      EXPECT_EQ(got[static_cast<size_t>(kind)], want[static_cast<size_t>(kind)])
          << traffic_name(kind) << ", rank " << rank;
    gradients += got[static_cast<size_t>(Traffic::kGradients)];
  }
  // 2(K-1)/K of the bytes for each of K workers.
  const int64_t summed = parallel == Parallel::kModel    ? 0
                         : parallel == Parallel::kHybrid ? kFrontParameters
                                                         : kAllParameters + kFill;
  EXPECT_EQ(gradients, 2 * (world - 1) * summed * 4);
}

INSTANTIATE_TEST_SUITE_P(Parallel, StepBytes,
                         ::testing::Combine(::testing::ValuesIn(kCases), ::testing::Values(2, 3, 4, 8),
                                            ::testing::Values(Loss::kSoftmax, Loss::kLogistic)),
                         [](const auto& parameters) {
                           return std::string(std::get<0>(parameters.param).name) + "_" +
                                  std::to_string(std::get<1>(parameters.param)) +
                                  (std::get<2>(parameters.param) == Loss::kSoftmax ? "" : "_logistic");
                         });

}  // namespace
}  // namespace convoy
