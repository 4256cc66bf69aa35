#include "plan_text.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <ostream>

#include "bytes_text.h"
#include "net_shape.h"
#include "text_table.h"

namespace convoy {
namespace {

constexpr Traffic kKinds[] = {Traffic::kRows, Traffic::kColumns, Traffic::kGradients};

// "5", or "4 to 5": of all workers.
template <class F>
std::string range(int world, const F& of) {
  int64_t least = of(0), most = least;
  for (int r = 1; r < world; ++r) {
    least = std::min<int64_t>(least, of(r));
    most = std::max<int64_t>(most, of(r));
  }
  return least == most ? text(most) : text(least, " to ", most);
}

std::string milliseconds(double seconds) {
  return decimals(1e3 * seconds, 3);
}

void print_layers(std::ostream& out, const PlanReport& report) {
  const int world = report.plan.options.world;
  const std::vector<Shape> shapes = output_shapes(report.net, 1);
  std::vector<TableRow> rows = {{"layer", "half", "output", "parameters", "of a worker"}};
  int64_t total = 0;
  std::vector<int64_t> own(static_cast<size_t>(world));
  for (int i = 1; i < static_cast<int>(report.net.layers.size()); ++i) {
    const int64_t whole = layer_parameters(report.net, i);
    total += whole;
    const auto of = [&](int rank) { return own_parameters(report.net, report.plan, i, rank); };
    for (int r = 0; r < world; ++r) own[static_cast<size_t>(r)] += of(r);
    rows.push_back({report.net.layers[static_cast<size_t>(i)].name, report.plan.split(i) ? "split" : "data",
                    row_text(shapes[static_cast<size_t>(i)]), whole == 0 ? "-" : text(whole),
                    whole == 0 ? "-" : range(world, of)});
  }
  rows.push_back(
      {"total", "", "", text(total), range(world, [&](int r) { return own[static_cast<size_t>(r)]; })});
  print_table(out, rows, 2);
}

void print_passes(std::ostream& out, const Plan& plan) {
  const std::vector<Pass> passes = plan.passes(plan.batch);
  if (passes.empty()) return;
  out << "\nscheme " << scheme_name(plan.options.scheme) << ", " << passes.size()
      << (passes.size() == 1 ? " pass" : " passes") << ", split half updated once a "
      << (plan.options.update_each_pass ? "pass" : "step") << ":\n";
  constexpr int kWorkers = 16;  // that fit on a line
  TableRow head = {"pass", "rows"};
  const int shown = std::min(plan.options.world, kWorkers);
  for (int r = 0; r < shown; ++r) head.push_back(text(r == 0 ? "of worker " : "", r));
  std::vector<TableRow> rows = {head};
  for (size_t p = 0; p < passes.size(); ++p) {
    TableRow row = {text(p), text(passes[p].total)};
    for (int r = 0; r < shown; ++r) row.push_back(text(passes[p].rows[static_cast<size_t>(r)]));
    rows.push_back(row);
  }
  print_table(out, rows, 0);
  if (shown < plan.options.world) out << "(and " << plan.options.world - shown << " more workers)\n";
}

void print_bytes(std::ostream& out, const PlanReport& report) {
  const int world = report.plan.options.world;
  std::vector<TableRow> rows = {{"a step and worker", report.precision == DType::kF32
                                                          ? "bytes"
                                                          : text("bytes, ", dtype_name(report.precision))}};
  int64_t largest = 0;
  const auto bytes = [&](Traffic kind, int rank) {
    return step_bytes(report.net, report.plan, Loss::kSoftmax, rank,
                      report.precision)[static_cast<size_t>(kind)];
  };
  for (const Traffic kind : kKinds) {
    rows.push_back({traffic_name(kind), range(world, [&](int rank) { return bytes(kind, rank); })});
    largest += bytes(kind, 0);
  }
  rows.push_back(
      {"buffers for rows that travel", text(exchange_bytes(report.net, report.plan, report.precision))});
  out << "\n";
  print_table(out, rows, 1);
  out << "(worker 0 exchanges " << bytes_text(largest) << ")\n";
}

std::string links_text(const LinkFigures& links) {
  if (std::isinf(links.bytes_per_second) && links.message_seconds == 0) return "links of unlimited speed";
  std::string out = text("links of ", links.bytes_per_second * 1e-9, " GB/s either way");
  if (links.root_workers > 0)
    out += text(" among ", links.root_workers, " workers on a root, ", links.across_roots, " of it across");
  return out + text(", ", links.message_seconds * 1e6, " us a message");
}

double images_per_second(const PlanReport& report) {
  return static_cast<double>(report.plan.batch) / report.model.seconds;
}

}  // namespace

const char* parallel_name(Parallel parallel) {
  switch (parallel) {
    case Parallel::kData:
      return "data";
    case Parallel::kHybrid:
      return "hybrid";
    case Parallel::kModel:
      break;
  }
  return "model";
}

PlanReport make_plan_report(const Net& net, const Plan& plan, const LayerTimes& times,
                            const LinkFigures& links, const std::string& speed, DType precision) {
  PlanReport report{net,   plan,     model_step(net, plan, Loss::kSoftmax, times, links, precision), 0, links,
                    speed, precision};
  const StepModel one = model_step(net, make_plan(net, plan.rows), Loss::kSoftmax, times, {});
  report.one_worker_images_per_second = static_cast<double>(plan.rows) / one.seconds;
  return report;
}

void print_plan(std::ostream& out, const PlanReport& report) {
  const Plan& plan = report.plan;
  const int world = plan.options.world;
  out << report.net.name << " (" << row_text(output_shapes(report.net, 1).front()) << "), --parallel "
      << parallel_name(plan.options.parallel) << ", " << world << (world == 1 ? " worker" : " workers")
      << ", global batch " << plan.batch << ", "
      << range(world, [&](int r) { return part_of(plan.batch, r, world).count; }) << " images a worker\n\n";
  print_layers(out, report);
  print_passes(out, plan);
  print_bytes(out, report);
  const StepModel& model = report.model;
  std::vector<TableRow> rows = {{"modelled step", "ms"}, {"compute", milliseconds(model.compute_seconds())}};
  for (const Traffic kind : kKinds)
    rows.push_back(
        {text("waiting for ", traffic_name(kind)), milliseconds(model.exposed[static_cast<size_t>(kind)])});
  rows.push_back({"all", milliseconds(model.seconds)});
  out << "\n";
  print_table(out, rows, 1);
  out << decimals(images_per_second(report), 1) << " images/s, "
      << decimals(images_per_second(report) / report.one_worker_images_per_second, 2)
      << " times one worker's " << decimals(report.one_worker_images_per_second, 1) << " with batch "
      << plan.rows << "\n"
      << "layers: " << report.speed << "; " << links_text(report.links) << "\n";
}

void print_plan_json(std::ostream& out, const PlanReport& report) {
  using Json = nlohmann::ordered_json;
  const Plan& plan = report.plan;
  const int world = plan.options.world;
  Json json = {{"net", report.net.name},
               {"parallel", parallel_name(plan.options.parallel)},
               {"workers", world},
               {"batch_size", plan.batch}};
  for (int i = 1; i < static_cast<int>(report.net.layers.size()); ++i) {
    Json own = Json::array();
    for (int r = 0; r < world; ++r) own.push_back(own_parameters(report.net, plan, i, r));
    json["layers"].push_back({{"name", report.net.layers[static_cast<size_t>(i)].name},
                              {"split", plan.split(i)},
                              {"parameters", layer_parameters(report.net, i)},
                              {"own_parameters", own}});
  }
  json["passes"] = Json::array();
  const std::vector<Pass> passes = plan.passes(plan.batch);
  if (!passes.empty()) {
    json["scheme"] = scheme_name(plan.options.scheme);
    json["fc_update"] = plan.options.update_each_pass ? "pass" : "step";
  }
  for (const Pass& pass : passes) json["passes"].push_back(pass.rows);
  for (int r = 0; r < world; ++r) {
    const auto bytes = step_bytes(report.net, plan, Loss::kSoftmax, r, report.precision);
    Json one;
    for (const Traffic kind : kKinds) one[traffic_name(kind)] = bytes[static_cast<size_t>(kind)];
    json["bytes"].push_back(one);
  }
  json["precision"] = dtype_name(report.precision);
  json["exchange_buffer_bytes"] = exchange_bytes(report.net, plan, report.precision);
  json["model"] = {{"seconds", report.model.seconds},
                   {"compute_seconds", report.model.compute_seconds()},
                   {"exposed_row_seconds", report.model.exposed[0]},
                   {"exposed_column_seconds", report.model.exposed[1]},
                   {"exposed_gradient_seconds", report.model.exposed[2]},
                   {"images_per_second", images_per_second(report)},
                   {"one_worker_images_per_second", report.one_worker_images_per_second},
                   {"layers", report.speed},
                   {"links", links_text(report.links)}};
  out << json.dump(2) << "\n";
}

}  // namespace convoy
