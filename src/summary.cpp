#include "summary.h"

#include <ostream>

#include "bytes_text.h"
#include "net_shape.h"
#include "text_table.h"

namespace convoy {
namespace {

// Compute and parameters of a group of layers.
struct Cost {
  int64_t macs = 0, parameters = 0;
  void add(const Cost& other) {
    macs += other.macs;
    parameters += other.parameters;
  }
};

// "4.1" of a whole, "-" for nothing at all.
std::string percent(int64_t part, int64_t whole) {
  return part == 0 ? "-" : decimals(100.0 * static_cast<double>(part) / static_cast<double>(whole), 1);
}
std::string number(int64_t value) {
  return value == 0 ? "-" : text(value);
}
std::string mflop(int64_t macs) {
  return macs == 0 ? "-" : decimals(2e-6 * static_cast<double>(macs), 3);
}

// The layer's line in a net file, without its name.
std::string definition(const Net& net, size_t i) {
  const Layer& layer = net.layers[i];
  std::string out = layer_text(layer.spec);
  const bool add = std::holds_alternative<Add>(layer.spec);
  if (!add && (layer.inputs.empty() || layer.inputs[0] + 1 == static_cast<int>(i))) return out;
  if (!add) out += " from";
  for (const int input : layer.inputs) out += " " + net.layers[static_cast<size_t>(input)].name;
  return out;
}

std::vector<Cost> layer_costs(const Net& net) {
  std::vector<Cost> costs;
  for (const int64_t macs : forward_macs(net)) costs.push_back({macs, 0});
  for (const ParameterSpec& spec : parameters(net))
    if (!spec.buffer()) costs[static_cast<size_t>(spec.layer)].parameters += spec.shape.count();
  return costs;
}

// "conv layers: 95.7 % of the compute, 4.0 % of the parameters; ..." (A. Krizhevsky, arXiv 1404.5997, section
// 2).
void print_shares(std::ostream& out, const Net& net, const std::vector<Cost>& costs, const Cost& total) {
  Cost conv, fc, other;
  for (size_t i = 0; i < costs.size(); ++i) {
    const LayerSpec& spec = net.layers[i].spec;
    (std::holds_alternative<Conv>(spec) ? conv : std::holds_alternative<Fc>(spec) ? fc : other).add(costs[i]);
  }
  const auto share = [](int64_t part, int64_t whole) { return part == 0 ? "0" : percent(part, whole); };
  const auto group = [&](const char* name, const Cost& cost) {
    out << name << " layers: " << share(cost.macs, total.macs) << " % of the compute, "
        << share(cost.parameters, total.parameters) << " % of the parameters";
  };
  group("conv", conv);
  out << "; ";
  group("fc", fc);
  if (other.parameters > 0)
    out << "; batch norm: " << share(other.parameters, total.parameters) << " % of the parameters";
  out << "\n(Krizhevsky's rule of 2014: conv layers have 90-95 % of the compute and about 5 % of the "
         "parameters,\n"
         "fc layers 5-10 % of the compute and about 95 % of the parameters.)\n";
}

void print_memory(std::ostream& out, const MemoryReport& memory, const SummaryOptions& options) {
  const char* optimizer = options.optimizer.kind == OptimizerKind::kAdamw ? "AdamW's m and v"
                          : options.optimizer.momentum != 0               ? "SGD's momentum"
                                                                          : "SGD without momentum";
  std::vector<TableRow> rows;
  const auto row = [&](const char* what, int64_t bytes, const char* comment) {
    if (bytes != 0) rows.push_back({std::string("  ") + what, comment, bytes_text(bytes)});
  };
  row("parameters", memory.parameters, "");
  row("gradients", memory.gradients, "");
  row("optimizer state", memory.optimizer, optimizer);
  row("buffers", memory.buffers, "batch norm's running statistics");
  row("activations", memory.activations,
      options.memory ? "outputs and gradients that a step keeps" : "every layer's output once");
  row("scratch", memory.scratch, "packed filters, partial sums");
  row("input", memory.input, "the batch as bytes, and its labels");
  row("total", memory.total(), "");
  out << "memory of a training step with batch size " << options.batch
      << (options.memory ? "" : " (estimate)") << ":\n";
  print_table(out, rows, 2);
}

MemoryReport counted_memory(const Net& net, const Cost& total, int64_t outputs,
                            const SummaryOptions& options) {
  MemoryReport memory;
  memory.parameters = memory.gradients = 4 * total.parameters;
  const int states = options.optimizer.kind == OptimizerKind::kAdamw ? 2
                     : options.optimizer.momentum != 0               ? 1
                                                                     : 0;
  memory.optimizer = states * memory.parameters;
  for (const ParameterSpec& spec : parameters(net))
    if (spec.buffer()) memory.buffers += 4 * spec.shape.count();
  memory.activations = 4 * outputs * options.batch;
  const Input& image = net.input();
  memory.input = (image.h * image.w * image.c + 4) * options.batch;
  return memory;
}

}  // namespace

void print_summary(std::ostream& out, const Net& net, const SummaryOptions& options) {
  make_plan(net, options.batch);  // refuses a batch whose bytes cannot be counted
  const std::vector<Shape> shapes = output_shapes(net, 1);
  const std::vector<Cost> costs = layer_costs(net);
  Cost total;
  for (const Cost& cost : costs) total.add(cost);
  int64_t outputs = 0;
  std::vector<TableRow> rows = {
      {"layer", "kind", "output", "parameters", "MFLOP", "activation", "compute", "parameters"},
      {"", "", "", "", "forward", "bytes", "%", "%"}};
  for (size_t i = 0; i < net.layers.size(); ++i) {
    const int64_t count = shapes[i].count();
    outputs += count;
    rows.push_back({net.layers[i].name, definition(net, i), row_text(shapes[i]), number(costs[i].parameters),
                    mflop(costs[i].macs), text(4 * count), percent(costs[i].macs, total.macs),
                    percent(costs[i].parameters, total.parameters)});
  }
  rows.push_back(
      {"total", "", "", number(total.parameters), mflop(total.macs), text(4 * outputs), "100.0", "100.0"});
  const int64_t classes = shapes.back()[1];
  out << net.name << ": " << row_text(shapes.front()) << " images, " << classes
      << (classes == 1 ? " class" : " classes") << "; per image:\n";
  print_table(out, rows, 2);
  out << "\n";
  print_shares(out, net, costs, total);
  out << "\n";
  print_memory(out, options.memory ? *options.memory : counted_memory(net, total, outputs, options), options);
}

}  // namespace convoy
