// The layers' times that `convoy plan` measures: every layer that works has some, and they make up a step.
#include <gtest/gtest.h>

#include <mutex>

#include "measure_layers.h"
#include "workers.h"

namespace convoy {
namespace {

LayerTimes measured(const Net& net, int64_t batch, int workers, Scheme scheme) {
  WorkersOptions options;
  options.workers = workers;
  options.threads = 1;
  LayerTimes of_first;
  std::mutex mutex;
  run_workers(options, [&](Team& team, const Exec& exec) {
    PlanOptions division;
    division.world = team.world();
    division.rank = team.rank();
    division.parallel = Parallel::kHybrid;
    division.scheme = scheme;
    const LayerTimes times = measure_layers(net, make_plan(net, batch, division), team, exec);
    const std::lock_guard<std::mutex> lock(mutex);
    if (of_first.layers.empty()) of_first = times;
    EXPECT_EQ(times.update, of_first.update) << "the same on every worker";
    EXPECT_EQ(times.layers[1].forward.row, of_first.layers[1].forward.row);
    return 0;
  });
  return of_first;
}

TEST(MeasureLayers, EveryLayerThatWorksHasTime) {
  const Net net =
      parse_net("input 16x16x3\nconv 16 3x3 pad 1\nrelu\nmaxpool 2\nfc 64\nrelu\nfc 10\n", "small.net");
  for (const Scheme scheme : {Scheme::kA, Scheme::kC}) {
    const LayerTimes times = measured(net, 16, 2, scheme);
    ASSERT_EQ(times.layers.size(), net.layers.size());
    for (const size_t layer : {1, 4, 6}) {  // ReLU and max pool may be part of the layer before
      EXPECT_GT(times.layers[layer].forward.seconds(8, 0.5), 0) << layer;
      EXPECT_GT(times.layers[layer].backward.seconds(8, 0.5), 0) << layer;
    }
    EXPECT_GT(times.update, 0);
    EXPECT_GE(times.step, 0);
  }
}

TEST(MeasureLayers, GatherNumbersInRankOrder) {
  WorkersOptions options;
  options.workers = 3;
  options.threads = 1;
  run_workers(options, [&](Team& team, const Exec&) {
    const double rank = team.rank();
    EXPECT_EQ(gather_numbers(team, {rank, 10 * rank}), (std::vector<double>{0, 0, 1, 10, 2, 20}));
    return 0;
  });
}

}  // namespace
}  // namespace convoy
