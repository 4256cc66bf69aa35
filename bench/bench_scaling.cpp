// Images per second of K workers against one, in turn within one run: whole training steps on data in memory, each
// worker with as many threads as the one. Other load on the machine falls on both; the ratio is that of the medians.
//
// Strong scaling: all workers share the batch. --weak: each has as many rows as the one worker alone. Under mpirun the
// workers are its processes; while rank 0 works alone the others wait without using their cores.
//
// Beside them a control: the workers as strangers, each with its rows and a whole net of its own, that exchange nothing
// and only start every step together. It shows what the machine allows workers in step (shared caches and memory, and
// the slowest of them counting); what the workers lack of it is the exchange.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "from_leader.h"
#include "measure_layers.h"
#include "net_choice.h"
#include "plan_text.h"
#include "settings.h"
#include "synthetic_batch.h"
#include "version.h"
#include "workers.h"

namespace convoy {
namespace {

struct Options {
  std::string net = "cifar_cnn", input, parallel = "data", scheme, json;
  std::vector<int64_t> batches = {128, 32};
  bool weak = false;
  int rounds = 5;
  double seconds = 2;
  WorkersOptions workers;
};

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.empty() ? 0 : v[v.size() / 2];
}

class Watch {
 public:
  double seconds() const { return 1e-9 * static_cast<double>(now_nanoseconds() - start_); }

 private:
  int64_t start_ = now_nanoseconds();
};

// A model that can be trained for a while.
struct Trained {
  Exec exec;
  Model model;
  SyntheticBatch data;
  int64_t step = 0;
  bool wrong = false;
  StepReport last;

  Trained(const Net& net, const Plan& plan, Team& team, const Exec& with)
      : exec(with),
        model(make_model(net, plan, synthetic_options(net), exec, {plan.batch}, {}, team)),
        data(net, plan) {}

  void one_step(int vote) {
    StepSettings settings;
    settings.step = step++;
    settings.lr = 1e-4f;
    settings.vote = vote;
    last = train_step(model, exec, data.batch(), settings);
    wrong = wrong || !std::isfinite(last.loss);
  }

  // Images per second of all workers; they stop after the same step, once the leader's time is over.
  double rate(double seconds) {
    const Watch watch;
    int64_t images = 0;
    do {
      one_step(leader(model.team) && watch.seconds() >= seconds ? 1 : 0);
      images += data.batch().global_rows;
    } while (last.vote == 0);
    return static_cast<double>(images) / watch.seconds();
  }
};

// The control: images per second of all workers, each training its rows alone from one barrier to the next.
double rate_in_step(Trained& stranger, Team& team, double seconds) {
  const Watch watch;
  int64_t images = 0;
  Exec exec = stranger.exec;
  do {
    wait_for_workers(team);
    stranger.one_step(0);
    images += team.world() * stranger.data.batch().global_rows;
  } while (from_leader(team, exec, watch.seconds() < seconds ? 1 : 0) != 0);
  return static_cast<double>(images) / watch.seconds();
}

struct Row {
  int64_t batch = 0;                     // of one worker alone
  double one = 0, all = 0, in_step = 0;  // in_step: of the control
  StepReport last;
  bool wrong = false;
};

Row measure(const Options& o, const Net& net, int64_t batch, const PlanOptions& division, Team& team,
            const Exec& exec) {
  Team none;
  std::unique_ptr<Trained> alone;
  if (leader(team)) alone = std::make_unique<Trained>(net, make_plan(net, batch), none, exec);
  const int64_t share = o.weak ? batch : std::max<int64_t>(batch / team.world(), 1);
  Trained together(net, make_plan(net, o.weak ? batch * team.world() : batch, division), team, exec);
  Trained stranger(net, make_plan(net, share), none, exec);
  std::vector<double> one, all, in_step;
  try {
    for (int round = -1; round < o.rounds; ++round) {  // the first warms up
      const double seconds = round < 0 ? 0 : o.seconds;
      const double by_one = alone ? alone->rate(seconds) : 0;
      wait_for_workers(team);
      const double by_all = together.rate(seconds);
      wait_for_workers(team);
      const double by_strangers = rate_in_step(stranger, team, seconds);
      wait_for_workers(team);
      if (round < 0) continue;
      one.push_back(by_one);
      all.push_back(by_all);
      in_step.push_back(by_strangers);
    }
  } catch (...) {
    end_team(team);  // while the memory that transfers use is there
    throw;
  }
  return {batch,           median(one),   median(all),
          median(in_step), together.last, together.wrong || stranger.wrong || (alone && alone->wrong)};
}

int bench(const Options& o, Team& team, const Exec& exec) {
  const Net net = load_net_for(o.net, o.input, 0);
  Settings divided;
  divided.parallel = o.parallel;
  divided.scheme = !o.scheme.empty() ? o.scheme : o.parallel == "model" ? "a" : "c";
  const PlanOptions division = plan_options(divided, team.rank(), team.world());
  const bool prints = leader(team);
  if (prints) {
    std::printf("# bench_scaling: convoy %s (%s), %s, %s, %d workers of %d threads, %s%s%s, %s scaling\n",
                version(), commit(), exec.backend->name, net.name.c_str(), team.world(), exec.threads,
                o.parallel.c_str(), o.parallel == "data" ? "" : ", scheme ",
                o.parallel == "data" ? "" : divided.scheme.c_str(), o.weak ? "weak" : "strong");
    std::printf(
        "# median of %d rounds of %g s, one worker, %d, and as many that exchange nothing, in turn; waiting "
        "and "
        "bytes of rank 0's last step\n",
        o.rounds, o.seconds, team.world());
    std::printf("# %8s%14s%14s%9s%14s%12s%12s%14s%8s\n", "batch", "one worker", "all workers", "ratio",
                "no exchange", "step", "waiting", "bytes", "#wrong");
    std::printf("# %8s%14s%14s%9s%14s%12s%12s%14s%8s\n", o.weak ? "each" : "global", "images/s", "images/s",
                "", "ratio", "ms", "ms", "MB", "");
  }
  nlohmann::ordered_json rows = nlohmann::json::array();
  int wrong = 0;
  for (const int64_t batch : o.batches) {
    const Row row = measure(o, net, batch, division, team, exec);
    wrong += row.wrong;
    if (!prints) continue;
    int64_t bytes = 0;
    for (const int64_t kind : row.last.bytes) bytes += kind;
    const double step = static_cast<double>(row.last.rows) / row.all,
                 waiting = row.last.seconds - row.last.compute_seconds();
    std::printf("  %8lld%14.1f%14.1f%9.3f%14.3f%12.2f%12.2f%14.3f%8d\n", static_cast<long long>(batch),
                row.one, row.all, row.all / row.one, row.in_step / row.one, 1e3 * step, 1e3 * waiting,
                1e-6 * static_cast<double>(bytes), row.wrong ? 1 : 0);
    std::fflush(stdout);
    rows.push_back({{"net", net.name},
                    {"batch", batch},
                    {"scaling", o.weak ? "weak" : "strong"},
                    {"workers", team.world()},
                    {"threads", exec.threads},
                    {"parallel", o.parallel},
                    {"scheme", o.parallel == "data" ? "" : divided.scheme},
                    {"one_worker_images_per_second", row.one},
                    {"images_per_second", row.all},
                    {"ratio", row.all / row.one},
                    {"no_exchange_ratio", row.in_step / row.one},
                    {"bytes", bytes},
                    {"wrong", row.wrong}});
  }
  if (prints) std::printf("# %zu rows, %d wrong (loss not finite)\n", rows.size(), wrong);
  if (prints && !o.json.empty()) {
    nlohmann::ordered_json file;
    file["bench"] = "bench_scaling";
    file["commit"] = commit();
    file["compiler"] = compiler();
    file["rows"] = rows;
    std::ofstream(o.json) << file.dump(1) << '\n';
  }
  return wrong == 0 ? 0 : 1;
}

}  // namespace
}  // namespace convoy

int main(int argc, char** argv) {
  convoy::Options o;
  o.workers.threads = 1;
  CLI::App app("Images per second of K workers against one, in turn.");
  app.add_option("--net", o.net, "built-in net or file")->capture_default_str();
  app.add_option("--input", o.input, "HxWxC (default: the net's own)");
  app.add_option("--batch", o.batches, "global batch; with --weak of each worker")->capture_default_str();
  app.add_option("--workers", o.workers.workers, "K (default: 2; under MPI the processes)");
  app.add_option("--threads", o.workers.threads, "OpenMP threads of a worker")->capture_default_str();
  app.add_option("--parallel", o.parallel, "what is split")
      ->check(CLI::IsMember({"data", "hybrid", "model"}))
      ->capture_default_str();
  app.add_option("--scheme", o.scheme, "a, b, c (default: c; model a)")
      ->check(CLI::IsMember({"a", "b", "c"}));
  app.add_flag("--weak", o.weak, "the batch is each worker's");
  app.add_option("--rounds", o.rounds, "measurements of each")->capture_default_str();
  app.add_option("--seconds", o.seconds, "length of a measurement")->capture_default_str();
  app.add_option("--isa", o.workers.isa, "auto, plain, avx2, avx512")->capture_default_str();
  app.add_option("--json", o.json, "also write the rows here");
  CLI11_PARSE(app, argc, argv);
  try {
    if (o.workers.workers == 0 && !convoy::workers_are_processes()) o.workers.workers = 2;
    return convoy::run_workers(o.workers, [&](convoy::Team& team, const convoy::Exec& exec) {
      return convoy::bench(o, team, exec);
    });
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_scaling: error: %s\n", error.what());
    return 1;
  }
}
