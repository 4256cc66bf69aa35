// Properties of the step that hold for any net: the same bits for any number of threads, no update from a
// loss that is not finite, no allocation, no more memory than the arenas say.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>

#include "convoy/checkpoint.h"
#include "convoy/philox.h"
#include "convoy/train.h"

namespace convoy {
namespace {

constexpr const char* kNet =
    "input 12x12x3\n"
    "c1: conv 8 3x3 pad 1 nobias\nb1: bn\nr1: relu\n"
    "c2: conv 8 3x3 pad 1 nobias\nb2: bn\na: add b2 r1\nrelu\nlrn 5\nmaxpool 3 stride 2\ndropout 0.25\n"
    "f1: fc 20\nrelu\nf2: fc 10\n";

struct Data {
  std::vector<uint8_t> pixels;
  std::vector<int32_t> labels, index;
  Shape image;
  Data(const Net& net, int64_t rows) : image(output_shapes(net, 1)[0]) {
    const auto classes = static_cast<uint32_t>(output_shapes(net, 1).back().row());
    for (int64_t i = 0; i < rows * image.row(); ++i)
      pixels.push_back(static_cast<uint8_t>(philox(3, static_cast<uint32_t>(i), 0, 0, 0).v[0]));
    for (int64_t i = 0; i < rows; ++i)
      labels.push_back(static_cast<int32_t>(philox(4, static_cast<uint32_t>(i), 0, 0, 0).v[0] % classes));
    index.resize(labels.size());
    std::iota(index.begin(), index.end(), 0);
  }
  Batch batch(int64_t rows) {
    Batch b;
    b.pixels = View(pixels.data(), image.with_rows(rows));
    b.labels = View(labels.data(), Shape{rows});
    b.index = View(index.data(), Shape{rows});
    b.rows = b.global_rows = rows;
    return b;
  }
};

ModelOptions options_for(const Net& net) {
  ModelOptions o;
  o.seed = 5;
  o.augment = o.augment_flip = true;
  o.augment_pad = 1;
  o.optimizer.clip_norm = 1;
  const auto channels = static_cast<size_t>(net.input().c);
  o.normalization = {std::vector<float>(channels, 0.5f), std::vector<float>(channels, 0.25f)};
  return o;
}

TEST(TrainStep, SameBitsForAnyNumberOfThreads) {
  const Net net = parse_net(kNet, "test");
  Data data(net, 33);
  for (const Backend* backend : cpu_backends()) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3, 7}) {
      Exec exec = cpu_exec(*backend, threads);
      Model model = make_model(net, make_plan(net, 33), options_for(net), exec, {33, 5}, {});
      for (int64_t step = 0; step < 4; ++step)
        train_step(model, exec, data.batch(step == 2 ? 5 : 33), {step, 1, 0.1f});
      std::vector<float> bits(model.parameters.view().f32(),
                              model.parameters.view().f32() + model.parameters.view().count());
      const View& running = model.buffers.view();
      bits.insert(bits.end(), running.f32(), running.f32() + running.count());
      if (threads == 1) first = bits;
      ASSERT_EQ(std::memcmp(first.data(), bits.data(), 4 * bits.size()), 0)
          << backend->name << ", " << threads << " threads";
    }
  }
}

// The same data in another instruction set's order of summation: close after one step, different in bits.
TEST(TrainStep, InstructionSetsAgree) {
  const Net net = parse_net(kNet, "test");
  Data data(net, 16);
  std::vector<double> losses;
  for (const Backend* backend : cpu_backends()) {
    Exec exec = cpu_exec(*backend, 1);
    Model model = make_model(net, make_plan(net, 16), options_for(net), exec, {16}, {});
    train_step(model, exec, data.batch(16), {0, 0, 0.1f});
    losses.push_back(train_step(model, exec, data.batch(16), {1, 0, 0.1f}).loss);
    EXPECT_NEAR(losses.back(), losses.front(), 1e-4 * losses.front()) << backend->name;
  }
}

std::string message_of(Model& model, Exec& exec, const Batch& batch) {
  try {
    train_step(model, exec, batch, {41, 0, 0.1f});
  } catch (const NonfiniteError& error) {
    return error.what();
  }
  return "no error";
}

TEST(TrainStep, NonfiniteLossNamesTheLayerAndChangesNothing) {
  const Net net = parse_net(kNet, "test");
  Data data(net, 8);
  Exec exec = cpu_exec(cpu_backend("auto"), 2);
  Model model = make_model(net, make_plan(net, 8), options_for(net), exec, {8}, {});
  const auto tensor = [&](const char* name) {
    for (size_t i = 0; i < model.specs.size(); ++i)
      if (model.specs[i].name == name) return model.values[i].f32();
    throw Error(name);
  };
  float* f1 = tensor("f1.weight");
  const float good = f1[3];
  f1[3] = std::numeric_limits<float>::quiet_NaN();
  std::string message = message_of(model, exec, data.batch(8));
  EXPECT_NE(message.find("step 41"), std::string::npos) << message;
  EXPECT_NE(message.find("f1.weight holds 1 NaN"), std::string::npos) << message;

  f1[3] = good;
  float* gamma = tensor("b2.weight");  // finite, but what follows overflows
  const float old_gamma = gamma[2];
  gamma[2] = std::numeric_limits<float>::max();
  const Tensor& weights = model.parameters;
  const std::vector<float> before(weights.view().f32(), weights.view().f32() + weights.view().count());
  message = message_of(model, exec, data.batch(8));
  EXPECT_NE(message.find("first layer with NaN or infinite values is b2 (batchnorm_forward b2"),
            std::string::npos)
      << message;
  EXPECT_EQ(std::memcmp(before.data(), weights.view().f32(), 4 * before.size()), 0);

  gamma[2] = old_gamma;
  EXPECT_EQ(message_of(model, exec, data.batch(8)), "no error");
}

TEST(TrainStep, RefusesRowsWithoutAProgram) {
  const Net net = parse_net(kNet, "test");
  Data data(net, 8);
  Exec exec = cpu_exec(cpu_backend("auto"), 1);
  Model model = make_model(net, make_plan(net, 8), options_for(net), exec, {8}, {});
  EXPECT_THROW(train_step(model, exec, data.batch(7), {0, 0, 0.1f}), Error);
}

TEST(TrainStep, LearnsByHeart) {
  const Net net = parse_net(kNet, "test");
  Data data(net, 16);
  for (const OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kAdamw})
    for (const Loss loss : {Loss::kSoftmax, Loss::kLogistic}) {
      ModelOptions options = options_for(net);
      options.augment = false;
      options.loss = loss;
      options.optimizer.kind = kind;
      Exec exec = cpu_exec(cpu_backend("auto"), 2);
      Model model = make_model(net, make_plan(net, 16), options, exec, {16}, {16});
      for (int64_t step = 0; step < 150; ++step)
        train_step(model, exec, data.batch(16), {step, 0, kind == OptimizerKind::kSgd ? 0.05f : 0.005f});
      EXPECT_EQ(evaluate_batch(model, exec, data.batch(16), nullptr).correct, 16);
    }
}

int64_t status_bytes(const char* key) {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (word == key) {
      int64_t kib = 0;
      status >> kib;
      return kib * 1024;
    }
  return 0;
}

TEST(TrainStep, MemoryIsWhatTheReportSays) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers keep memory of their own";
#endif
  const Net net = adapt_net(load_net("vgg16"), Input{32, 32, 3}, 10);
  Data data(net, 16);
  ModelOptions options = options_for(net);
  options.augment_pad = 0;
  Exec exec = cpu_exec(cpu_backend("auto"), 2);
  const int64_t before = status_bytes("VmRSS:");
  ASSERT_GT(before, 0);
  Model model = make_model(net, make_plan(net, 16), options, exec, {16}, {16});
  for (int64_t step = 0; step < 2; ++step) train_step(model, exec, data.batch(16), {step, 0, 0.001f});
  const int64_t used = status_bytes("VmHWM:") - before;
  const MemoryReport report = model.memory();
  // Scratch (packed filters) is not what a net needs: it belongs to the tenth that may come on top.
  const int64_t needed = report.total() - report.scratch;
  EXPECT_LE(static_cast<double>(used), 1.1 * static_cast<double>(needed))
      << "used " << used << ", needed " << needed << ", scratch " << report.scratch;
  EXPECT_EQ(model_memory(net, make_plan(net, 16), options, *exec.backend, exec.threads).total(),
            report.total());
  EXPECT_EQ(report.parameters, 33638218 / 16 * 16 * 4 + (33638218 % 16 != 0 ? 64 : 0));
}

}  // namespace
}  // namespace convoy
