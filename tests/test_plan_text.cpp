// What `convoy plan` prints.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "plan_text.h"

namespace convoy {
namespace {

PlanReport small_report(Parallel parallel = Parallel::kHybrid) {
  const Net net = parse_net("input 1x1x8\nconv 8 1x1\nfc 5\nfc 2\n", "small.net");
  PlanOptions options;
  options.world = 2;
  options.parallel = parallel;
  options.scheme = parallel == Parallel::kHybrid ? Scheme::kB : Scheme::kA;
  LayerTimes times;
  times.layers.resize(4);
  for (size_t i = 1; i < 4; ++i) times.layers[i].forward.row = times.layers[i].backward.row = 1e-3;
  LinkFigures links;
  links.bytes_per_second = 1e6;
  return make_plan_report(net, make_plan(net, 5, options), times, links, "x.toml");
}

TEST(PlanText, OfASmallNetWholeText) {
  std::ostringstream out;
  print_plan(out, small_report());
  EXPECT_EQ(out.str(), R"(small (1x1x8), --parallel hybrid, 2 workers, global batch 5, 2 to 3 images a worker

layer  half       output  parameters  of a worker
conv1  data        1x1x8          72           72
fc1    split  5 features          45     18 to 27
fc2    split  2 features          12            6
total                            129    96 to 105

scheme B, 2 passes, split half updated once a step:
pass  rows  of worker 0  1
   0     3            2  1
   1     2            0  2

a step and worker                  bytes
rows                          128 to 192
columns                       100 to 140
gradients                            320
buffers for rows that travel         384
(worker 0 exchanges 652 B)

modelled step              ms
compute                17.000
waiting for rows        0.128
waiting for columns     0.140
waiting for gradients   0.320
all                    17.588
284.3 images/s, 1.71 times one worker's 166.7 with batch 3
layers: x.toml; links of 0.001 GB/s either way, 0 us a message
)");
}

TEST(PlanText, DataParallelHasNoPasses) {
  std::ostringstream out;
  print_plan(out, small_report(Parallel::kData));
  EXPECT_EQ(out.str().find("pass"), std::string::npos) << out.str();
  EXPECT_NE(
      out.str().find("small (1x1x8), --parallel data, 2 workers, global batch 5, 2 to 3 images a worker\n"),
      std::string::npos)
      << out.str();
}

TEST(PlanText, JsonSaysTheSame) {
  const PlanReport report = small_report();
  std::ostringstream out;
  print_plan_json(out, report);
  const nlohmann::json json = nlohmann::json::parse(out.str());
  EXPECT_EQ(json["workers"], 2);
  EXPECT_EQ(json["scheme"], "B");
  EXPECT_EQ(json["passes"], nlohmann::json::parse("[[2,1],[0,2]]"));
  EXPECT_EQ(json["layers"][1]["name"], "fc1");
  EXPECT_EQ(json["layers"][1]["split"], true);
  EXPECT_EQ(json["layers"][1]["own_parameters"], nlohmann::json::parse("[18,27]"));
  ASSERT_EQ(json["bytes"].size(), 2u);
  EXPECT_EQ(json["bytes"][1]["rows"], 2 * 2 * 8 * 4);
  EXPECT_EQ(json["model"]["seconds"], report.model.seconds);
}

}  // namespace
}  // namespace convoy
