// The modelled step: cases small enough to be followed by hand, and the property that the schemes are for.
#include <gtest/gtest.h>

#include "plan_model.h"

namespace convoy {
namespace {

// 72 parameters in front, 80 elements with the fill between tensors; 8 features; 36 and 10 split parameters.
Net small_net() {
  return parse_net("input 1x1x8\nconv 8 1x1\nfc 4\nfc 2\n", "small.net");
}

// A second a row and layer forward, two backward, one a pass, 1/8 a parameter's update.
LayerTimes small_times() {
  LayerTimes times;
  times.layers.resize(4);
  for (size_t i = 1; i < 4; ++i) {
    times.layers[i].forward.row = 1;
    times.layers[i].backward.row = 2;
  }
  times.pass = 1;
  times.update = 0.125;
  return times;
}

LinkFigures small_links() {
  LinkFigures links;
  links.bytes_per_second = 16;
  links.message_seconds = 1;
  return links;
}

Plan plan_for(const Net& net, int world, int64_t batch, Parallel parallel, Scheme scheme,
              bool update_each_pass = false) {
  PlanOptions options;
  options.world = world;
  options.parallel = parallel;
  options.scheme = scheme;
  options.update_each_pass = update_each_pass;
  return make_plan(net, batch, options);
}

StepModel small_step(int world, Parallel parallel, Scheme scheme, bool update_each_pass = false) {
  const Net net = small_net();
  return model_step(net, plan_for(net, world, 4, parallel, scheme, update_each_pass), Loss::kSoftmax,
                    small_times(), small_links());
}

std::array<double, kTrafficKinds> seconds(double rows, double columns, double gradients) {
  return {rows, columns, gradients, 0};
}

TEST(PlanModel, OneWorkerOnlyComputes) {
  const StepModel model = small_step(1, Parallel::kData, Scheme::kA);
  EXPECT_EQ(model.exposed, seconds(0, 0, 0));
  EXPECT_EQ(model.seconds, 3 * 4 + 3 * 8 + 118 * 0.125);
  EXPECT_TRUE(model.timeline.lanes[1].empty());
  EXPECT_EQ(small_step(1, Parallel::kHybrid, Scheme::kB).seconds, model.seconds);
}

TEST(PlanModel, DataParallelSumsAllGradients) {
  const StepModel model = small_step(2, Parallel::kData, Scheme::kA);
  EXPECT_EQ(model.exposed, seconds(0, 0, 2 * (80 * 4 / 16.0 + 1)));
  EXPECT_EQ(model.compute_seconds(), 3 * 2 + 3 * 4 + 118 * 0.125);
}

// Rows: 2 of 8 features, 64 bytes to the other worker: 5 s. Columns: 4 rows of 2 features, 3 s each way; logits 2 s.
TEST(PlanModel, SchemeAWaitsForEveryRow) {
  const StepModel model = small_step(2, Parallel::kHybrid, Scheme::kA);
  EXPECT_EQ(model.exposed, seconds(5 + 5, 3 + 2 + 3, 2 * (40 * 4 / 16.0 + 1)));
  EXPECT_EQ(model.compute_seconds(), 2 + 1 + 2 + 2 + 4 + 4 + 4 + (72 + 18 + 5) * 0.125);
}

// The second pass's rows travel from 7 to 12, the first one's gradient from 22.5 to 27.5; columns are asked for at 9
// and 24.5 and go after them: 5 s each instead of 2.
TEST(PlanModel, SchemeBHidesAllRowsButTheFirstPassesAndTheLast) {
  const StepModel model = small_step(2, Parallel::kHybrid, Scheme::kB);
  EXPECT_EQ(model.exposed, seconds(5 + 5, (5 + 1.5 + 2) * 2, 22));
  EXPECT_EQ(model.seconds, 69 + 95 * 0.125);
  std::vector<std::pair<int64_t, int64_t>> rows;
  for (const TracedSpan& span : model.timeline.lanes[1])
    if (span.kind == SpanKind::kRows) {
      rows.emplace_back(span.start, span.end);
      EXPECT_EQ(span.bytes, 64);
    }
  const int64_t half = 500000000;
  EXPECT_EQ(
      rows,
      (std::vector<std::pair<int64_t, int64_t>>{
          {4 * half, 14 * half}, {14 * half, 24 * half}, {45 * half, 55 * half}, {76 * half, 86 * half}}));
}

// 2.875 s of update after each pass: the gradient of the first is under way meanwhile, that of the last as well.
TEST(PlanModel, UpdatesOfEachPassHideTheGradientThatGoesHome) {
  const StepModel model = small_step(2, Parallel::kHybrid, Scheme::kB, true);
  EXPECT_EQ(model.exposed, seconds(5 + 2.125, 5 + 1.5 + 2 + 2.125 + 1.5 + 2, 22));
  EXPECT_EQ(model.seconds, 69 + 72 * 0.125);
}

TEST(PlanModel, GradientsTravelBehindTheLayersBelow) {
  // Two layers of 262,656 parameters, each a bucket of its own: 2 s for the sum, 3 s backward.
  const Net net = parse_net("input 1x1x512\nconv 512 1x1\nconv 512 1x1\nfc 1\n", "two.net");
  LayerTimes times;
  times.layers.resize(4);
  times.layers[1].backward.call = times.layers[2].backward.call = 3;
  LinkFigures links;
  links.bytes_per_second = 262656 / 2 * 4;
  const StepModel model =
      model_step(net, plan_for(net, 2, 2, Parallel::kHybrid, Scheme::kA), Loss::kLogistic, times, links);
  const double rows = 512 * 4 / links.bytes_per_second;
  EXPECT_EQ(model.exposed, seconds(2 * rows, 0, 2));
  EXPECT_DOUBLE_EQ(model.seconds, 2 * rows + 3 + 3 + 2);
}

TEST(PlanModel, LinksAcrossRootsAreSlower) {
  const Net net = small_net();
  LinkFigures links = small_links();
  links.bytes_per_second = 32;  // a row in a second
  links.root_workers = 2;
  links.across_roots = 0.5;
  const StepModel model = model_step(net, plan_for(net, 4, 4, Parallel::kHybrid, Scheme::kA), Loss::kSoftmax,
                                     small_times(), links);
  EXPECT_EQ(model.exposed[0], 2 * (1 + 2 + 2 + 3.0));  // one neighbour, two across, three messages
}

double row_seconds(const StepModel& model) {
  double total = 0;
  for (const TracedSpan& span : model.timeline.lanes[1])
    if (span.kind == SpanKind::kRows) total += 1e-9 * static_cast<double>(span.end - span.start);
  return total;
}

TEST(PlanModel, WhereComputeCoversTheExchangeBAndCExposeOneKth) {
  const Net net = load_net("alexnet");
  LayerTimes times;
  times.layers.resize(net.layers.size());
  for (LayerTime& layer : times.layers) layer.forward.row = layer.backward.row = 0.01;
  LinkFigures links;
  links.bytes_per_second = 1e9;
  for (const int world : {2, 4, 8}) {
    const auto exposed = [&](Scheme scheme) {
      const StepModel model = model_step(net, plan_for(net, world, 16 * world, Parallel::kHybrid, scheme),
                                         Loss::kSoftmax, times, links);
      return model.exposed[0] / row_seconds(model);
    };
    EXPECT_NEAR(exposed(Scheme::kA), 1, 1e-6) << world;
    EXPECT_NEAR(exposed(Scheme::kB), 1.0 / world, 1e-6) << world;
    EXPECT_NEAR(exposed(Scheme::kC), 1.0 / world, 1e-6) << world;
  }
}

TEST(PlanModel, BSaturatesItsSenderBeforeC) {
  const Net net = load_net("alexnet");
  LayerTimes times;
  times.layers.resize(net.layers.size());
  for (LayerTime& layer : times.layers) layer.forward.row = layer.backward.row = 0.0001;
  LinkFigures links;
  links.bytes_per_second = 1e9;
  const auto exposed = [&](Scheme scheme) {
    return model_step(net, plan_for(net, 4, 128, Parallel::kHybrid, scheme), Loss::kLogistic, times, links)
        .exposed[0];
  };
  EXPECT_GT(exposed(Scheme::kB), 3 * exposed(Scheme::kC));
}

TEST(PlanModel, BytesAreTheFormulasOfTheExchange) {
  const Net net = parse_net("input 4x4x2\nconv 5 3x3\nrelu\nfc 7\nrelu\nfc 11\nfc 3\n", "uneven.net");
  const int64_t batch = 13, D = 2 * 2 * 5, front = 96 + 16;  // 90 weights, 5 biases
  int64_t all = 0;                                           // each tensor filled up to 16 elements
  for (const ParameterSpec& spec : parameters(net)) all += (spec.shape.count() + 15) / 16 * 16;
  for (const int world : {2, 3, 4, 8})
    for (const Scheme scheme : {Scheme::kA, Scheme::kB, Scheme::kC})
      for (int rank = 0; rank < world; ++rank) {
        const Plan plan = plan_for(net, world, batch, Parallel::kHybrid, scheme);
        const auto others = [&](int64_t whole) { return whole - part_of(whole, rank, world).count; };
        const std::array<int64_t, kTrafficKinds> want = {
            2 * others(batch) * D * 4, batch * (2 * others(7) + 2 * others(11) + others(3)) * 4,
            2 * others(front) * 4, 0};
        EXPECT_EQ(step_bytes(net, plan, Loss::kSoftmax, rank), want) << world << scheme_name(scheme) << rank;
        EXPECT_EQ(step_bytes(net, plan, Loss::kLogistic, rank)[1], want[1] - batch * others(3) * 4);
        const std::array<int64_t, kTrafficKinds> data = {0, 0, 2 * others(all) * 4, 0};
        EXPECT_EQ(
            step_bytes(net, plan_for(net, world, batch, Parallel::kData, Scheme::kA), Loss::kSoftmax, rank),
            data);
        const auto model =
            step_bytes(net, plan_for(net, world, batch, Parallel::kModel, Scheme::kA), Loss::kSoftmax, rank);
        const int64_t pixels = 4 * others(5);  // 2x2: the first fc layer reads them as columns
        EXPECT_EQ(model[0], others(batch) * 4 * 4 * 2 * 4) << "images have no gradient";
        EXPECT_EQ(model[1], batch * (2 * pixels + 2 * others(7) + 2 * others(11) + others(3)) * 4);
        EXPECT_EQ(model[2], 0);
      }
}

TEST(PlanModel, BuffersHoldOnePassOfAAndTwoOfOthers) {
  const Net net = small_net();
  const auto bytes = [&](int world, Scheme scheme) {
    return exchange_bytes(net, plan_for(net, world, 12, Parallel::kHybrid, scheme));
  };
  EXPECT_EQ(bytes(4, Scheme::kA), 2 * 12 * 8 * 4);
  EXPECT_EQ(bytes(4, Scheme::kB), 2 * 2 * 3 * 8 * 4);
  EXPECT_EQ(bytes(4, Scheme::kC), 2 * 2 * 4 * 8 * 4 * 3 / 4);
  EXPECT_EQ(exchange_bytes(net, plan_for(net, 4, 12, Parallel::kData, Scheme::kA)), 0);
}

TEST(PlanModel, OwnParametersAddUpToTheWholeLayer) {
  const Net net = load_net("alexnet");
  const Plan plan = plan_for(net, 3, 6, Parallel::kHybrid, Scheme::kA);
  for (int i = 0; i < static_cast<int>(net.layers.size()); ++i) {
    int64_t sum = 0;
    for (int rank = 0; rank < 3; ++rank) sum += own_parameters(net, plan, i, rank);
    EXPECT_EQ(sum, layer_parameters(net, i) * (plan.split(i) ? 1 : 3))
        << net.layers[static_cast<size_t>(i)].name;
  }
}

}  // namespace
}  // namespace convoy
