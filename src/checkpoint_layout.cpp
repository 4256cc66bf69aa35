#include <algorithm>
#include <variant>

#include "convoy/checkpoint.h"

namespace convoy {
namespace {

// Walks the file's order; visit(offset of the element here, its place in the part).
template <class Visit>
void walk(const FileLayout& layout, int64_t first, int64_t count, const Visit& visit) {
  const int64_t row = layout.row();
  int64_t start = first / row * row;
  int64_t channel = first % row / layout.positions;
  int64_t position = first % layout.positions;
  for (int64_t i = 0; i < count; ++i) {
    visit(start + position * layout.channels + channel, i);
    if (++position < layout.positions) continue;
    position = 0;
    if (++channel < layout.channels) continue;
    channel = 0;
    start += row;
  }
}

bool same_order(const FileLayout& layout) {
  return layout.positions <= 1 || layout.channels <= 1;
}

}  // namespace

std::vector<FileLayout> file_layouts(const Net& net) {
  const std::vector<Shape> outputs = output_shapes(net, 1);
  std::vector<FileLayout> layouts;
  for (const ParameterSpec& spec : parameters(net)) {
    FileLayout layout;
    layout.name = spec.name;
    for (int i = 0; i < spec.shape.rank; ++i) layout.shape.push_back(spec.shape[i]);
    const Layer& layer = net.layers[static_cast<size_t>(spec.layer)];
    if (spec.role == ParameterSpec::kWeight && std::holds_alternative<Conv>(layer.spec)) {
      layout.positions = spec.shape[1] * spec.shape[2];
      layout.channels = spec.shape[3];
      layout.shape = {spec.shape[0], spec.shape[3], spec.shape[1], spec.shape[2]};
    } else if (spec.role == ParameterSpec::kWeight && std::holds_alternative<Fc>(layer.spec)) {
      const Shape& x = outputs[static_cast<size_t>(layer.inputs.front())];
      layout.positions = x.rank == 4 ? x[1] * x[2] : 1;
      layout.channels = x.rank == 4 ? x[3] : x[1];
    }
    layouts.push_back(layout);
  }
  return layouts;
}

void to_file_order(const FileLayout& layout, const float* values, int64_t first, int64_t count, float* part) {
  if (same_order(layout)) {
    std::copy_n(values + first, count, part);
  } else {
    walk(layout, first, count, [=](int64_t here, int64_t i) { part[i] = values[here]; });
  }
}

void from_file_order(const FileLayout& layout, const float* part, int64_t first, int64_t count,
                     float* values) {
  if (same_order(layout)) {
    std::copy_n(part, count, values + first);
  } else {
    walk(layout, first, count, [=](int64_t here, int64_t i) { values[here] = part[i]; });
  }
}

}  // namespace convoy
