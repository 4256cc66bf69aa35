// The bytes that the plan foretells are those that the workers' communicators count in a step, and those of the trace.
#include <gtest/gtest.h>

#include <numeric>

#include "plan_model.h"
#include "team.h"
#include "trace.h"

namespace convoy {
namespace {

constexpr int64_t kBatch = 13;

struct Mode {
  Parallel parallel;
  Scheme scheme;
  int64_t pass_rows;
};
const Mode kModes[] = {
    {Parallel::kData, Scheme::kA, 0},   {Parallel::kHybrid, Scheme::kA, 0},
    {Parallel::kHybrid, Scheme::kB, 0}, {Parallel::kHybrid, Scheme::kC, 0},
    {Parallel::kHybrid, Scheme::kB, 5}, {Parallel::kHybrid, Scheme::kC, 3},
    {Parallel::kModel, Scheme::kA, 0},  {Parallel::kModel, Scheme::kB, 0},
};

// Of one worker, beside what it reports.
struct Seen {
  std::array<int64_t, kTrafficKinds> reported{}, planned{}, traced{};
  int64_t row_spans = 0, passes = 0;
};

std::vector<Seen> run_step(const Backend& backend, const Net& net, int world, const Mode& mode, Loss loss,
                           DType precision) {
  PlanOptions options;
  options.world = world;
  options.parallel = mode.parallel;
  options.scheme = mode.scheme;
  options.fc_batch_size = mode.pass_rows;
  const Shape image = output_shapes(net, 1)[0];
  std::vector<uint8_t> pixels(static_cast<size_t>(kBatch * image.row()), 3);
  std::vector<int32_t> labels(static_cast<size_t>(kBatch)), index(labels);
  std::iota(index.begin(), index.end(), 0);
  ModelOptions model_options;
  model_options.loss = loss;
  model_options.precision = precision;
  const auto channels = static_cast<size_t>(net.input().c);
  model_options.normalization = {std::vector<float>(channels, 0.0f), std::vector<float>(channels, 1.0f)};
  std::vector<Seen> seen(static_cast<size_t>(world));
  run_team(world, backend, [&](Team& team, Exec& exec) {
    PlanOptions own_options = options;
    own_options.rank = team.rank();
    const Plan plan = make_plan(net, kBatch, own_options);
    Model model = make_model(net, plan, model_options, exec, {kBatch}, {}, team);
    const RowRange own = plan.own_rows(kBatch);
    Batch batch;
    batch.pixels = View(pixels.data() + own.first * image.row(), image.with_rows(own.count));
    batch.labels = View(labels.data() + own.first, Shape{own.count});
    batch.index = View(index.data() + own.first, Shape{own.count});
    batch.all_labels = View(labels.data(), Shape{kBatch});
    batch.rows = own.count;
    batch.first_row = own.first;
    batch.global_rows = kBatch;
    Trace trace;
    team.compute->trace_to(&trace, Lane::kCompute);
    team.transfer->trace_to(&trace, Lane::kTransfer);
    const StepReport report = train_step(model, exec, batch, {0, 0, 0.01f});
    exec.backend->synchronize(team.queue);
    team.compute->trace_to(nullptr, Lane::kCompute);
    team.transfer->trace_to(nullptr, Lane::kTransfer);
    Seen& mine = seen[static_cast<size_t>(team.rank())];
    mine.reported = report.bytes;
    mine.planned = step_bytes(net, plan, loss, team.rank(), precision);
    mine.passes = static_cast<int64_t>(plan.passes(kBatch).size());
    for (const Lane lane : {Lane::kCompute, Lane::kTransfer})
      for (const SpanRecord& span : trace.spans(lane)) {
        mine.traced[static_cast<size_t>(span.kind)] += span.bytes;
        mine.row_spans += span.kind == SpanKind::kRows;
      }
  });
  return seen;
}

TEST(PlanBytes, AreWhatAStepExchanges) {
  const char* nets[] = {
      "input 6x6x2\nconv 5 3x3 pad 1\nrelu\nmaxpool 2\nconv 3 3x3\nrelu\nfc 7\nrelu\nfc 5\n",
      "input 5x5x3\nc: conv 4 3x3 pad 1\nr: relu\nd: conv 4 3x3 pad 1\na: add d r\nrelu\nlrn 3\nmaxpool 3 "
      "stride 2\n"
      "fc 6\nf: relu\ng: fc 6\nadd g f\nrelu\nfc 3\n",
  };
  for (const char* content : nets)
    for (const int world : {2, 3, 4, 8})
      for (const Mode& mode : kModes)
        for (const Loss loss : {Loss::kSoftmax, Loss::kLogistic}) {
          const Net net = parse_net(content, "bytes.net");
          const std::vector<Seen> seen = run_step(cpu_backend("auto"), net, world, mode, loss, DType::kF32);
          for (int rank = 0; rank < world; ++rank) {
            const std::string what =
                text(content, world, " workers, mode ", static_cast<int>(mode.parallel), ", scheme ",
                     scheme_name(mode.scheme), mode.pass_rows, ", rank ", rank);
            const Seen& one = seen[static_cast<size_t>(rank)];
            for (const Traffic kind : {Traffic::kRows, Traffic::kColumns, Traffic::kGradients})
              EXPECT_EQ(one.reported[static_cast<size_t>(kind)], one.planned[static_cast<size_t>(kind)])
                  << traffic_name(kind) << ", " << what;
            EXPECT_EQ(one.traced, one.reported) << what;
            EXPECT_EQ(one.row_spans, one.passes * (mode.parallel == Parallel::kModel ? 1 : 2)) << what;
          }
        }
}

// Activations travel as they are, sums as f32.
TEST(PlanBytes, AreWhatAStepExchangesInLowPrecision) {
  if (!reference::is_cuda(team_backend())) GTEST_SKIP() << "no CUDA device";
  const Net net = parse_net(
      "input 6x6x2\nconv 5 3x3 pad 1\nrelu\nmaxpool 2\nconv 3 3x3\nrelu\nfc 7\nrelu\nfc 5\n", "bytes.net");
  for (const DType precision : {DType::kBF16, DType::kF32})
    for (const Mode& mode : {kModes[1], kModes[5], kModes[6]})
      for (const Loss loss : {Loss::kSoftmax, Loss::kLogistic}) {
        const std::vector<Seen> seen = run_step(team_backend(), net, 3, mode, loss, precision);
        for (const Seen& one : seen)
          for (const Traffic kind : {Traffic::kRows, Traffic::kColumns, Traffic::kGradients})
            EXPECT_EQ(one.reported[static_cast<size_t>(kind)], one.planned[static_cast<size_t>(kind)])
                << traffic_name(kind) << ", " << dtype_name(precision) << ", mode "
                << static_cast<int>(mode.parallel) << ", scheme " << scheme_name(mode.scheme);
      }
}

}  // namespace
}  // namespace convoy
