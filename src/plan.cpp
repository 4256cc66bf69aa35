#include "convoy/plan.h"

#include <algorithm>

namespace convoy {
namespace {

bool has_weights(const Layer& layer) {
  return std::holds_alternative<Conv>(layer.spec) || std::holds_alternative<Fc>(layer.spec);
}

// The first split layer; layers.size() when none is.
int cut_of(const Net& net, const PlanOptions& options) {
  const int layers = static_cast<int>(net.layers.size());
  if (options.parallel == Parallel::kData) return layers;
  const auto first = [&](auto wanted) {
    const auto found = std::find_if(net.layers.begin(), net.layers.end(), wanted);
    return static_cast<int>(found - net.layers.begin());
  };
  if (options.parallel == Parallel::kModel) return first(has_weights);
  const int marked = first([](const Layer& layer) { return layer.split_outputs; });
  if (marked < layers) return marked;
  const int fc = first([](const Layer& layer) { return std::holds_alternative<Fc>(layer.spec); });
  if (fc == layers)
    input_error(net.name,
                ": --parallel hybrid splits from the first fully connected layer on, and this net has "
                "none; use --parallel data, or mark a layer with `split outputs`");
  return fc;
}

// The one layer before the cut that layers after it read.
int features_of(const Net& net, int cut) {
  int features = -1;
  for (size_t i = static_cast<size_t>(cut); i < net.layers.size(); ++i)
    for (const int from : net.layers[i].inputs) {
      if (from >= cut || from == features) continue;
      if (features >= 0)
        input_error(net.name, ": the split from ", net.layers[static_cast<size_t>(cut)].name,
                    " on would cut two connections (from ", net.layers[static_cast<size_t>(features)].name,
                    " and from ", net.layers[static_cast<size_t>(from)].name,
                    "); put `split outputs` where a single layer's output is handed on");
      features = from;
    }
  return features;
}

}  // namespace

std::vector<Pass> Plan::passes(int64_t global_rows) const {
  if (features < 0) return {};
  return exchange_passes(options.scheme, options.world, global_rows, pass_rows);
}

Plan make_plan(const Net& net, int64_t batch, const PlanOptions& options) {
  CONVOY_CHECK(batch >= 1 && options.world >= 1 && options.rank >= 0 && options.rank < options.world,
               "batch ", batch, ", rank ", options.rank, " of ", options.world);
  // An example's elements fit (parse_net checked them); rows times them times 4 bytes, for every layer, must
  // as well.
  int64_t elements = 0;
  for (const Shape& shape : output_shapes(net, 1))
    elements = checked_sum(elements, shape.count(), "the net's activations");
  checked_product(checked_product(elements, batch, "batch size x activations"), 16,
                  "the bytes of a batch's activations");

  Plan plan;
  plan.batch = batch;
  plan.rows = (batch + options.world - 1) / options.world;
  plan.options = options;
  plan.cut = cut_of(net, options);
  if (plan.cut == static_cast<int>(net.layers.size())) {
    if (options.update_each_pass || options.fc_batch_size > 0)
      input_error("--fc-batch-size and --fc-update pass need a split half: use --parallel hybrid");
    return plan;
  }
  if (options.average) input_error("--sync average averages whole nets: use --parallel data");
  plan.features = features_of(net, plan.cut);
  const bool at_once = options.scheme == Scheme::kA;
  if (at_once && (options.update_each_pass || (options.fc_batch_size > 0 && options.fc_batch_size != batch)))
    input_error(
        "--scheme a has one pass with every row: --fc-batch-size and --fc-update pass go with b or c");
  plan.pass_rows = at_once                     ? batch
                   : options.fc_batch_size > 0 ? std::min(options.fc_batch_size, batch)
                                               : (batch + options.world - 1) / options.world;
  for (size_t i = static_cast<size_t>(plan.cut); i < net.layers.size(); ++i)
    if (std::holds_alternative<BatchNorm>(net.layers[i].spec) && plan.pass_rows < batch)
      input_error(net.name, ": ", net.layers[i].name,
                  " is batch norm in the split half, which needs the whole "
                  "batch in one pass; use --scheme a");
  return plan;
}

}  // namespace convoy
