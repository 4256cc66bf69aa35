// Figures files, and what those of a K20 predict.
#include <gtest/gtest.h>

#include "figures.h"

namespace convoy {
namespace {

constexpr const char* kGood = R"([speed]
conv-gflops = 1000
fc-gflops = 500.5
update-gbytes = 100
[links]
gbps = 6
root-workers = 4
)";

std::string complaint(const std::string& text) {
  try {
    parse_figures(text, "f.toml");
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

std::string changed(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

TEST(Figures, AreReadWithTheirDefaults) {
  const Figures figures = parse_figures(kGood, "f.toml");
  EXPECT_EQ(figures.conv_gflops, 1000);
  EXPECT_EQ(figures.fc_gflops, 500.5);
  EXPECT_EQ(figures.update_gbytes, 100);
  EXPECT_EQ(figures.pass_ms, 0);
  EXPECT_EQ(figures.root_workers, 4);
  const LinkFigures links = link_figures(figures);
  EXPECT_EQ(links.bytes_per_second, 6e9);
  EXPECT_EQ(links.message_seconds, 0);
  EXPECT_EQ(links.across_roots, 1);
}

TEST(Figures, MistakesAreOneLineWithTheirPlace) {
  EXPECT_EQ(complaint(changed(kGood, "gbps", "gpbs")),
            "f.toml:6:1: unknown figure 'gpbs' in [links]; did you mean gbps?");
  EXPECT_EQ(complaint(changed(kGood, "500.5", "\"fast\"")), "f.toml:3:13: fc-gflops: expected a number");
  EXPECT_EQ(complaint(changed(kGood, "500.5", "-1")),
            "f.toml:3:13: fc-gflops: expected a number above 0, at most 1e+09");
  EXPECT_EQ(complaint(changed(kGood, "500.5", "nan")),
            "f.toml:3:13: fc-gflops: expected a number above 0, at most 1e+09");
  EXPECT_EQ(complaint(changed(kGood, "= 4", "= 4.5")), "f.toml:7:16: root-workers: expected a whole number");
  EXPECT_EQ(complaint(changed(kGood, "= 4", "= -4")),
            "f.toml:7:16: root-workers: expected a whole number from 0 to 1048576");
  EXPECT_EQ(complaint(changed(kGood, "gbps = 6\n", "")), "f.toml: gbps is missing in [links]");
  EXPECT_EQ(complaint("[wheels]\n"),
            "f.toml:1:2: unknown 'wheels': expected the sections [speed] and [links]");
  EXPECT_EQ(complaint("speed = 4\n"),
            "f.toml:1:1: unknown 'speed': expected the sections [speed] and [links]");
  EXPECT_EQ(complaint("[speed\n").substr(0, 11), "f.toml:1:7:");
  EXPECT_THROW(read_figures("/nowhere/f.toml"), InputError);
  EXPECT_THROW(read_figures("/"), InputError);
}

TEST(Figures, TimesFollowTheMultiplyAccumulates) {
  const Net net = parse_net("input 3x3x1\nconv 2 3x3\nrelu\nfc 5\n", "n.net");
  const LayerTimes times = layer_times(net, parse_figures(kGood, "f.toml"));
  EXPECT_DOUBLE_EQ(times.layers[1].forward.row, 2 * 18 / 1000e9);
  EXPECT_DOUBLE_EQ(times.layers[1].backward.row, 2 * 18 / 1000e9) << "images have no gradient";
  EXPECT_EQ(times.layers[2].forward.row, 0);
  EXPECT_DOUBLE_EQ(times.layers[3].forward.row, 2 * 10 / 500.5e9);
  EXPECT_DOUBLE_EQ(times.layers[3].backward.row, 4 * 10 / 500.5e9);
  EXPECT_DOUBLE_EQ(times.update, 20 / 100e9);
}

// A. Krizhevsky, arXiv 1404.5997, section 4. One and two GPUs are what the figures were fitted to; four and eight
// are predicted.
TEST(Figures, OfAK20PredictKrizhevskysSpeedups) {
  const Figures k20 = read_figures(CONVOY_SOURCE_DIR "/bench/figures/k20.toml");
  const Net net = load_net("alexnet");
  const auto seconds = [&](int world, bool update_each_pass) {
    PlanOptions options;
    options.world = world;
    options.parallel = world == 1 ? Parallel::kData : Parallel::kHybrid;
    options.scheme = world == 1 ? Scheme::kA : Scheme::kB;
    options.update_each_pass = update_each_pass;
    const Plan plan = make_plan(net, 128 * world, options);
    return model_step(net, plan, Loss::kSoftmax, layer_times(net, k20), link_figures(k20)).seconds;
  };
  const double one = seconds(1, false);
  EXPECT_NEAR(128 / one, 327, 0.5);
  const struct {
    int world;
    double step, pass, part;
  } table[] = {{2, 1.95, 1.93, 0.001}, {4, 3.74, 3.66, 0.1}, {8, 6.25, 6.16, 0.1}};
  for (const auto& row : table) {
    EXPECT_NEAR(row.world * one / seconds(row.world, false) / row.step, 1, row.part) << row.world;
    EXPECT_NEAR(row.world * one / seconds(row.world, true) / row.pass, 1, row.part) << row.world;
  }
}

}  // namespace
}  // namespace convoy
