// The run does not depend on the number of workers, the mode or the scheme: gradients and one update of nets made of
// whole numbers are exactly those of the reference.
#include <gtest/gtest.h>

#include <cmath>

#include "convoy/train.h"
#include "reference_net.h"
#include "team.h"

namespace convoy {
namespace {

struct Mode {
  const char* name;
  PlanOptions options;
};

PlanOptions mode(Parallel parallel, Scheme scheme = Scheme::kA, int64_t pass_rows = 0) {
  PlanOptions o;
  o.parallel = parallel;
  o.scheme = scheme;
  o.fc_batch_size = pass_rows;
  return o;
}

const Mode kModes[] = {
    {"data", mode(Parallel::kData)},
    {"hybrid_a", mode(Parallel::kHybrid, Scheme::kA)},
    {"hybrid_b", mode(Parallel::kHybrid, Scheme::kB)},
    {"hybrid_b5", mode(Parallel::kHybrid, Scheme::kB, 5)},
    {"hybrid_c", mode(Parallel::kHybrid, Scheme::kC)},
    {"hybrid_c3", mode(Parallel::kHybrid, Scheme::kC, 3)},
    {"model_a", mode(Parallel::kModel, Scheme::kA)},
    {"model_b", mode(Parallel::kModel, Scheme::kB)},
    {"model_c4", mode(Parallel::kModel, Scheme::kC, 4)},
};

// The last layer's weights are multiples of 128: logistic gradients are then exactly 0, 1/2 and 1.
struct Case {
  const char* name;
  const char* text;
  int64_t rows;
};
const Case kCases[] = {
    {"conv_fc", "input 6x6x2\nconv 5 3x3 pad 1\nrelu\nmaxpool 2\nconv 3 3x3\nrelu\nfc 7\nrelu\nfc 5\n", 13},
    {"residual",
     "input 5x5x3\nc: conv 4 3x3 pad 1\nr: relu\nd: conv 4 3x3 pad 1\na: add d r\nrelu\nmaxpool 3 stride 2\n"
     "fc 6\nf: relu\ng: fc 6\nadd g f\nrelu\nfc 3\n",
     8},
    {"dropout", "input 4x4x1\nconv 6 3x3\nrelu\ndropout 0.5\nfc 9\nrelu\ndropout 0.5\nfc 4\n", 11},
    {"narrow", "input 3x3x1\nconv 2 2x2\nrelu\nfc 3\nrelu\nfc 2\n", 5},  // fewer outputs, rows than workers
};

double whole(uint32_t stream, size_t i, int limit) {
  const uint32_t v = philox(7, static_cast<uint32_t>(i), 0, 0, stream).v[0];
  return static_cast<double>(v % static_cast<uint32_t>(2 * limit + 1)) - limit;
}

class Parallelism : public ::testing::TestWithParam<std::tuple<Case, Mode, int, std::string>> {};

TEST_P(Parallelism, GradientsAndUpdateAreExact) {
  const auto& [c, m, world, transport] = GetParam();
  const Net net = parse_net(c.text, c.name);
  const std::vector<ParameterSpec> specs = parameters(net);
  const Shape image = output_shapes(net, 1)[0];
  const auto classes = output_shapes(net, 1).back().row();
  ModelOptions options;
  options.seed = 11;
  options.loss = Loss::kLogistic;
  options.optimizer.momentum = 0.5f;
  options.normalization = {std::vector<float>(static_cast<size_t>(net.input().c), 0.0f),
                           std::vector<float>(static_cast<size_t>(net.input().c), 1 / 255.0f)};
  const StepSettings settings{5, 0, 0.25f};

  std::vector<reference::Values> weights;
  for (size_t i = 0; i < specs.size(); ++i) {
    const bool last = specs[i].layer + 1 == static_cast<int>(net.layers.size());
    weights.emplace_back(static_cast<size_t>(specs[i].shape.count()));
    for (size_t j = 0; j < weights[i].size(); ++j)
      weights[i][j] = whole(static_cast<uint32_t>(i), j, 1) * (last ? 128 : 1);
  }
  std::vector<uint8_t> pixels;
  reference::Values x;
  for (size_t i = 0; i < static_cast<size_t>(c.rows * image.row()); ++i) {
    x.push_back(whole(100, i, 1) + 1);
    pixels.push_back(static_cast<uint8_t>(x.back()));
  }
  std::vector<int32_t> labels, index;
  for (int64_t n = 0; n < c.rows; ++n) {
    labels.push_back(static_cast<int32_t>(n % classes));
    index.push_back(static_cast<int32_t>(n));
  }

  reference::NetReference truth(net, c.rows);
  const reference::Values none(static_cast<size_t>(c.rows * classes));
  const reference::Values logits = truth.run(x, weights, none, options.seed, 5).y.back();
  reference::Values dlogits(logits.size());
  double loss = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    ASSERT_TRUE(logits[i] == 0 || std::fabs(logits[i]) >= 128);
    const bool own = static_cast<int64_t>(i) % classes == labels[i / static_cast<size_t>(classes)];
    dlogits[i] = (logits[i] > 0 ? 1 : logits[i] < 0 ? 0 : 0.5) - (own ? 1 : 0);
    loss += std::log1p(std::exp(-std::fabs(logits[i]))) + std::fmax(logits[i], 0) - (own ? logits[i] : 0);
  }
  const reference::NetResult want = truth.run(x, weights, dlogits, options.seed, 5);
  ASSERT_LT(2 * want.largest_sum, 16777216.0) << "the case is too large to be exact";  // in halves

  std::vector<std::vector<float>> gradients(specs.size()), updated(specs.size());
  std::vector<int> owners;
  for (size_t i = 0; i < specs.size(); ++i) {
    gradients[i].assign(weights[i].size(), NAN);
    updated[i] = gradients[i];
  }
  std::mutex mutex;
  run_team(
      world, team_backend(),
      [&, &plan_options = m.options, &text = c, workers = world](Team& team, Exec& exec) {
        PlanOptions o = plan_options;
        o.world = workers;
        o.rank = team.rank();
        Model model = make_model(net, make_plan(net, text.rows, o), options, exec, {text.rows}, {}, team);
        for (size_t i = 0; i < specs.size(); ++i) {
          const auto* from = weights[i].data() + model.own[i].first * specs[i].shape.row();
          const std::vector<float> part(from, from + model.values[i].count());
          copy_now(model, model.values[i].data, part.data(), model.values[i].bytes());
        }
        const RowRange own = part_of(text.rows, team.rank(), workers);
        Batch batch;
        batch.pixels = View(pixels.data() + own.first * image.row(), image.with_rows(own.count));
        batch.labels = View(labels.data() + own.first, Shape{own.count});
        batch.index = View(index.data() + own.first, Shape{own.count});
        batch.all_labels = View(labels.data(), Shape{text.rows});
        batch.rows = own.count;
        batch.first_row = own.first;
        batch.global_rows = text.rows;
        const StepReport report = train_step(model, exec, batch, settings);
        const std::lock_guard<std::mutex> lock(mutex);
        EXPECT_EQ(report.rows, text.rows);
        EXPECT_NEAR(report.loss, loss, 1e-6 * (1 + loss));
        for (size_t i = 0; i < specs.size(); ++i) {
          const std::vector<float> g = values_of(model, model.gradients_of[i]);
          const std::vector<float> w = values_of(model, model.values[i]);
          for (size_t j = 0; j < w.size(); ++j) {
            const size_t k = static_cast<size_t>(model.own[i].first * specs[i].shape.row()) + j;
            ASSERT_TRUE(std::isnan(gradients[i][k]) || gradients[i][k] == g[j]) << "workers differ";
            gradients[i][k] = g[j];
            updated[i][k] = w[j];
          }
        }
      },
      transport);
  double sum = 0;
  for (size_t i = 0; i < specs.size(); ++i)
    for (size_t j = 0; j < weights[i].size(); ++j) {
      ASSERT_EQ(static_cast<double>(gradients[i][j]), want.gradients[i][j])
          << specs[i].name << "[" << j << "]";
      const float step = static_cast<float>(want.gradients[i][j]) * (1.0f / static_cast<float>(c.rows));
      ASSERT_NEAR(updated[i][j], static_cast<float>(weights[i][j]) - 0.25f * step,
                  1e-6 * (1 + std::fabs(step)))
          << specs[i].name << "[" << j << "]";
      sum += std::fabs(want.gradients[i][j]);
    }
  EXPECT_GT(sum, 0) << "nothing was tested";
}

INSTANTIATE_TEST_SUITE_P(Nets, Parallelism,
                         ::testing::Combine(::testing::ValuesIn(kCases), ::testing::ValuesIn(kModes),
                                            ::testing::Values(1, 2, 3, 4, 8),
                                            ::testing::ValuesIn(team_transports())),
                         [](const auto& parameters) {
                           return std::string(std::get<0>(parameters.param).name) + "_" +
                                  std::get<1>(parameters.param).name + "_" +
                                  std::to_string(std::get<2>(parameters.param)) + "_" +
                                  std::get<3>(parameters.param);
                         });

}  // namespace
}  // namespace convoy
