// Whole nets, exactly: weights in {-1, 0, 1}, pixels 0 or 255 (-1 or 1 after normalisation), whole-number
// gradients at the output in place of the loss. Every sum is exact, so every fusion and every shared buffer
// of lower() must give the bits of the reference, which fuses nothing.
#include <gtest/gtest.h>

#include "convoy/train.h"
#include "lower.h"
#include "memory_plan.h"
#include "reference_net.h"

namespace convoy {
namespace {

struct Case {
  const char* name;
  int64_t rows;
  const char* text;
};

const Case kCases[] = {
    {"plain", 3, "input 6x5x2\nconv 3 3x3 pad 1\nrelu\nmaxpool 2\nfc 4\nrelu\nfc 3\n"},
    {"pool_without_relu", 2, "input 6x6x3\nconv 5 3x3\nmaxpool 2\nfc 3\n"},
    {"relu_after_pool", 2,
     "input 7x7x3\nconv 5 3x3 stride 2 pad 1\nmaxpool 2 stride 1\nrelu\nconv 4 2x2\nrelu\nfc 2\n"},
    {"overlapping_pool", 3,
     "input 9x9x1\nconv 4 3x3\nrelu\nmaxpool 3 stride 2\nconv 3 1x1 nobias\nrelu\nfc 5 nobias\n"},
    {"average", 2, "input 8x8x2\nconv 4 3x3 pad 1\nrelu\navgpool 2\nconv 4 1x1\navgpool global\nfc 3\n"},
    {"dropout", 4, "input 5x5x2\nconv 4 3x3\nrelu\ndropout 0.5\nfc 6\nrelu\ndropout 0.5\nfc 3\n"},
    {"no_dropout", 2, "input 5x5x2\nconv 4 3x3\nrelu\ndropout 0\nfc 3\n"},
    {"residual", 3,
     "input 5x5x3\nconv 4 3x3 pad 1\ns: relu\nconv 4 3x3 pad 1\nrelu\nb: conv 4 3x3 pad 1\nadd s b\nrelu\nfc "
     "3\n"},
    {"residual_without_relu", 2,
     "input 5x5x3\ns: conv 4 3x3 pad 1\nb: conv 4 1x1\nsum: add s b\nconv 2 3x3\nfc 3\n"},
    {"projection", 2,
     "input 6x6x3\ns: conv 4 3x3 pad 1\nrelu\nb: conv 6 3x3 stride 2 pad 1\np: conv 6 1x1 stride 2 from "
     "s\nadd b p\nrelu\n"
     "fc 3\n"},
    {"input_is_read_twice", 2,
     "input 4x4x3\na: conv 2 3x3 pad 1\nb: conv 2 1x1 from input\nadd a b\nrelu\nfc 2\n"},
    {"three_readers", 2,
     "input 4x4x2\nx: conv 3 3x3 pad 1\nr: relu\na: conv 3 1x1 from r\nb: conv 3 3x3 pad 1 from r\nab: add a "
     "b\n"
     "abr: add ab r\nrelu\nfc 2\n"},
    {"shared_gradient_meets_relu", 2,
     "input 4x4x2\na: conv 3 3x3 pad 1\nar: relu\nb: conv 3 1x1 from input\nbr: relu\nadd ar br\nfc 2\n"},
    {"pool_read_twice", 2,
     "input 8x8x2\nconv 3 3x3 pad 1\nrelu\np: maxpool 2\na: conv 3 3x3 pad 1\nadd p a\nmaxpool 2\nfc 2\n"},
    {"relu_on_input", 2, "input 4x4x2\nrelu\nmaxpool 2\nfc 3\n"},
    {"fc_only", 5, "input 3x3x1\nfc 4\n"},
    {"one_row", 1, "input 6x6x1\nconv 2 5x5 pad 2\nrelu\nmaxpool 2\nfc 2\nrelu\nfc 2\n"},
};

// A whole number in [-limit, limit] that depends on its place only.
double whole(uint32_t stream, size_t i, int limit) {
  const uint32_t v = philox(7, static_cast<uint32_t>(i), 0, 0, stream).v[0];
  return static_cast<double>(v % static_cast<uint32_t>(2 * limit + 1)) - limit;
}

class Lower : public ::testing::TestWithParam<std::tuple<Case, int>> {};

TEST_P(Lower, GradientsAreExact) {
  const auto& [c, threads] = GetParam();
  for (const Backend* backend : cpu_backends()) {
    SCOPED_TRACE(backend->name);
    const Net net = parse_net(c.text, c.name);
    Exec exec = cpu_exec(*backend, threads);
    ModelOptions options;
    options.seed = 11;
    const auto channels = static_cast<size_t>(net.input().c);
    options.normalization = {std::vector<float>(channels, 0.0f), std::vector<float>(channels, 1 / 255.0f)};
    Model model = make_model(net, make_plan(net, c.rows), options, exec, {c.rows}, {c.rows});

    std::vector<reference::Values> weights;
    for (size_t i = 0; i < model.specs.size(); ++i) {
      reference::Values w(static_cast<size_t>(model.specs[i].shape.count()));
      for (size_t j = 0; j < w.size(); ++j) {
        w[j] = whole(static_cast<uint32_t>(i), j, 1);
        model.values[i].f32()[j] = static_cast<float>(w[j]);
      }
      weights.push_back(w);
    }
    reference::Values x(static_cast<size_t>(c.rows * net.input().h * net.input().w * net.input().c));
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = whole(100, i, 1) + 1;
      model.pixels.as<uint8_t>()[i] = static_cast<uint8_t>(x[i]);
    }
    for (int64_t n = 0; n < c.rows; ++n) {
      model.labels.as<int32_t>()[n] = 0;
      model.index.as<int32_t>()[n] = static_cast<int32_t>(n);
    }
    *model.step_scalars() = StepScalars();
    model.step_scalars()->step = 5;
    const Program& program = model.train.at(c.rows).front;
    reference::Values dlogits(static_cast<size_t>(program.logits.count()));
    for (size_t i = 0; i < dlogits.size(); ++i) dlogits[i] = whole(200, i, 2);

    reference::NetReference truth(net, c.rows);
    const reference::NetResult want = truth.run(x, weights, dlogits, options.seed, 5);
    ASSERT_LT(want.largest_sum, 16777216.0) << "the case is too large to be exact";

    for (const Operation& operation : program.forward) operation.run(exec);
    for (size_t i = 0; i < dlogits.size(); ++i)
      ASSERT_EQ(static_cast<double>(program.logits.f32()[i]), want.y.back()[i]) << "logit " << i;
    for (size_t i = 0; i < dlogits.size(); ++i) program.dlogits.f32()[i] = static_cast<float>(dlogits[i]);
    for (const Operation& operation : program.backward) operation.run(exec);
    double gradient = 0;
    for (size_t i = 0; i < model.specs.size(); ++i)
      for (size_t j = 0; j < want.gradients[i].size(); ++j) {
        ASSERT_EQ(static_cast<double>(model.gradients_of[i].f32()[j]), want.gradients[i][j])
            << model.specs[i].name << "[" << j << "]";
        gradient += std::fabs(want.gradients[i][j]);
      }
    EXPECT_GT(gradient, 0) << "nothing was tested";
  }
}

INSTANTIATE_TEST_SUITE_P(Nets, Lower,
                         ::testing::Combine(::testing::ValuesIn(kCases), ::testing::Values(1, 3)),
                         [](const auto& parameters) {
                           return std::string(std::get<0>(parameters.param).name) + "_" +
                                  std::to_string(std::get<1>(parameters.param)) + "threads";
                         });

TEST(LowerFusion, AbsorbsWhatFollows) {
  const Net net = load_net("cifar_cnn");
  ModelOptions options;
  options.normalization = {{0, 0, 0}, {1, 1, 1}};
  Exec exec = cpu_exec(cpu_backend("auto"), 1);
  const Model model = make_model(net, make_plan(net, 4), options, exec, {4}, {});
  std::vector<std::string> names;
  for (const Operation& operation : model.train.at(4).front.forward) names.push_back(operation.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"normalize input", "conv_forward features.0", "conv_forward features.3",
                                      "fc_forward classifier.0", "fc_forward classifier.2",
                                      "softmax_cross_entropy classifier.2"}));
}

TEST(MemoryPlan, NeverSharesWhatIsAliveTogether) {
  std::vector<Lifetime> lives;
  for (uint32_t i = 0; i < 300; ++i) {
    const Philox4 v = philox(1, i, 0, 0, 0);
    const int first = static_cast<int>(v.v[0] % 100);
    lives.push_back({static_cast<int64_t>(v.v[1] % 5000), first, first + static_cast<int>(v.v[2] % 20)});
  }
  const MemoryPlan plan = plan_memory(lives);
  int64_t sum = 0, most = 0;
  for (int t = 0; t < 120; ++t) {
    int64_t alive = 0;
    for (const Lifetime& l : lives)
      if (l.first <= t && t <= l.last) alive += (l.bytes + 63) / 64 * 64;
    most = std::max(most, alive);
  }
  for (size_t i = 0; i < lives.size(); ++i) {
    sum += lives[i].bytes;
    EXPECT_EQ(plan.offset[i] % 64, 0);
    EXPECT_LE(plan.offset[i] + lives[i].bytes, plan.bytes);
    for (size_t j = 0; j < i; ++j) {
      const bool together = lives[i].first <= lives[j].last && lives[j].first <= lives[i].last;
      const bool apart = plan.offset[i] + lives[i].bytes <= plan.offset[j] ||
                         plan.offset[j] + lives[j].bytes <= plan.offset[i];
      EXPECT_TRUE(!together || apart || lives[i].bytes == 0 || lives[j].bytes == 0) << i << " and " << j;
    }
  }
  EXPECT_GE(plan.bytes, most);
  EXPECT_LE(plan.bytes, most * 13 / 10) << "wasteful: " << sum;
}

}  // namespace
}  // namespace convoy
