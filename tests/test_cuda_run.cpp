// Runs on a CUDA device: recorded steps, low precision, gradients that overflow.
#include <gtest/gtest.h>

#include "parallel_state.h"
#include "reference.h"

namespace convoy {
namespace {

constexpr const char* kNet =
    "input 8x8x3\nconv 8 3x3 pad 1\nrelu\nmaxpool 2\nconv 16 3x3 pad 1 nobias\nbn\nrelu\ndropout 0.25\nfc "
    "24\nrelu\nfc "
    "10\n";
constexpr int64_t kRows = 12;

bool has_device() {
  return reference::is_cuda(team_backend());
}

struct Outcome {
  std::vector<double> losses;
  std::vector<bool> skipped;
  std::vector<std::vector<float>> values;
  LossScale loss_scale;
  int64_t recorded = 0;
};

Outcome run(const ModelOptions& options, int steps, float lr = 0.05f, float first_scale = 65536) {
  const Net net = parse_net(kNet, "net");
  const CudaQueuePointer queue = cuda_queue(*find_cuda(), 0);
  Exec exec = cuda_exec(*find_cuda(), queue);
  Model model = make_model(net, make_plan(net, kRows), options, exec, {kRows}, {});
  model.loss_scale.scale = first_scale;
  Examples examples(net, kRows, 3);
  Outcome outcome;
  for (int step = 0; step < steps; ++step) {
    const StepReport report = train_step(model, exec, examples.batch(), {step, 0, lr});
    outcome.losses.push_back(report.loss);
    outcome.skipped.push_back(report.skipped);
  }
  for (const View& view : model.values) outcome.values.push_back(values_of(model, view));
  outcome.loss_scale = model.loss_scale;
  outcome.recorded = model.train.at(kRows).graph != nullptr;
  return outcome;
}

ModelOptions options_of(DType precision) {
  ModelOptions o;
  o.seed = 5;
  o.precision = precision;
  o.normalization = half_normalization(parse_net(kNet, "net"));
  return o;
}

TEST(CudaRun, RecordedStepsHaveTheSameBits) {
  if (!has_device()) GTEST_SKIP() << "no CUDA device";
  for (const DType precision : {DType::kF32, DType::kBF16, DType::kF16}) {
    ModelOptions options = options_of(precision);
    const Outcome recorded = run(options, 6);
    options.graph = false;
    const Outcome plain = run(options, 6);
    EXPECT_EQ(recorded.recorded, 1) << dtype_name(precision);
    EXPECT_EQ(plain.recorded, 0) << dtype_name(precision);
    EXPECT_EQ(recorded.losses, plain.losses) << dtype_name(precision);
    EXPECT_EQ(recorded.values, plain.values) << dtype_name(precision);
  }
}

// The next batch is on its way while a step computes, in memory that the reader fills anew as soon as it may.
TEST(CudaRun, BatchesThatTravelAheadHaveTheSameBits) {
  if (!has_device()) GTEST_SKIP() << "no CUDA device";
  constexpr int kSteps = 5;
  const Net net = parse_net(kNet, "net");
  const auto losses = [&](bool ahead) {
    const CudaQueuePointer queue = cuda_queue(*find_cuda(), 0);
    Exec exec = cuda_exec(*find_cuda(), queue);
    Model model = make_model(net, make_plan(net, kRows), options_of(DType::kF32), exec, {kRows}, {});
    const Backend& backend = *exec.backend;
    Tensor pixels[2], labels[2], index[2];
    Batch batches[2];
    for (int i : {0, 1}) {
      pixels[i] = Tensor::on_host(backend, DType::kU8, model.pixels.shape);
      labels[i] = Tensor::on_host(backend, DType::kI32, {kRows});
      index[i] = Tensor::on_host(backend, DType::kI32, {kRows});
    }
    const auto read = [&](int step) {  // into one place; the other one is overwritten
      std::memset(pixels[(step + 1) % 2].view().data, 0x55, static_cast<size_t>(pixels[0].bytes()));
      Examples examples(net, kRows, 100 + static_cast<uint32_t>(step));
      Batch batch = examples.batch();
      std::memcpy(pixels[step % 2].view().data, batch.pixels.data, static_cast<size_t>(batch.pixels.bytes()));
      std::memcpy(labels[step % 2].view().data, batch.labels.data, static_cast<size_t>(batch.labels.bytes()));
      std::memcpy(index[step % 2].view().data, batch.index.data, static_cast<size_t>(batch.index.bytes()));
      batch.pixels = pixels[step % 2].view();
      batch.labels = labels[step % 2].view();
      batch.index = index[step % 2].view();
      batch.all_labels = In();
      batches[step % 2] = batch;
      return &batches[step % 2];
    };
    std::vector<double> found;
    const Batch* batch = read(0);
    for (int step = 0; step < kSteps; ++step) {
      StepSettings settings{step, 0, 0.05f};
      const Batch* next = nullptr;
      if (ahead) settings.next = [&] { return next = step + 1 < kSteps ? read(step + 1) : nullptr; };
      found.push_back(train_step(model, exec, *batch, settings).loss);
      batch = ahead || step + 1 == kSteps ? next : read(step + 1);
    }
    return found;
  };
  const std::vector<double> want = losses(false);
  for (const reference::Way& way : reference::ways(team_backend())) {
    reference::test_exec(team_backend(), way);
    EXPECT_EQ(losses(true), want) << way.name;
  }
}

// A loss in low precision differs by the roundings of its activations: it stays close, and it falls.
TEST(CudaRun, LearnsInLowPrecision) {
  if (!has_device()) GTEST_SKIP() << "no CUDA device";
  const Outcome full = run(options_of(DType::kF32), 25);
  for (const DType precision : {DType::kBF16, DType::kF16}) {
    const Outcome low = run(options_of(precision), 25);
    // The same initial weights: the logits of the first step differ by a few roundings of each of the 5 layers.
    EXPECT_NEAR(low.losses[0], full.losses[0], 20 * reference::half_unit(precision) * full.losses[0])
        << dtype_name(precision);
    EXPECT_NE(low.losses[0], full.losses[0]) << dtype_name(precision) << " is not what was computed in";
    EXPECT_LT(low.losses.back(), 0.5 * low.losses[0]) << dtype_name(precision);
  }
  EXPECT_LT(full.losses.back(), 0.5 * full.losses[0]);
}

// Scaled by 2^24 the gradients overflow: those steps change nothing, and the scale is halved until they fit.
TEST(CudaRun, GradientsThatOverflowAreSkipped) {
  if (!has_device()) GTEST_SKIP() << "no CUDA device";
  const Outcome all = run(options_of(DType::kF16), 30, 0.05f, 16777216);
  const auto skipped = std::count(all.skipped.begin(), all.skipped.end(), true);
  EXPECT_GT(skipped, 0);
  EXPECT_LT(skipped, 24);
  EXPECT_EQ(all.loss_scale.scale, 16777216 / std::exp2(skipped));
  EXPECT_TRUE(all.skipped[0]);
  const Outcome none = run(options_of(DType::kF16), 1, 0.05f, 1),
                first = run(options_of(DType::kF16), 1, 0.05f, 16777216);
  const Net net = parse_net(kNet, "net");
  const std::vector<ParameterSpec> specs = parameters(net);
  const Outcome before = run(options_of(DType::kF16), 1, 0.0f, 1);  // a rate of 0: the initial weights
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].buffer()) {  // running statistics: a rate of 0 takes a batch in, a skipped step does not
      EXPECT_NE(first.values[i], none.values[i]) << specs[i].name;
      for (const float value : first.values[i])
        EXPECT_EQ(value, specs[i].role == ParameterSpec::kRunningVar ? 1.0f : 0.0f) << specs[i].name;
      continue;
    }
    EXPECT_EQ(first.values[i], before.values[i]) << specs[i].name;
    EXPECT_NE(none.values[i], before.values[i]) << specs[i].name;
  }
}

// A loss that is not finite names the layer, and changes nothing.
TEST(CudaRun, NonfiniteLossChangesNothing) {
  if (!has_device()) GTEST_SKIP() << "no CUDA device";
  const Net net = parse_net(kNet, "net");
  const CudaQueuePointer queue = cuda_queue(*find_cuda(), 0);
  Exec exec = cuda_exec(*find_cuda(), queue);
  Model model = make_model(net, make_plan(net, kRows), options_of(DType::kF32), exec, {kRows}, {});
  Examples examples(net, kRows, 3);
  for (int step = 0; step < 3; ++step) train_step(model, exec, examples.batch(), {step, 0, 0.05f});
  const View last = model.values[model.specs.size() - 2];  // the last layer's weights
  const float nan = std::nanf("");
  copy_now(model, last.data, &nan, sizeof nan);
  std::vector<std::vector<float>> before, after;
  for (const View& view : model.values) before.push_back(values_of(model, view));
  try {
    train_step(model, exec, examples.batch(), {3, 0, 0.05f});
    FAIL() << "no error";
  } catch (const NonfiniteError& error) {
    EXPECT_NE(std::string(error.what()).find("step 3"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("holds 1 NaN"), std::string::npos) << error.what();
  }
  for (const View& view : model.values) after.push_back(values_of(model, view));
  for (size_t i = 0; i < before.size(); ++i) {
    if (model.values[i].data == last.data) continue;
    EXPECT_EQ(before[i], after[i]) << model.specs[i].name;
  }
}

}  // namespace
}  // namespace convoy
