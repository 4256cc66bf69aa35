#include "net_shape.h"

namespace convoy {
namespace {

bool same(const Input& a, const Input& b) {
  return a.h == b.h && a.w == b.w && a.c == b.c;
}
bool small(const Input& image) {
  return image.h <= 64 && image.w <= 64;
}

void remove_layer(Net& net, size_t gone) {
  const int successor = net.layers[gone].inputs[0];
  net.layers.erase(net.layers.begin() + static_cast<std::ptrdiff_t>(gone));
  for (Layer& layer : net.layers)
    for (int& input : layer.inputs) {
      if (input == static_cast<int>(gone)) {
        input = successor;
      } else if (input > static_cast<int>(gone)) {
        --input;
      }
    }
}

// He et al. 2015, section 4.2: on 32x32 images the first layer is a 3x3 convolution and nothing shrinks
// before the blocks.
void use_cifar_stem(Net& net) {
  auto* conv = std::get_if<Conv>(&net.layers[1].spec);
  size_t pool = 2;
  while (pool < net.layers.size() && !std::holds_alternative<MaxPool>(net.layers[pool].spec)) ++pool;
  if (conv == nullptr || conv->r != 7 || conv->stride_h != 2 || pool == net.layers.size()) return;
  conv->r = conv->s = 3;
  conv->stride_h = conv->stride_w = conv->pad_h = conv->pad_w = 1;
  remove_layer(net, pool);
}

std::string data_text(const Input& image, int64_t classes) {
  return text(image.h, "x", image.w, "x", image.c, " images and ", classes,
              classes == 1 ? " class" : " classes");
}

}  // namespace

Net adapt_net(const Net& net, const Input& input, int64_t classes) {
  const int64_t outputs = std::get<Fc>(net.layers.back().spec).outputs;
  if (same(net.input(), input) && outputs == classes) return net;
  for (const int64_t extent : {input.h, input.w, input.c, classes})
    if (extent < 1 || extent > kMaxExtent)
      input_error("the data has ", data_text(input, classes), ": each number must be from 1 to ", kMaxExtent);

  Net adapted = net;
  if (net.name == "resnet18" && small(input) && !small(net.input())) use_cifar_stem(adapted);
  std::get<Input>(adapted.layers.front().spec) = input;
  std::get<Fc>(adapted.layers.back().spec).outputs = classes;
  std::vector<Shape> shapes;
  for (size_t i = 0; i < adapted.layers.size(); ++i) {
    const LayerShape result = layer_shape(adapted, i, shapes);
    if (!result.problem.empty())
      input_error("net '", net.name, "' is made for ", data_text(net.input(), outputs), " and cannot take ",
                  data_text(input, classes), ": layer '", adapted.layers[i].name, "' (",
                  layer_text(adapted.layers[i].spec), "): ", result.problem,
                  "; choose another net or image size");
    shapes.push_back(result.shape);
  }
  // Read again from its text: what a checkpoint carries is what runs.
  adapted = parse_net(net_text(adapted), net.name);
  adapted.name = net.name;
  return adapted;
}

}  // namespace convoy
