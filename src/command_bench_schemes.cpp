#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iostream>
#include <system_error>
#include <thread>

#include "commands.h"
#include "device.h"
#include "info.h"
#include "nearest.h"
#include "net_choice.h"
#include "net_shape.h"
#include "schemes_bench.h"
#include "schemes_check.h"
#include "transport.h"
#include "version.h"

namespace convoy {
namespace {

// The parts of "a,b,c", each of them one of the choices.
std::vector<std::string> parts(const char* option, const std::string& list,
                               const std::vector<std::string>& choices) {
  std::vector<std::string> found;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    found.push_back(list.substr(at, end - at));
    at = end + 1;
    const std::string wrong = problem(Setting::Word{nullptr, choices}, found.back());
    if (!wrong.empty())
      input_error("--", option, " '", list, "': ", wrong, ", with commas between them",
                  did_you_mean(found.back(), choices));
  }
  return found;
}

std::vector<int> worker_counts(const std::string& list) {
  std::vector<int> counts;
  for (const std::string& part : parts("workers", list, {}))
    counts.push_back(static_cast<int>(parse_whole("workers", part, 1, 256)));
  return counts;
}

std::vector<Division> divisions(const BenchSchemesSettings& settings) {
  std::vector<Division> all;
  const std::vector<std::string> schemes = parts("schemes", settings.schemes, {"a", "b", "c"});
  for (const std::string& mode : parts("modes", settings.modes, {"data", "hybrid", "model"})) {
    if (mode == "data") {
      all.push_back({Parallel::kData, Scheme::kA});
      continue;
    }
    for (const std::string& scheme : schemes)
      all.push_back({mode == "hybrid" ? Parallel::kHybrid : Parallel::kModel, scheme == "a"   ? Scheme::kA
                                                                              : scheme == "b" ? Scheme::kB
                                                                                              : Scheme::kC});
  }
  return all;
}

std::string cores_text(const SchemesResult& result) {
  const int cores = static_cast<int>(std::thread::hardware_concurrency()),
            wanted = result.workers * result.threads;
  if (wanted <= cores) return text(cores);
  return text(cores, "; ", result.workers, " workers of ", result.threads,
              result.threads == 1 ? " thread" : " threads",
              " take turns on them: their compute is longer than on cores of their own");
}

// What the workers computed on, and over what they exchanged.
Facts machine_facts(const BenchSchemesSettings& settings, const SchemesResult& result) {
  const Cuda* cuda = choose_device(settings.device);
  if (cuda == nullptr)
    return {{"device", processor_name()},
            {"cores", cores_text(result)},
            {"kernels", cpu_backend(settings.isa).name},
            {"links", settings.link_gbps > 0 ? text("simulated, ", settings.link_gbps, " GB/s either way, ",
                                                    settings.link_us, " us a message")
                                             : std::string("none simulated")}};
  const int devices = cuda->devices();
  const std::string sharing =
      result.workers > devices ? text(", which ", result.workers, " workers share") : std::string();
  return {
      {"device", text(devices, devices == 1 ? " device, " : " devices, ", device_text(cuda->describe(0)),
                      sharing, cuda->emulated ? "; EMULATED: the times mean nothing" : "")},
      {"precision", settings.precision},
      {"exchange", workers_are_processes() ? settings.transport + ", processes"
                                           : cuda_transport(*cuda, settings.transport, result.workers)},
      {"clock", "compute and waiting: the device's, between points of the compute queue; step: the host's"},
      {"timelines", "when the host queued the work; a profiler shows the device"}};
}

Facts facts_of(const BenchSchemesSettings& settings, const SchemesBench& bench, const SchemesResult& result) {
  Facts facts = {{"bench-schemes", text("convoy ", version(), " (commit ", commit(), "), ", compiler())},
                 {"net", text(bench.net.name, " (", row_text(output_shapes(bench.net, 1).front()), "), ",
                              parameter_count(bench.net), " parameters")},
                 {"global batch", text(bench.batch)}};
  if (bench.fc_batch_size > 0)
    facts.emplace_back("rows of a pass, schemes b and c", text(bench.fc_batch_size));
  const Facts machine = machine_facts(settings, result);
  facts.insert(facts.begin() + 1, machine.begin(), machine.end());
  facts.emplace_back("steps",
                     text("median of ", bench.steps, ", mean over workers; bytes and memory are rank 0's"));
  facts.emplace_back("#wrong", text("difference of the weights from one worker's after steps 1 and ",
                                    kCheckedSteps, "; bound: 0.001 and 0.02 of the tensor's change, as norms",
                                    settings.precision == "f32" ? "" : "; in f32"));
  facts.insert(facts.end(), result.left_out.begin(), result.left_out.end());
  return facts;
}

void write_file(const char* option, const std::string& file, const std::string& content) {
  errno = 0;
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << content;
  out.close();
  if (!out) throw Error(text("--", option, " ", file, ": ", std::generic_category().message(errno)));
}

}  // namespace

int command_bench_schemes(const BenchSchemesSettings& given) {
  BenchSchemesSettings settings = given;
  // Simulated links and the model of a step are the CPU's.
  if (settings.device == "auto" && (settings.link_gbps > 0 || settings.plan)) settings.device = "cpu";
  SchemesBench bench;
  bench.net = load_net_for(settings.model, settings.input, settings.classes);
  bench.batch = settings.batch_size;
  bench.fc_batch_size = settings.fc_batch_size;
  bench.steps = settings.steps;
  bench.plan = settings.plan;
  if (!settings.workers.empty()) bench.workers = worker_counts(settings.workers);
  bench.divisions = divisions(settings);
  bench.precision = settings.precision;
  bench.options.device = settings.device;
  bench.options.transport = settings.transport;
  bench.options.threads = settings.threads;
  bench.options.isa = settings.isa;
  bench.options.link_gbps = settings.link_gbps;
  bench.options.link_us = settings.link_us;
  if (settings.link_us > 0 && settings.link_gbps == 0)
    input_error("--link-us ", settings.link_us, " needs --link-gbps: a message's cost on simulated links");
  if (settings.plan && choose_device(settings.device) != nullptr)
    input_error("--plan: the model of a step takes the times of layers on the CPU; use --device cpu");
  const SchemesResult result = run_schemes(bench);
  if (result.rows.empty()) return 0;  // not the leader
  const Facts facts = facts_of(settings, bench, result);
  print_schemes(std::cout, facts, result.rows);
  if (!settings.json.empty()) write_file("json", settings.json, schemes_json(facts, result.rows));
  if (!settings.page.empty())
    write_file(
        "page", settings.page,
        schemes_page(text("Exchange schemes on ", bench.net.name), facts, result.rows, result.timelines));
  const bool wrong = std::any_of(result.rows.begin(), result.rows.end(),
                                 [](const SchemeRow& row) { return !(row.wrong <= 1); });
  return wrong ? 1 : 0;
}

}  // namespace convoy
