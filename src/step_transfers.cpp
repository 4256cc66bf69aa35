#include "step_transfers.h"

#include <set>

namespace convoy {
namespace {

bool reads_all_columns(const LayerSpec& spec) {
  return std::holds_alternative<Conv>(spec) || std::holds_alternative<Fc>(spec) ||
         std::holds_alternative<Lrn>(spec);
}

}  // namespace

StepTransfers::StepTransfers(const Net& net, const Plan& plan, Loss loss, DType precision)
    : net_(net), plan_(plan), precision_(precision), shapes_(output_shapes(net, 1)) {
  for (const ParameterSpec& spec : parameters(net)) scatters_ = scatters_ || spec.layer < plan.cut;
  std::set<int> whole;
  for (size_t i = static_cast<size_t>(plan.cut); i < net.layers.size(); ++i) {
    if (!reads_all_columns(net.layers[i].spec)) continue;
    for (const int from : net.layers[i].inputs)
      if (plan.split(from) && whole.insert(from).second) gathered_for_[static_cast<int>(i)].push_back(from);
  }
  gathers_logits_ = plan.features >= 0 && loss == Loss::kSoftmax;
}

// As Lowering makes its buffers.
int64_t StepTransfers::element_bytes(int layer) const {
  const auto last = static_cast<int>(net_.layers.size()) - 1;
  const bool logits =
      layer == last && std::holds_alternative<Fc>(net_.layers[static_cast<size_t>(last)].spec);
  return logits ? 4 : dtype_bytes(precision_);
}

Payload StepTransfers::gather_rows(const Pass& pass) const {
  const int64_t row_bytes =
      shapes_[static_cast<size_t>(plan_.features)].count() * element_bytes(plan_.features);
  return [&pass, row_bytes](int from, int) { return pass.rows[static_cast<size_t>(from)] * row_bytes; };
}

Payload StepTransfers::scatter_rows(const Pass& pass) const {
  const int64_t row_bytes = shapes_[static_cast<size_t>(plan_.features)].count() * 4;
  return [&pass, row_bytes](int, int to) { return pass.rows[static_cast<size_t>(to)] * row_bytes; };
}

Payload StepTransfers::columns(int layer, int64_t rows, int64_t element_bytes) const {
  const Shape& shape = shapes_[static_cast<size_t>(layer)];
  const int64_t channels = shape[shape.rank - 1], pixels = shape.count() / channels,
                world = plan_.options.world;
  return [=](int from, int) {
    return rows * pixels * part_of(channels, from, static_cast<int>(world)).count * element_bytes;
  };
}

Payload StepTransfers::gather_columns(int layer, int64_t rows) const {
  return columns(layer, rows, element_bytes(layer));
}

Payload StepTransfers::scatter_columns(int layer, int64_t rows) const {
  const Payload there = columns(layer, rows, 4);
  return [there](int from, int to) { return there(to, from); };
}

Payload StepTransfers::sum_parts(int64_t elements) const {
  return
      [elements, world = plan_.options.world](int, int to) { return part_of(elements, to, world).count * 4; };
}

Payload StepTransfers::sum_whole(int64_t elements) const {
  return [elements, world = plan_.options.world](int from, int) {
    return part_of(elements, from, world).count * 4;
  };
}

// As Lowering::make_buckets cuts them.
std::vector<StepTransfers::Bucket> StepTransfers::buckets() const {
  constexpr int64_t kBucketBytes = 1 << 20;
  constexpr int64_t kTensorElements = 16;  // tensors begin on 64 bytes; what lies between them travels too
  std::vector<Bucket> buckets;
  int64_t open = 0;
  int last = 0;
  const std::vector<ParameterSpec> specs = parameters(net_);
  for (auto spec = specs.rbegin(); spec != specs.rend(); ++spec) {
    if (spec->buffer() || spec->layer >= plan_.cut) continue;
    open += (spec->shape.count() + kTensorElements - 1) / kTensorElements * kTensorElements;
    last = spec->layer;
    if (open * 4 < kBucketBytes) continue;
    buckets.push_back({last, open});
    open = 0;
  }
  if (open > 0) buckets.push_back({last, open});
  return buckets;
}

}  // namespace convoy
