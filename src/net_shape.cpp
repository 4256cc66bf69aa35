#include "net_shape.h"

#include <type_traits>

namespace convoy {
namespace {

struct Window {
  int64_t r, s, stride_h, stride_w, pad_h, pad_w;
};
template <class Spec>
Window window_of(const Spec& spec) {
  return {spec.r, spec.s, spec.stride_h, spec.stride_w, spec.pad_h, spec.pad_w};
}

LayerShape problem(Part part, const std::string& what) {
  LayerShape result;
  result.part = part;
  result.problem = what;
  return result;
}

// a * b, or kMaxMacs + 1 when that is more than any limit.
int64_t capped_product(int64_t a, int64_t b) {
  return b != 0 && a > kMaxMacs / b ? kMaxMacs + 1 : a * b;
}

// [1,P,Q,channels]; the checks are those that the kernels' contracts ask for.
LayerShape slide(const Window& w, const Shape& x, int64_t channels) {
  if (w.r < 1 || w.s < 1) return problem(Part::kWindow, "the window is empty");
  if (w.stride_h < 1 || w.stride_w < 1) return problem(Part::kStride, "stride must be at least 1");
  if (w.pad_h >= w.r || w.pad_w >= w.s)
    return problem(Part::kPad,
                   text("pad ", w.pad_h, "x", w.pad_w, " must be smaller than the window ", w.r, "x", w.s));
  const int64_t h = x[1] + 2 * w.pad_h;
  const int64_t v = x[2] + 2 * w.pad_w;
  if (w.r > h || w.s > v) {
    const std::string padded = h != x[1] || v != x[2] ? text(" (", h, "x", v, " with pad)") : "";
    return problem(Part::kWindow,
                   text("window ", w.r, "x", w.s, " is larger than the image ", x[1], "x", x[2], padded));
  }
  LayerShape result;
  result.shape = {1, (h - w.r) / w.stride_h + 1, (v - w.s) / w.stride_w + 1, channels};
  return result;
}

LayerShape add_shape(const Net& net, const Layer& layer, const std::vector<Shape>& shapes) {
  const auto a = static_cast<size_t>(layer.inputs[0]);
  const auto b = static_cast<size_t>(layer.inputs[1]);
  if (a == b) return problem(Part::kSecond, text("add of '", net.layers[a].name, "' to itself"));
  if (shapes[a] != shapes[b])
    return problem(Part::kSecond,
                   text("add of unequal shapes: '", net.layers[a].name, "' is ", row_text(shapes[a]), ", '",
                        net.layers[b].name, "' is ", row_text(shapes[b])));
  LayerShape result;
  result.shape = shapes[a];
  return result;
}

LayerShape infer(const Net& net, const Layer& layer, const std::vector<Shape>& shapes) {
  if (const auto* input = std::get_if<Input>(&layer.spec)) {
    LayerShape result;
    result.shape = {1, input->h, input->w, input->c};
    return result;
  }
  if (std::holds_alternative<Add>(layer.spec)) return add_shape(net, layer, shapes);
  const auto from = static_cast<size_t>(layer.inputs[0]);
  const Shape& x = shapes[from];
  return std::visit(
      [&](const auto& spec) {
        using Spec = std::decay_t<decltype(spec)>;
        constexpr bool conv = std::is_same_v<Spec, Conv>, max = std::is_same_v<Spec, MaxPool>;
        constexpr bool average = std::is_same_v<Spec, AveragePool>, lrn = std::is_same_v<Spec, Lrn>;
        LayerShape result;
        result.shape = x;
        if constexpr (conv || max || average || lrn) {
          if (x.rank != 4)
            return problem(Part::kFirst,
                           text(layer_kind(layer.spec), " needs an image, but '", net.layers[from].name,
                                "' gives ", row_text(x), "; it belongs before the first fc"));
        }
        if constexpr (conv) {
          result = slide(window_of(spec), x, spec.filters);
          if (!result.problem.empty()) return result;
          result.weights = capped_product(capped_product(spec.filters, x[3]), capped_product(spec.r, spec.s));
          result.macs = capped_product(result.weights, capped_product(result.shape[1], result.shape[2]));
        } else if constexpr (max) {
          if (capped_product(spec.r, spec.s) > 256)
            return problem(Part::kWindow, text("max pool windows have at most 256 places, ", spec.r, "x",
                                               spec.s, " has ", spec.r * spec.s));
          result = slide(window_of(spec), x, x[3]);
        } else if constexpr (average) {
          result = spec.global ? slide({x[1], x[2], 1, 1, 0, 0}, x, x[3]) : slide(window_of(spec), x, x[3]);
        } else if constexpr (std::is_same_v<Spec, Fc>) {
          result.shape = {1, spec.outputs};
          result.weights = result.macs = capped_product(spec.outputs, x.count());
        }
        return result;
      },
      layer.spec);
}

}  // namespace

LayerShape layer_shape(const Net& net, size_t layer, const std::vector<Shape>& shapes) {
  LayerShape result = infer(net, net.layers[layer], shapes);
  if (!result.problem.empty()) return result;
  const Shape& s = result.shape;
  if (capped_product(capped_product(s[1], s[2]), s[3]) > kMaxElements)
    return problem(Part::kKind,
                   text("an output of ", row_text(s), " has more than ", kMaxElements, " elements"));
  if (result.weights > kMaxElements)
    return problem(Part::kCount, text("the layer has more than ", kMaxElements, " weights"));
  if (result.macs > kMaxMacs)
    return problem(Part::kCount,
                   text("the layer needs more than ", kMaxMacs, " multiplications for one image"));
  return result;
}

const char* layer_kind(const LayerSpec& spec) {
  static constexpr const char* kWords[] = {"input",   "conv", "fc",      "maxpool", "avgpool", "relu",
                                           "sigmoid", "tanh", "dropout", "bn",      "add",     "lrn"};
  static_assert(std::size(kWords) == std::variant_size_v<LayerSpec>);
  return kWords[spec.index()];
}

std::string row_text(const Shape& shape) {
  if (shape.rank == 2) return text(shape[1], shape[1] == 1 ? " feature" : " features");
  return text(shape[1], "x", shape[2], "x", shape[3]);
}

}  // namespace convoy
