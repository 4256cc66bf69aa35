// Net files: every message of the grammar at its line and column, and what the forms mean.
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>

#include "convoy/net.h"

namespace convoy {
namespace {

struct BadNet {
  const char* name;
  std::string text;
  std::string message;  // after "x.net:"
};

const std::string kInput = "input 8x8x3\n";
const std::string kLayers =
    "the layers are input, conv, fc, maxpool, avgpool, relu, sigmoid, tanh, dropout, bn, add, lrn";

const std::vector<BadNet>& bad_nets() {
  static const std::vector<BadNet> table = {
      {"Empty", "", "1:1: no layers; a net begins with: input HxWxC"},
      {"CommentsOnly", "# nothing\n\n  # here", "3:1: no layers; a net begins with: input HxWxC"},
      {"NoInput", "conv 3 3x3\n", "1:1: the first layer must be the input: input HxWxC"},
      {"FromWithoutInput", "relu from input\n", "1:1: the first layer must be the input: input HxWxC"},
      {"TwoInputs", kInput + "fc 3\n input 8x8x3\n", "3:2: a second input: a net has one, and line 1 is it"},
      {"InputWithoutExtents", "input\n", "1:7: input needs more; the form is: input HxWxC"},
      {"InputOfTwoExtents", "input 32x32\n",
       "1:7: the input must be HxWxC with whole numbers from 1 to 16777216, such as 32x32x3, not '32x32'"},
      {"InputOfFourExtents", "input 32x32x3x3\n",
       "1:7: the input must be HxWxC with whole numbers from 1 to 16777216, such as 32x32x3, not "
       "'32x32x3x3'"},
      {"InputOfZeroHeight", "input 0x32x3\n",
       "1:7: the input must be HxWxC with whole numbers from 1 to 16777216, such as 32x32x3, not '0x32x3'"},
      {"InputOfNegativeChannels", "input 32x32x-3\n",
       "1:7: the input must be HxWxC with whole numbers from 1 to 16777216, such as 32x32x3, not '32x32x-3'"},
      {"InputTooLarge", "input 16777217x1x1\n",
       "1:7: the input must be HxWxC with whole numbers from 1 to 16777216, such as 32x32x3, not "
       "'16777217x1x1'"},
      {"InputNumberOverflows", "input 1x1x99999999999999999999999\n",
       "1:7: the input must be HxWxC with whole numbers from 1 to 16777216, such as 32x32x3, not "
       "'1x1x99999999999999999999999'"},
      {"InputHasTooManyElements", "input 16777216x16777216x1\nfc 10\n",
       "1:1: an output of 16777216x16777216x1 has more than 1099511627776 elements"},
      {"InputReadsALayer", "input 8x8x3 from x\n",
       "1:13: 'from' is not expected here; the form is: input HxWxC"},
      {"UnknownLayer", kInput + "  softsign\n", "2:3: no layer 'softsign'; " + kLayers},
      {"MisspelledLayer", kInput + "cov 3 3x3\n", "2:1: no layer 'cov'; did you mean conv?"},
      {"UpperCaseLayer", kInput + "ReLU\n", "2:1: no layer 'ReLU'; did you mean relu?"},
      {"Linear", kInput + "Linear 10\n", "2:1: no layer 'Linear'; a fully connected layer is fc"},
      {"Conv2d", kInput + "Conv2d 3 3x3\n", "2:1: no layer 'Conv2d'; did you mean conv?"},
      {"BatchNorm2d", kInput + "batchnorm2d\n", "2:1: no layer 'batchnorm2d'; did you mean bn?"},
      {"Flatten", kInput + "flatten\n", "2:1: no layer 'flatten'; leave it out: fc flattens its input"},
      {"Softmax", kInput + "fc 3\nsoftmax\n",
       "3:1: no layer 'softmax'; leave it out: it is part of the loss, and a net ends with fc"},
      {"BinaryLayer", kInput + "\001\033[31m\377\n", "2:1: no layer '\\x01\\x1b[31m\\xff'; " + kLayers},
      {"LongWord", kInput + std::string(60, 'a'),
       "2:1: no layer 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'; " + kLayers},
      {"LongLine", kInput + "relu #" + std::string(1000, 'x'),
       "2:1001: a line has at most 1000 bytes, this one 1006"},
      {"NameWithoutLayer", kInput + "conv1:\n", "2:8: a layer is missing after the name; " + kLayers},
      {"EmptyName", kInput + "  : relu\n", "2:3: a name is missing before ':'"},
      {"NameWithSlash", kInput + "a/b: relu\n", "2:2: a name is letters, digits, '_', '-' and '.', not '/'"},
      {"NameWithEmptyPart", kInput + "a..b: relu\n", "2:1: the name 'a..b' has an empty part beside a dot"},
      {"NameEndsWithDot", kInput + "a.: relu\n", "2:1: the name 'a.' has an empty part beside a dot"},
      {"NameStartsWithDot", kInput + ".a: relu\n", "2:1: the name '.a' has an empty part beside a dot"},
      {"LongName", kInput + std::string(201, 'a') + ": relu\n",
       "2:1: a name has at most 200 bytes, this one 201"},
      {"NameOfOptimizerState", kInput + "optimizer.momentum.fc1: fc 3\n",
       "2:1: the name 'optimizer.momentum.fc1' is kept for the optimizer's state in checkpoints; use "
       "another"},
      {"NameOptimizer", kInput + "optimizer: fc 3\n",
       "2:1: the name 'optimizer' is kept for the optimizer's state in checkpoints; use another"},
      {"NameOfATensor", kInput + "a: conv 3 3x3\na.weight: conv 3 3x3\nfc 2\n",
       "3:1: the name 'a.weight' is that of a tensor of line 2 in checkpoints; use another"},
      {"NameOfABuffer", kInput + "a.running_var: relu\na: bn\nfc 2\n",
       "2:1: the name 'a.running_var' is that of a tensor of line 3 in checkpoints; use another"},
      {"NameOfACounter", kInput + "a: bn\n a.num_batches_tracked: relu\nfc 2\n",
       "3:2: the name 'a.num_batches_tracked' is that of a tensor of line 2 in checkpoints; use another"},
      {"NameTwice", kInput + "a: relu\n a: relu\nfc 3\n", "3:2: the name 'a' is taken by line 2"},
      {"AutomaticNameTaken", kInput + "relu2: tanh\nrelu\n relu\nfc 3\n",
       "4:2: the automatic name 'relu2' is taken by line 2; name this layer"},
      {"NameTakenByAutomatic", kInput + "relu\nrelu1: fc 3\n", "3:1: the name 'relu1' is taken by line 2"},
      {"ConvWithoutArguments", kInput + "conv\n",
       "2:6: conv needs more; the form is: conv FILTERS RxS [stride N] [pad N] [nobias] [from NAME] [split "
       "outputs]"},
      {"ConvWithoutWindow", kInput + "conv 3\n",
       "2:8: conv needs more; the form is: conv FILTERS RxS [stride N] [pad N] [nobias] [from NAME] [split "
       "outputs]"},
      {"ConvOfZeroFilters", kInput + "conv 0 3x3\n",
       "2:6: the number of filters must be a whole number from 1 to 16777216, not '0'"},
      {"ConvOfTooManyFilters", kInput + "conv 16777217 3x3\n",
       "2:6: the number of filters must be a whole number from 1 to 16777216, not '16777217'"},
      {"ConvFiltersNotANumber", kInput + "conv 3x3 16\n",
       "2:6: the number of filters must be a whole number from 1 to 16777216, not '3x3'"},
      {"WindowNotANumber", kInput + "conv 3 3x\n",
       "2:8: the window must be N or NxM with whole numbers from 1 to 16777216, not '3x'"},
      {"WindowOfZero", kInput + "conv 3 3x0\n",
       "2:8: the window must be N or NxM with whole numbers from 1 to 16777216, not '3x0'"},
      {"WindowOfThreeExtents", kInput + "conv 3 3x3x3\n",
       "2:8: the window must be N or NxM with whole numbers from 1 to 16777216, not '3x3x3'"},
      {"WindowLargerThanImage", kInput + "conv 3 9x3\n", "2:8: window 9x3 is larger than the image 8x8"},
      {"WindowLargerThanPaddedImage", kInput + "maxpool 11 pad 1\n",
       "2:9: window 11x11 is larger than the image 8x8 (10x10 with pad)"},
      {"PadNotSmallerThanWindow", kInput + "conv 3 3x3 pad 1x3\n",
       "2:16: pad 1x3 must be smaller than the window 3x3"},
      {"PadAsHighAsWindow", kInput + "conv 3 3x3 pad 3x1\n",
       "2:16: pad 3x1 must be smaller than the window 3x3"},
      {"PadNegative", kInput + "conv 3 3x3 pad -1\n",
       "2:16: pad must be N or NxM with whole numbers from 0 to 16777216, not '-1'"},
      {"StrideZero", kInput + "conv 3 3x3 stride 0\n",
       "2:19: stride must be N or NxM with whole numbers from 1 to 16777216, not '0'"},
      {"StrideWithoutValue", kInput + "conv 3 3x3 stride # 2\n", "2:19: a value is missing after 'stride'"},
      {"StrideTwice", kInput + "conv 3 3x3 stride 2 stride 2\n", "2:21: 'stride' stands twice"},
      {"FlagTwice", kInput + "fc 3 nobias nobias\n", "2:13: 'nobias' stands twice"},
      {"MisspelledKeyword", kInput + "conv 3 3x3 strid 2\n",
       "2:12: 'strid' is not expected here; did you mean stride?; the form is: conv FILTERS RxS [stride N] "
       "[pad N] [nobias] [from NAME] [split outputs]"},
      {"ExtraArgument", kInput + "relu 5\n", "2:6: '5' is not expected here; the form is: relu [from NAME]"},
      {"ConvHasTooManyWeights", kInput + "conv 16777216 1x1\nfc 16777216\n",
       "3:4: the layer has more than 1099511627776 weights"},
      {"ConvHasTooManyMacs", "input 4096x4096x1024\nconv 16384 1x1\nfc 1\n",
       "2:6: the layer needs more than 140737488355328 multiplications for one image"},
      {"OutputHasTooManyElements", "input 4096x4096x1\nconv 1000000 1x1\nfc 1\n",
       "2:1: an output of 4096x4096x1000000 has more than 1099511627776 elements"},
      {"MaxPoolWindowTooLarge", "input 99x99x1\nmaxpool 17x16\nfc 2\n",
       "2:9: max pool windows have at most 256 places, 17x16 has 272"},
      {"AvgPoolWithoutWindow", kInput + "avgpool\n",
       "2:9: avgpool needs more; the form is: avgpool RxS|global [stride N] [pad N] [from NAME]"},
      {"AvgPoolGlobalWithStride", kInput + "avgpool global stride 2\n",
       "2:23: avgpool global has no stride: its window is the whole image"},
      {"AvgPoolGlobalWithPad", kInput + "avgpool global pad 2\n",
       "2:20: avgpool global has no pad: its window is the whole image"},
      {"AvgPoolGlbal", kInput + "avgpool glbal\n",
       "2:9: the window, unless it is global, must be N or NxM with whole numbers from 1 to 16777216, not "
       "'glbal'"},
      {"FcOfZeroOutputs", kInput + "fc 0\n",
       "2:4: the number of outputs must be a whole number from 1 to 16777216, not '0'"},
      {"FcWithWindow", kInput + "fc 10 3x3\n",
       "2:7: '3x3' is not expected here; the form is: fc OUTPUTS [nobias] [from NAME] [split outputs]"},
      {"DropoutWithoutProbability", kInput + "dropout\n",
       "2:9: dropout needs more; the form is: dropout P [from NAME]"},
      {"DropoutOfOne", kInput + "dropout 1\n",
       "2:9: the probability of dropout must be a number that is at least 0 and less than 1, not '1'"},
      {"DropoutThatRoundsToOne", kInput + "dropout 0.99999999\n",
       "2:9: the probability of dropout must be a number that is at least 0 and less than 1, not "
       "'0.99999999'"},
      {"DropoutNegative", kInput + "dropout -0.1\n",
       "2:9: the probability of dropout must be a number that is at least 0 and less than 1, not '-0.1'"},
      {"DropoutNotANumber", kInput + "dropout 0.5.1\n",
       "2:9: the probability of dropout must be a number that is at least 0 and less than 1, not '0.5.1'"},
      {"DropoutNan", kInput + "dropout nan\n",
       "2:9: the probability of dropout must be a number that is at least 0 and less than 1, not 'nan'"},
      {"BnEpsZero", kInput + "bn eps 0\n", "2:8: eps must be a number greater than 0, not '0'"},
      {"BnEpsInfinite", kInput + "bn eps 1e999\n", "2:8: eps must be a number greater than 0, not '1e999'"},
      {"BnMomentumTooLarge", kInput + "bn momentum 1.5\n",
       "2:13: momentum must be a number from 0 to 1, not '1.5'"},
      {"LrnWithoutWindow", kInput + "lrn alpha 1\n",
       "2:13: lrn needs more; the form is: lrn WINDOW [alpha X] [beta X] [k X] [from NAME]"},
      {"LrnWindowZero", kInput + "lrn 0\n",
       "2:5: the window must be a whole number from 1 to 16777216, not '0'"},
      {"LrnAlphaNegative", kInput + "lrn 5 alpha -1\n",
       "2:13: alpha must be a number that is at least 0, not '-1'"},
      {"LrnBetaNegative", kInput + "lrn 5 beta -1\n",
       "2:12: beta must be a number that is at least 0, not '-1'"},
      {"LrnKZero", kInput + "lrn 5 k 0\n", "2:9: k must be a number greater than 0, not '0'"},
      {"SplitOfALayerWithoutOutputs", kInput + "relu split outputs\nfc 2\n",
       "2:6: 'split outputs' stands on a conv or fc layer, not on relu"},
      {"SplitOfBatchNorm", kInput + "bn eps 1e-3 split outputs\nfc 2\n",
       "2:13: 'split outputs' stands on a conv or fc layer, not on bn"},
      {"SplitOfTheInput", "input 8x8x3 split outputs\nfc 2\n",
       "1:13: 'split outputs' stands on a conv or fc layer, not on input"},
      {"SplitOfAPool", kInput + "maxpool 2 split outputs\nfc 2\n",
       "2:11: 'split outputs' stands on a conv or fc layer, not on maxpool"},
      {"SplitOfAnAdd", kInput + "a: relu\nb: relu from input\nadd a b split outputs\nfc 2\n",
       "4:9: 'split outputs' stands on a conv or fc layer, not on add"},
      {"SplitOfRows", kInput + "fc 2 split rows\n", "2:12: only outputs can be split, not 'rows'"},
      {"SplitWithoutOutputs", kInput + "fc 2 split # outputs\n", "2:12: a value is missing after 'split'"},
      {"SplitMisspelled", kInput + "fc 2 splitt outputs\n",
       "2:6: 'splitt' is not expected here; did you mean split?; the form is: fc OUTPUTS [nobias] [from "
       "NAME] "
       "[split outputs]"},
      {"OutputsWithoutSplit", kInput + "fc 2 outputs\n",
       "2:6: 'outputs' is not expected here; the form is: fc OUTPUTS [nobias] [from NAME] [split outputs]"},
      {"SplitTwiceOnALine", kInput + "fc 2 split outputs split outputs\n", "2:20: 'split' stands twice"},
      {"SplitTwice", kInput + "conv 3 3x3 split outputs\n fc 4\n fc 2 split outputs\n",
       "4:13: a second 'split outputs': there is one switch from rows to outputs, and line 2 is it"},
      {"FromUnknown", kInput + "features.0: relu\nfc 3 from feature.0\n",
       "3:11: no layer named 'feature.0' above this line; did you mean features.0?"},
      {"FromBelow", kInput + "fc 3 from later\nlater: relu\n",
       "2:11: no layer named 'later' above this line"},
      {"FromWithoutName", kInput + "fc 3 from\n", "2:11: a value is missing after 'from'"},
      {"AddWithoutNames", kInput + "add\n", "2:5: add needs more; the form is: add NAME NAME"},
      {"AddOfOne", kInput + "relu\nadd relu1\n", "3:11: add needs more; the form is: add NAME NAME"},
      {"AddOfThree", kInput + "add input input input\n",
       "2:17: 'input' is not expected here; the form is: add NAME NAME"},
      {"AddOfUnknown", kInput + "relu\nadd relu1 relu9\n",
       "3:11: no layer named 'relu9' above this line; did you mean relu1?"},
      {"AddToItself", kInput + "relu\nadd relu1 relu1\n", "3:11: add of 'relu1' to itself"},
      {"AddOfUnequalShapes", kInput + "a: conv 4 3x3\nb: conv 4 3x3\nadd a b\nfc 2\n",
       "4:7: add of unequal shapes: 'a' is 6x6x4, 'b' is 4x4x4"},
      {"AddOfFeaturesAndImage", kInput + "a: fc 4\nadd a input\n",
       "3:7: add of unequal shapes: 'a' is 4 features, 'input' is 8x8x3"},
      {"ConvAfterFc", kInput + "fc 10\nconv 3 1x1\n",
       "3:1: conv needs an image, but 'fc1' gives 10 features; it belongs before the first fc"},
      {"ConvFromFc", kInput + "a: fc 10\nb: relu\nconv 3 1x1 from a\n",
       "4:17: conv needs an image, but 'a' gives 10 features; it belongs before the first fc"},
      {"PoolAfterFc", kInput + "fc 10\nmaxpool 1\n",
       "3:1: maxpool needs an image, but 'fc1' gives 10 features; it belongs before the first fc"},
      {"AvgPoolAfterFc", kInput + "fc 10\navgpool global\n",
       "3:1: avgpool needs an image, but 'fc1' gives 10 features; it belongs before the first fc"},
      {"LrnAfterFc", kInput + "fc 10\nlrn 5\n",
       "3:1: lrn needs an image, but 'fc1' gives 10 features; it belongs before the first fc"},
      {"UnusedLayer", kInput + "a: conv 3 3x3\n b: conv 3 3x3 from input\nfc 2\n", "2:1: no layer reads 'a'"},
      {"UnusedInput", kInput, "1:1: the last layer must be fc, one output a class, not input"},
      {"EndsWithoutFc", kInput + "fc 2\nrelu\n",
       "3:1: the last layer must be fc, one output a class, not relu"},
  };
  return table;
}

std::string message_of(const std::string& net, const std::string& source) {
  try {
    parse_net(net, source);
  } catch (const InputError& error) {
    return error.what();
  }
  return "no error";
}

class NetFileError : public ::testing::TestWithParam<BadNet> {};

TEST_P(NetFileError, NamesTheLineAndColumn) {
  EXPECT_EQ(message_of(GetParam().text, "x.net"), "x.net:" + GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(Grammar, NetFileError, ::testing::ValuesIn(bad_nets()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST(NetFile, RefusesTooManyLayers) {
  std::string net = "input 1x1x1\n";
  for (int i = 0; i < 9998; ++i) net += "relu\n";
  EXPECT_EQ(parse_net(net + "fc 2\n", "x.net").layers.size(), 10000u);
  EXPECT_EQ(message_of(net + "relu\nfc 2\n", "x.net"), "x.net:10001:1: a net has at most 10000 layers");
}

template <class Spec>
const Spec& spec(const Net& net, size_t layer) {
  return std::get<Spec>(net.layers.at(layer).spec);
}

TEST(NetFile, ReadsEveryForm) {
  const std::string content =
      "# a comment, and a blank line\r\n"
      "\r\n"
      "pixels: input 40x30x3   # ends the line\r\n"
      "\tfeatures.0:\tconv 8 3x5 pad 1x2 nobias stride 2x1\r\n"
      "bn momentum 0.2 eps 1e-3\n"
      "relu\n"
      "maxpool 3 stride 2 pad 1\n"
      "maxpool 2x3\n"
      "avgpool pad 0x1 2\n"
      "conv from bn1 stride 5 4 1x1\n"
      "lrn k 2 7 beta 0.5 alpha 1e-2\n"
      "avgpool global\n"
      "sigmoid\n"
      "left:fc 6\n"
      "right: fc 6 nobias from avgpool1\n"
      "add left right\n"
      "tanh\n"
      "dropout .25\n"
      "fc 10";
  const Net net = parse_net("\xef\xbb\xbf" + content, "some/folder/my.first.net");
  EXPECT_EQ(net.name, "my.first");
  EXPECT_EQ(net.text, "\xef\xbb\xbf" + content);
  std::vector<std::string> names;
  for (const Layer& layer : net.layers) names.push_back(layer.name);
  EXPECT_EQ(names, (std::vector<std::string>{"pixels", "features.0", "bn1", "relu1", "maxpool1", "maxpool2",
                                             "avgpool1", "conv2", "lrn1", "avgpool2", "sigmoid1", "left",
                                             "right", "add1", "tanh1", "dropout1", "fc3"}));
  EXPECT_EQ(net.layers[0].line, 3);
  EXPECT_EQ(net.layers[16].line, 19);
  EXPECT_TRUE(net.layers[0].inputs.empty());
  EXPECT_EQ(net.layers[7].inputs, std::vector<int>{2});
  EXPECT_EQ(net.layers[12].inputs, std::vector<int>{6});
  EXPECT_EQ(net.layers[13].inputs, (std::vector<int>{11, 12}));
  EXPECT_EQ(net.layers[14].inputs, std::vector<int>{13});

  EXPECT_EQ(net.input().h, 40);
  EXPECT_EQ(net.input().w, 30);
  EXPECT_EQ(net.input().c, 3);
  const auto& conv = spec<Conv>(net, 1);
  EXPECT_EQ((std::vector<int64_t>{conv.filters, conv.r, conv.s, conv.stride_h, conv.stride_w, conv.pad_h,
                                  conv.pad_w}),
            (std::vector<int64_t>{8, 3, 5, 2, 1, 1, 2}));
  EXPECT_FALSE(conv.bias);
  EXPECT_EQ(spec<BatchNorm>(net, 2).eps, 1e-3f);
  EXPECT_EQ(spec<BatchNorm>(net, 2).momentum, 0.2f);
  const auto& overlapping = spec<MaxPool>(net, 4);
  EXPECT_EQ((std::vector<int64_t>{overlapping.r, overlapping.s, overlapping.stride_h, overlapping.stride_w,
                                  overlapping.pad_h, overlapping.pad_w}),
            (std::vector<int64_t>{3, 3, 2, 2, 1, 1}));
  const auto& touching = spec<MaxPool>(net, 5);  // the stride of a pool is its window unless it is given
  EXPECT_EQ((std::vector<int64_t>{touching.r, touching.s, touching.stride_h, touching.stride_w}),
            (std::vector<int64_t>{2, 3, 2, 3}));
  EXPECT_FALSE(spec<AveragePool>(net, 6).global);
  EXPECT_EQ(spec<AveragePool>(net, 6).pad_w, 1);
  EXPECT_EQ(spec<Conv>(net, 7).stride_h, 5);
  EXPECT_EQ(spec<Conv>(net, 7).stride_w, 5);
  EXPECT_TRUE(spec<Conv>(net, 7).bias);
  const auto& lrn = spec<Lrn>(net, 8);
  EXPECT_EQ(lrn.window, 7);
  EXPECT_EQ((std::vector<float>{lrn.alpha, lrn.beta, lrn.k}), (std::vector<float>{1e-2f, 0.5f, 2.f}));
  EXPECT_TRUE(spec<AveragePool>(net, 9).global);
  EXPECT_TRUE(spec<Fc>(net, 11).bias);
  EXPECT_FALSE(spec<Fc>(net, 12).bias);
  EXPECT_EQ(spec<Dropout>(net, 15).p, 0.25f);

  // Written and read again it is the same net, and its text is then a fixed point.
  const std::string written = net_text(net);
  const Net again = parse_net(written, "x.net");
  EXPECT_EQ(net_text(again), written);
  EXPECT_EQ(output_shapes(again, 3), output_shapes(net, 3));
  for (size_t i = 0; i < net.layers.size(); ++i) {
    EXPECT_EQ(again.layers[i].name, net.layers[i].name);
    EXPECT_EQ(again.layers[i].inputs, net.layers[i].inputs);
    EXPECT_EQ(again.layers[i].spec.index(), net.layers[i].spec.index());
  }
  EXPECT_NE(written.find("bn1: bn eps 0.001 momentum 0.2\n"), std::string::npos) << written;
  EXPECT_NE(written.find("features.0: conv 8 3x5 stride 2x1 pad 1x2 nobias\n"), std::string::npos) << written;
}

TEST(NetFile, OneLayerMayBeMarkedWithSplitOutputs) {
  const std::string plain = "input: input 8x8x3\na: conv 4 3x3\nb: relu\nc: fc 6\nd: fc 2\n";
  EXPECT_EQ(split_layer(parse_net(plain, "x.net")), std::nullopt);
  for (const int marked : {1, 3, 4}) {
    std::string content, line;
    std::istringstream lines(plain);
    for (int i = 0; std::getline(lines, line); ++i)
      content += line + (i == marked ? " split outputs\n" : "\n");
    const Net net = parse_net(content, "x.net");
    EXPECT_EQ(split_layer(net), marked);
    EXPECT_EQ(net_text(net), content);
    EXPECT_EQ(split_layer(adapt_net(net, {9, 9, 1}, 5)), marked);
    EXPECT_TRUE(same_layers(net, parse_net(plain, "y.net")));
    EXPECT_FALSE(same_layers(net, parse_net(plain.substr(0, plain.size() - 2) + "3\n", "x.net")));
  }
  // As with other keywords the order is free; and a layer may have the words as names.
  const Net net = parse_net(
      "input 8x8x3\nsplit: relu\noutputs: conv split outputs 4 from split 3x3 pad 1\nsum: conv 4 1 from "
      "split\n"
      "add outputs sum\nfc 2\n",
      "x.net");
  EXPECT_EQ(split_layer(net), 2);
  EXPECT_EQ(net_text(parse_net(net_text(net), "x.net")), net_text(net));
}

TEST(NetFile, WritesEveryNumberExactly) {
  for (const char* p : {"0.1", "0.33333334", "1e-7", "0.99999994", "0", "0.123456789"}) {
    const Net net = parse_net(text("input 1x1x1\ndropout ", p, "\nfc 1\n"), "x.net");
    EXPECT_EQ(spec<Dropout>(parse_net(net_text(net), "x.net"), 1).p, spec<Dropout>(net, 1).p) << p;
  }
}

TEST(NetFile, TheDocumentedExampleIsANet) {
  std::ifstream in(text(CONVOY_SOURCE_DIR, "/docs/nets.md"));
  ASSERT_TRUE(in.good());
  std::string example, line;
  while (std::getline(in, line) && line != "```") continue;
  while (std::getline(in, line) && line != "```") example += line + "\n";
  const Net net = parse_net(example, "docs/nets.md");
  std::vector<std::string> automatic;
  for (const Layer& layer : net.layers)
    if (layer.name.find_last_of("0123456789") == layer.name.size() - 1 && layer.name[0] != 'b')
      automatic.push_back(layer.name);
  EXPECT_EQ(automatic, (std::vector<std::string>{"conv1", "relu2", "add1", "relu3", "avgpool1", "fc1"}));
}

class LoadNet : public ::testing::Test {
 protected:
  std::string write(const std::string& content) {
    std::ofstream(file_, std::ios::binary) << content;
    return file_;
  }
  std::string message_of(const std::string& name) {
    try {
      load_net(name);
    } catch (const InputError& error) {
      return error.what();
    }
    return "no error";
  }
  void TearDown() override { std::remove(file_.c_str()); }
  const std::string file_ = text(::testing::TempDir(), "convoy_net_", getpid(), ".net");
};

TEST_F(LoadNet, ReadsAFile) {
  const Net net = load_net(write("input 8x8x1\nfc 3\n"));
  EXPECT_EQ(net.layers.size(), 2u);
  EXPECT_EQ(net.name, text("convoy_net_", getpid()));
}

TEST_F(LoadNet, NamesTheFileInErrors) {
  EXPECT_EQ(message_of(write("input 8x8x1\n fx 3\n")), file_ + ":2:2: no layer 'fx'; did you mean fc?");
}

TEST_F(LoadNet, RefusesWhatIsNoNetFile) {
  EXPECT_EQ(message_of("/no/such.net"),
            "/no/such.net: cannot open the net file; built-in nets are named without .net");
  EXPECT_EQ(message_of(write(std::string((1 << 20) + 1, '\n'))),
            file_ + ": a net file has at most 1048576 bytes; is this a net?");
  EXPECT_EQ(message_of(write(std::string(1 << 20, '\n'))),
            file_ + ":1048576:1: no layers; a net begins with: input HxWxC");
}

TEST_F(LoadNet, RefusesAFolder) {
  const std::string folder = file_;
  ASSERT_EQ(std::remove(folder.c_str()) == 0 || errno == ENOENT, true);
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  EXPECT_EQ(message_of(folder), folder + ": cannot read the net file; is it a folder?");
}

TEST_F(LoadNet, ListsTheBuiltInNets) {
  EXPECT_EQ(builtin_nets(), (std::vector<std::string>{"alexnet", "cifar_cnn", "lenet5", "mlp", "mnist_cnn",
                                                      "resnet18", "vgg16", "vgg16_bn"}));
  EXPECT_EQ(message_of("resnet81"),
            "no net 'resnet81'; did you mean resnet18?; built-in: alexnet, cifar_cnn, lenet5, mlp, "
            "mnist_cnn, resnet18, "
            "vgg16, vgg16_bn; or give a file ending in .net");
  EXPECT_EQ(message_of("").substr(0, 9), "no net ''");
}

}  // namespace
}  // namespace convoy
