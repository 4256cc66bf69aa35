#include <sstream>
#include <type_traits>

#include "net_shape.h"
#include "net_text.h"

namespace convoy {
namespace {

std::string pair_text(int64_t a, int64_t b) {
  return a == b ? text(a) : text(a, "x", b);
}

// What follows a window: stride and pad where they are not the default.
template <class Spec>
std::string window_text(const Spec& spec) {
  const bool conv = std::is_same_v<Spec, Conv>;
  std::string out = text(spec.r, "x", spec.s);
  if (spec.stride_h != (conv ? 1 : spec.r) || spec.stride_w != (conv ? 1 : spec.s))
    out += " stride " + pair_text(spec.stride_h, spec.stride_w);
  if (spec.pad_h != 0 || spec.pad_w != 0) out += " pad " + pair_text(spec.pad_h, spec.pad_w);
  return out;
}

std::string arguments(const LayerSpec& layer) {
  return std::visit(
      [](const auto& spec) -> std::string {
        using Spec = std::decay_t<decltype(spec)>;
        if constexpr (std::is_same_v<Spec, Input>) {
          return text(" ", spec.h, "x", spec.w, "x", spec.c);
        } else if constexpr (std::is_same_v<Spec, Conv>) {
          return text(" ", spec.filters, " ", window_text(spec), spec.bias ? "" : " nobias");
        } else if constexpr (std::is_same_v<Spec, Fc>) {
          return text(" ", spec.outputs, spec.bias ? "" : " nobias");
        } else if constexpr (std::is_same_v<Spec, MaxPool>) {
          return " " + window_text(spec);
        } else if constexpr (std::is_same_v<Spec, AveragePool>) {
          return spec.global ? " global" : " " + window_text(spec);
        } else if constexpr (std::is_same_v<Spec, Dropout>) {
          return " " + decimal_text(spec.p);
        } else if constexpr (std::is_same_v<Spec, BatchNorm>) {
          const BatchNorm usual;
          std::string out;
          if (spec.eps != usual.eps) out += " eps " + decimal_text(spec.eps);
          if (spec.momentum != usual.momentum) out += " momentum " + decimal_text(spec.momentum);
          return out;
        } else if constexpr (std::is_same_v<Spec, Lrn>) {
          return text(" ", spec.window, " alpha ", decimal_text(spec.alpha), " beta ",
                      decimal_text(spec.beta), " k ", decimal_text(spec.k));
        } else {
          return "";
        }
      },
      layer);
}

}  // namespace

std::string layer_text(const LayerSpec& spec) {
  return layer_kind(spec) + arguments(spec);
}

std::string net_text(const Net& net) {
  std::string out;
  for (size_t i = 0; i < net.layers.size(); ++i) {
    const Layer& layer = net.layers[i];
    out += layer.name + ": " + layer_text(layer.spec);
    const auto input_name = [&](size_t k) { return net.layers[static_cast<size_t>(layer.inputs[k])].name; };
    if (std::holds_alternative<Add>(layer.spec)) {
      out += " " + input_name(0) + " " + input_name(1);
    } else if (!layer.inputs.empty() && layer.inputs[0] + 1 != static_cast<int>(i)) {
      out += " from " + input_name(0);
    }
    if (layer.split_outputs) out += " split outputs";
    out += "\n";
  }
  return out;
}

}  // namespace convoy
