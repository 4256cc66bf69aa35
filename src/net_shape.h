// Shape inference of one layer: what the reader of net files, adapt_net and output_shapes share.
#pragma once
#include <string>
#include <vector>

#include "convoy/net.h"

namespace convoy {

// Limits that keep every count of a net, bytes and operations included, far inside int64_t.
constexpr int64_t kMaxExtent = int64_t{1} << 24;  // any number in a net file
constexpr int64_t kMaxElements = int64_t{1}
                                 << 40;  // of one example's output of a layer, and of one parameter tensor
constexpr int64_t kMaxMacs = int64_t{1} << 47;  // of a layer's forward pass, one example
constexpr int64_t kMaxLayers = 10000;

// The part of a layer's line that a problem is about.
enum class Part { kKind, kCount, kWindow, kStride, kPad, kFirst, kSecond };

struct LayerShape {
  Shape shape;          // for one row
  int64_t weights = 0;  // elements of the weight tensor
  int64_t macs = 0;     // multiply-accumulates of the forward pass for one row
  std::string problem;  // empty, or why the layer does not fit its inputs; then the rest means nothing
  Part part = Part::kKind;
};

// `shapes` holds what this function gave for every earlier layer.
LayerShape layer_shape(const Net& net, size_t layer, const std::vector<Shape>& shapes);

// "conv", "maxpool", ...: the word for a layer in net files.
const char* layer_kind(const LayerSpec& spec);

// A layer as it stands in a net file, without name and inputs: "conv 64 3x3 pad 1".
std::string layer_text(const LayerSpec& spec);

// A row of `shape` in words: "32x32x3", or "256 features".
std::string row_text(const Shape& shape);

}  // namespace convoy
