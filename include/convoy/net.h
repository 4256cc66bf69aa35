// A network is data: a list of layers, each a spec and the layers that it reads. Residual connections need
// nothing more.
//
// Layer 0 is the input. A layer's name is the prefix of its parameters in checkpoints ("features.0" ->
// "features.0.weight", PyTorch's names); names are unique.
#pragma once
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "convoy/tensor.h"

namespace convoy {

struct Input {
  int64_t h = 0, w = 0, c = 0;
};
struct Conv {
  int64_t filters = 0, r = 0, s = 0, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  bool bias = true;
};
struct Fc {  // reads [H,W,C] as H·W·C features
  int64_t outputs = 0;
  bool bias = true;
};
struct MaxPool {
  int64_t r = 0, s = 0, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
};
struct AveragePool {
  int64_t r = 0, s = 0, stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  bool global = false;  // the window is the whole image
};
struct Relu {};
struct Sigmoid {};
struct Tanh {};
struct Dropout {
  float p = 0.5f;
};
struct BatchNorm {
  float eps = 1e-5f, momentum = 0.1f;
};
struct Add {};  // of exactly two layers of equal shape
struct Lrn {
  int64_t window = 5;
  float alpha = 1e-4f, beta = 0.75f, k = 1.0f;
};

using LayerSpec =
    std::variant<Input, Conv, Fc, MaxPool, AveragePool, Relu, Sigmoid, Tanh, Dropout, BatchNorm, Add, Lrn>;

struct Layer {
  std::string name;
  LayerSpec spec;
  std::vector<int> inputs;     // indices of earlier layers; empty for the input
  int line = 0;                // in the net's text, 1-based
  bool split_outputs = false;  // from here on hybrid mode splits the layers over the workers
};

struct Net {
  std::string name;           // "cifar_cnn", or the file's stem
  std::string text;           // what it was read from; goes into the checkpoint
  std::vector<Layer> layers;  // the last one is the output: the logits

  const Input& input() const { return std::get<Input>(layers.front().spec); }
};

// Reads a net from its text (grammar: docs/nets.md). `source` stands in messages.
// Throws InputError "source:line:col: message" for anything that is not a valid net, shapes included.
Net parse_net(const std::string& text, const std::string& source);

// A built-in net by name, or the file when the name ends in ".net".
Net load_net(const std::string& name_or_file);
std::vector<std::string> builtin_nets();

// The net for other data: input extents and the last layer's outputs are replaced, and what reads them
// follows (the first fully connected layer of vgg16 and alexnet). The net named resnet18, made for images
// over 64 x 64 with a 7x7 convolution of stride 2 and a max pool, gets its CIFAR stem for images up to that:
// a 3x3 convolution of stride 1 and no pool. A net that already fits is returned as it is. Throws InputError
// with both shapes when the net cannot take the input.
Net adapt_net(const Net& net, const Input& input, int64_t classes);

// The net as text, one line a layer, every layer named: parse_net(net_text(net), source) has the same layers.
std::string net_text(const Net& net);

// The layer that the net marks with `split outputs`; none: the default cut, the first fc layer.
std::optional<int> split_layer(const Net& net);

// The same layers, names and numbers: the same function and checkpoints. Where the outputs are split is no part
// of that.
bool same_layers(const Net& a, const Net& b);

// Output shape of every layer for a batch of `rows`: [rows,H,W,C], or [rows,F] from the first fc layer on.
std::vector<Shape> output_shapes(const Net& net, int64_t rows);

// Multiply-accumulates of every layer's forward pass for one image: conv and fc; 0 for the others.
std::vector<int64_t> forward_macs(const Net& net);

// One learned tensor, or one buffer (batch norm's running statistics: `buffer` is set, not trained).
struct ParameterSpec {
  std::string name;  // "features.0.weight", PyTorch's name
  Shape shape;       // Convoy's layout: conv [K,R,S,C], fc [F,D], others [C]
  int layer = 0;
  enum Role { kWeight, kBias, kGamma, kBeta, kRunningMean, kRunningVar } role = kWeight;
  int64_t fan_in = 0;  // of the weight and its bias; 0 for batch norm
  bool buffer() const { return role == kRunningMean || role == kRunningVar; }
};
std::vector<ParameterSpec> parameters(const Net& net);
int64_t parameter_count(const Net& net);  // trained ones only

}  // namespace convoy
