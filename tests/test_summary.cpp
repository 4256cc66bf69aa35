// What `convoy summary` prints.
#include <gtest/gtest.h>

#include <sstream>

#include "bytes_text.h"
#include "summary.h"

namespace convoy {
namespace {

std::string summary(const Net& net, const SummaryOptions& options = {}) {
  std::ostringstream out;
  print_summary(out, net, options);
  return out.str();
}

TEST(Summary, OfASmallNetWholeText) {
  const Net net = parse_net(
      "input 6x6x2\nstem: conv 4 3x3 pad 1 nobias\nbn\nrelu\nconv 4 1x1 from bn1\nadd relu1 conv2\nmaxpool "
      "2\nfc 10\n",
      "tiny.net");
  SummaryOptions options;
  options.batch = 3;
  // conv 4·3·3·2·36 and 4·4·36, fc 10·36 multiply-accumulates; 72, 16 + 4, 370 parameters and 8 of batch
  // norm.
  EXPECT_EQ(summary(net, options), R"(tiny: 6x6x2 images, 10 classes; per image:
layer     kind                          output  parameters    MFLOP  activation  compute  parameters
                                                            forward       bytes        %           %
input     input 6x6x2                    6x6x2           -        -         288        -           -
stem      conv 4 3x3 pad 1 nobias        6x6x4          72    0.005         576     73.5        15.3
bn1       bn                             6x6x4           8        -         576        -         1.7
relu1     relu                           6x6x4           -        -         576        -           -
conv2     conv 4 1x1 from bn1            6x6x4          20    0.001         576     16.3         4.3
add1      add relu1 conv2                6x6x4           -        -         576        -           -
maxpool1  maxpool 2x2                    3x3x4           -        -         144        -           -
fc1       fc 10                    10 features         370    0.001          40     10.2        78.7
total                                                  470    0.007        3352    100.0       100.0

conv layers: 89.8 % of the compute, 19.6 % of the parameters; )"
                                   R"(fc layers: 10.2 % of the compute, 78.7 % of the parameters; )"
                                   R"(batch norm: 1.7 % of the parameters
(Krizhevsky's rule of 2014: conv layers have 90-95 % of the compute and about 5 % of the parameters,
fc layers 5-10 % of the compute and about 95 % of the parameters.)

memory of a training step with batch size 3 (estimate):
  parameters                                            1.8 KiB
  gradients                                             1.8 KiB
  optimizer state  SGD's momentum                       1.8 KiB
  buffers          batch norm's running statistics         32 B
  activations      every layer's output once            9.8 KiB
  input            the batch as bytes, and its labels     228 B
  total                                                15.6 KiB
)");
}

TEST(Summary, PrintsTheMemoryThatItIsGiven) {
  SummaryOptions options;
  options.batch = 32;
  MemoryReport memory;
  memory.parameters = memory.gradients = 4096;
  memory.optimizer = 8192;
  memory.activations = 3 << 20;
  memory.scratch = 1000;
  memory.input = 1536;
  options.memory = memory;
  options.optimizer.kind = OptimizerKind::kAdamw;
  const std::string out = summary(load_net("mlp"), options);
  EXPECT_EQ(out.substr(out.find("memory of")), R"(memory of a training step with batch size 32:
  parameters                                                4.0 KiB
  gradients                                                 4.0 KiB
  optimizer state  AdamW's m and v                          8.0 KiB
  activations      outputs and gradients that a step keeps  3.0 MiB
  scratch          packed filters, partial sums              1000 B
  input            the batch as bytes, and its labels       1.5 KiB
  total                                                     3.0 MiB
)");
}

TEST(Summary, CountsTheOptimizersState) {
  const Net net = parse_net("input 1x1x255\nfc 1\n", "x.net");  // 256 parameters
  SummaryOptions options;
  EXPECT_NE(summary(net, options).find("  optimizer state  SGD's momentum                        1.0 KiB\n"),
            std::string::npos)
      << summary(net, options);
  options.optimizer.kind = OptimizerKind::kAdamw;
  EXPECT_NE(summary(net, options).find("  optimizer state  AdamW's m and v                       2.0 KiB\n"),
            std::string::npos)
      << summary(net, options);
  options.optimizer.kind = OptimizerKind::kSgd;
  options.optimizer.momentum = 0;
  EXPECT_EQ(summary(net, options).find("optimizer state"), std::string::npos);
}

TEST(Summary, SaysKrizhevskysObservationForTheNet) {
  const std::string alexnet = summary(load_net("alexnet"));
  EXPECT_NE(alexnet.find("conv layers: 91.8 % of the compute, 4.0 % of the parameters; "
                         "fc layers: 8.2 % of the compute, 96.0 % of the parameters\n"),
            std::string::npos)
      << alexnet;
  const std::string mlp = summary(load_net("mlp"));
  EXPECT_NE(mlp.find("conv layers: 0 % of the compute, 0 % of the parameters; "
                     "fc layers: 100.0 % of the compute, 100.0 % of the parameters\n"),
            std::string::npos)
      << mlp;
}

TEST(Summary, TotalsAreTheNets) {
  for (const std::string& name : builtin_nets()) {
    const Net net = load_net(name);
    const std::string out = summary(net);
    std::istringstream total(out.substr(out.find("\ntotal ")));
    std::string word;
    int64_t parameters = 0, bytes = 0, outputs = 0, macs = 0;
    double mflop = 0;
    total >> word >> parameters >> mflop >> bytes;
    for (const Shape& shape : output_shapes(net, 1)) outputs += shape.count();
    for (const int64_t layer : forward_macs(net)) macs += layer;
    EXPECT_EQ(parameters, parameter_count(net)) << name;
    EXPECT_EQ(bytes, 4 * outputs) << name;
    EXPECT_NEAR(mflop, 2e-6 * static_cast<double>(macs), 0.0005) << name;  // three decimals
  }
}

TEST(Summary, RefusesABatchTooLargeToCount) {
  SummaryOptions options;
  options.batch = int64_t{1} << 60;
  EXPECT_THROW(summary(load_net("mlp"), options), InputError);
}

TEST(BytesText, HasOneDecimalBeforeItsUnit) {
  const std::vector<std::pair<int64_t, const char*>> expected = {{0, "0 B"},
                                                                 {1023, "1023 B"},
                                                                 {1024, "1.0 KiB"},
                                                                 {1536, "1.5 KiB"},
                                                                 {1048575, "1.0 MiB"},
                                                                 {1023 << 10, "1023.0 KiB"},
                                                                 {int64_t{5} << 30, "5.0 GiB"},
                                                                 {INT64_MAX, "8.0 EiB"}};
  for (const auto& [bytes, words] : expected) EXPECT_EQ(bytes_text(bytes), words);
}

}  // namespace
}  // namespace convoy
