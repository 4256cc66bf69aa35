#include "convoy/net.h"

#include "net_shape.h"

namespace convoy {
namespace {

std::vector<LayerShape> layer_shapes(const Net& net) {
  std::vector<LayerShape> results;
  std::vector<Shape> shapes;
  for (size_t i = 0; i < net.layers.size(); ++i) {
    results.push_back(layer_shape(net, i, shapes));
    const LayerShape& result = results.back();
    CONVOY_CHECK(result.problem.empty(), "layer '", net.layers[i].name, "': ", result.problem);
    shapes.push_back(result.shape);
  }
  return results;
}

}  // namespace

std::optional<int> split_layer(const Net& net) {
  for (size_t i = 0; i < net.layers.size(); ++i)
    if (net.layers[i].split_outputs) return static_cast<int>(i);
  return std::nullopt;
}

bool same_layers(const Net& a, const Net& b) {
  const auto unmarked_text = [](Net net) {
    for (Layer& layer : net.layers) layer.split_outputs = false;
    return net_text(net);
  };
  return unmarked_text(a) == unmarked_text(b);
}

std::vector<Shape> output_shapes(const Net& net, int64_t rows) {
  std::vector<Shape> shapes;
  for (const LayerShape& result : layer_shapes(net)) shapes.push_back(result.shape.with_rows(rows));
  return shapes;
}

std::vector<int64_t> forward_macs(const Net& net) {
  std::vector<int64_t> macs;
  for (const LayerShape& result : layer_shapes(net)) macs.push_back(result.macs);
  return macs;
}

std::vector<ParameterSpec> parameters(const Net& net) {
  using Role = ParameterSpec::Role;
  const std::vector<Shape> shapes = output_shapes(net, 1);
  std::vector<ParameterSpec> specs;
  for (size_t i = 0; i < net.layers.size(); ++i) {
    const Layer& layer = net.layers[i];
    const auto push = [&](const char* suffix, const Shape& shape, Role role, int64_t fan_in) {
      specs.push_back({layer.name + suffix, shape, static_cast<int>(i), role, fan_in});
    };
    const auto input_shape = [&] { return shapes[static_cast<size_t>(layer.inputs[0])]; };
    if (const auto* conv = std::get_if<Conv>(&layer.spec)) {
      const int64_t channels = input_shape()[3];
      const int64_t fan_in = conv->r * conv->s * channels;
      push(".weight", {conv->filters, conv->r, conv->s, channels}, Role::kWeight, fan_in);
      if (conv->bias) push(".bias", {conv->filters}, Role::kBias, fan_in);
    } else if (const auto* fc = std::get_if<Fc>(&layer.spec)) {
      const int64_t fan_in = input_shape().row();
      push(".weight", {fc->outputs, fan_in}, Role::kWeight, fan_in);
      if (fc->bias) push(".bias", {fc->outputs}, Role::kBias, fan_in);
    } else if (std::holds_alternative<BatchNorm>(layer.spec)) {
      const Shape x = input_shape();
      const Shape channels{x[x.rank - 1]};
      push(".weight", channels, Role::kGamma, 0);
      push(".bias", channels, Role::kBeta, 0);
      push(".running_mean", channels, Role::kRunningMean, 0);
      push(".running_var", channels, Role::kRunningVar, 0);
    }
  }
  return specs;
}

int64_t parameter_count(const Net& net) {
  int64_t count = 0;
  for (const ParameterSpec& spec : parameters(net))
    if (!spec.buffer()) count += spec.shape.count();
  return count;
}

}  // namespace convoy
