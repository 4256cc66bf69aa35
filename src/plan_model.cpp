#include "plan_model.h"

#include <algorithm>
#include <cmath>
#include <deque>

#include "step_transfers.h"

namespace convoy {
namespace {

size_t index(Traffic traffic) {
  return static_cast<size_t>(traffic);
}

// Seconds of a transfer: of the worker whose link has the most to do.
double seconds_of(const Payload& bytes, int world, const LinkFigures& links) {
  double longest = 0;
  for (int worker = 0; worker < world; ++worker) {
    double out = 0, in = 0;
    for (int other = 0; other < world; ++other) {
      if (other == worker) continue;
      const bool same_root =
          links.root_workers == 0 || worker / links.root_workers == other / links.root_workers;
      const double rate = links.bytes_per_second * (same_root ? 1 : links.across_roots);
      const auto add = [&](double& way, int64_t amount) {
        if (amount > 0) way += static_cast<double>(amount) / rate + links.message_seconds;
      };
      add(out, bytes(worker, other));
      add(in, bytes(other, worker));
    }
    longest = std::max({longest, out, in});
  }
  return longest;
}

// The two queues of the step.
class Play {
 public:
  Play(const Plan& plan, const LinkFigures& links) : world_(plan.options.world), links_(links) {}

  void compute(const std::string& name, double seconds, int pass = -1) {
    if (seconds <= 0) return;
    span(Lane::kCompute, {name, SpanKind::kCompute, 0, 0, 0, pass}, now_, now_ + seconds);
    now_ += seconds;
  }
  double now() const { return now_; }

  // Puts a transfer behind those that were queued before it; it can start from now on. Returns its number.
  size_t queue(Traffic traffic, const std::string& name, const Payload& bytes, int pass = -1) {
    return queue(traffic, name, seconds_of(bytes, world_, links_), received(bytes), pass);
  }
  size_t queue_sum(const std::string& name, const Payload& parts, const Payload& whole) {
    return queue(Traffic::kGradients, name,
                 seconds_of(parts, world_, links_) + seconds_of(whole, world_, links_),
                 received(parts) + received(whole), -1);
  }

  void wait(size_t transfer, Traffic traffic) {
    while (ends_.size() <= transfer) start_next();
    exposed[index(traffic)] += std::max(0.0, ends_[transfer] - now_);
    now_ = std::max(now_, ends_[transfer]);
  }
  void wait_for_all(Traffic traffic) {
    if (!pending_.empty() || !ends_.empty()) wait(ends_.size() + pending_.size() - 1, traffic);
  }

  // A transfer that compute stands still for, on the same links.
  void transfer_now(Traffic traffic, const std::string& name, const Payload& bytes, int pass) {
    const double seconds = seconds_of(bytes, world_, links_);
    while (!pending_.empty() && std::max(queue_end_, pending_.front().queued) < now_) start_next();
    const double asked = now_, start = std::max(now_, link_free_);
    now_ = link_free_ = start + seconds;
    exposed[index(traffic)] += now_ - asked;
    span(Lane::kCompute, {name, static_cast<SpanKind>(traffic), 0, 0, received(bytes), pass}, asked, now_);
  }

  std::array<double, kTrafficKinds> exposed{};
  TracedWorker timeline;

 private:
  struct Pending {
    TracedSpan span;
    double queued, seconds;
  };

  size_t queue(Traffic traffic, const std::string& name, double seconds, int64_t bytes, int pass) {
    pending_.push_back({{name, static_cast<SpanKind>(traffic), 0, 0, bytes, pass}, now_, seconds});
    return ends_.size() + pending_.size() - 1;
  }
  void start_next() {
    const Pending next = pending_.front();
    pending_.pop_front();
    const double start = std::max({queue_end_, next.queued, link_free_});
    queue_end_ = link_free_ = start + next.seconds;
    ends_.push_back(queue_end_);
    span(Lane::kTransfer, next.span, start, queue_end_);
  }
  void span(Lane lane, TracedSpan span, double start, double end) {
    span.start = std::llround(1e9 * start);
    span.end = std::llround(1e9 * end);
    timeline.lanes[static_cast<size_t>(lane)].push_back(std::move(span));
  }
  // What rank 0 has of others in it, or others of it.
  int64_t received(const Payload& bytes) const {
    int64_t in = 0, out = 0;
    for (int other = 1; other < world_; ++other) {
      in += bytes(other, 0);
      out += bytes(0, other);
    }
    return std::max(in, out);
  }

  int world_;
  const LinkFigures& links_;
  double now_ = 0, queue_end_ = 0, link_free_ = 0;
  std::deque<Pending> pending_;
  std::vector<double> ends_;
};

}  // namespace

StepModel model_step(const Net& net, const Plan& plan, Loss loss, const LayerTimes& times,
                     const LinkFigures& links, DType precision) {
  CONVOY_CHECK(times.layers.size() == net.layers.size(), times.layers.size(), " times for ",
               net.layers.size(), " layers");
  const int world = plan.options.world, layers = static_cast<int>(net.layers.size());
  const StepTransfers transfers(net, plan, loss, precision);
  const std::vector<Shape> shapes = output_shapes(net, 1);
  const std::vector<Pass> passes = plan.passes(plan.batch);
  Play play(plan, links);
  const auto name = [&](const char* what, int i) { return what + net.layers[static_cast<size_t>(i)].name; };
  const auto time = [&](int i) { return times.layers[static_cast<size_t>(i)]; };
  int64_t front_parameters = 0, split_parameters = 0;
  for (int i = 0; i < layers; ++i)
    (plan.split(i) ? split_parameters : front_parameters) += own_parameters(net, plan, i, 0);

  play.compute("step", times.step);
  for (int i = 0; i < plan.cut; ++i) play.compute(name("forward ", i), time(i).forward.seconds(plan.rows, 1));

  const auto gather = [&](size_t p) {
    return play.queue(Traffic::kRows, "gather rows", transfers.gather_rows(passes[p]), static_cast<int>(p));
  };
  const auto split_forward = [&](int i, int64_t rows, int p) {
    const auto whole = transfers.gathered_for().find(i);
    if (whole != transfers.gathered_for().end() && world > 1)
      for (const int from : whole->second)
        play.transfer_now(Traffic::kColumns, name("gather columns ", from),
                          transfers.gather_columns(from, rows), p);
    play.compute(name("forward ", i),
                 time(i).forward.seconds(rows, largest_share(shapes[static_cast<size_t>(i)], world)), p);
  };
  const auto split_backward = [&](int i, int64_t rows, int p) {
    play.compute(name("backward ", i),
                 time(i).backward.seconds(rows, largest_share(shapes[static_cast<size_t>(i)], world)), p);
    const auto whole = transfers.gathered_for().find(i);
    if (whole == transfers.gathered_for().end() || world == 1) return;
    for (const int from : whole->second)
      play.transfer_now(Traffic::kColumns, name("scatter columns ", from),
                        transfers.scatter_columns(from, rows), p);
  };
  size_t arrived = 0, next = 0;
  if (!passes.empty() && world > 1) next = gather(0);
  for (size_t p = 0; p < passes.size(); ++p) {
    const int64_t rows = passes[p].total;
    const int number = static_cast<int>(p);
    arrived = next;
    if (world > 1) {
      if (p + 1 < passes.size()) next = gather(p + 1);
      play.wait(arrived, Traffic::kRows);
      play.compute("pass", times.pass, number);
    }
    for (int i = plan.cut; i < layers; ++i) split_forward(i, rows, number);
    if (world > 1 && transfers.gathers_logits())
      play.transfer_now(Traffic::kColumns, "gather logits", transfers.gather_columns(layers - 1, rows),
                        number);
    for (int i = layers; i-- > plan.cut;) split_backward(i, rows, number);
    if (world > 1 && transfers.scatters())
      play.queue(Traffic::kRows, "scatter rows", transfers.scatter_rows(passes[p]), number);
    if (plan.options.update_each_pass)
      play.compute("update", times.update * static_cast<double>(split_parameters), number);
  }
  if (!passes.empty() && world > 1) play.wait_for_all(Traffic::kRows);

  const std::vector<StepTransfers::Bucket> buckets = transfers.buckets();
  auto bucket = buckets.begin();
  for (int i = plan.cut; i-- > 0;) {
    play.compute(name("backward ", i), time(i).backward.seconds(plan.rows, 1));
    for (; world > 1 && bucket != buckets.end() && bucket->layer == i; ++bucket)
      play.queue_sum("sum gradients", transfers.sum_parts(bucket->elements),
                     transfers.sum_whole(bucket->elements));
  }
  play.wait_for_all(Traffic::kGradients);
  if (plan.options.update_each_pass) split_parameters = 0;
  play.compute("update", times.update * static_cast<double>(front_parameters + split_parameters));

  StepModel model;
  model.seconds = play.now();
  model.exposed = play.exposed;
  model.timeline = play.timeline;
  return model;
}

std::array<int64_t, kTrafficKinds> step_bytes(const Net& net, const Plan& plan, Loss loss, int rank,
                                              DType precision) {
  const StepTransfers transfers(net, plan, loss, precision);
  const std::vector<Shape> shapes = output_shapes(net, 1);
  const int world = plan.options.world;
  std::array<int64_t, kTrafficKinds> bytes{};
  // Counted as comm.h says: what comes from others; of a sum, both ways.
  const auto add = [&](Traffic traffic, const Payload& there, int64_t times) {
    for (int other = 0; other < world; ++other)
      if (other != rank) bytes[index(traffic)] += times * there(other, rank);
  };
  const auto add_given = [&](Traffic traffic, const Payload& there) {
    for (int other = 0; other < world; ++other)
      if (other != rank) bytes[index(traffic)] += there(rank, other);
  };
  for (const Pass& pass : plan.passes(plan.batch)) {
    add(Traffic::kRows, transfers.gather_rows(pass), 1);
    // What goes home, turned round: counted by who gives it.
    if (transfers.scatters()) add_given(Traffic::kRows, transfers.scatter_rows(pass));
    for (const auto& reader : transfers.gathered_for())
      for (const int from : reader.second) {
        add(Traffic::kColumns, transfers.gather_columns(from, pass.total), 1);
        add_given(Traffic::kColumns, transfers.scatter_columns(from, pass.total));
      }
    if (transfers.gathers_logits())
      add(Traffic::kColumns, transfers.gather_columns(static_cast<int>(net.layers.size()) - 1, pass.total),
          1);
  }
  for (const StepTransfers::Bucket& bucket : transfers.buckets())
    add(Traffic::kGradients, transfers.sum_whole(bucket.elements), 2);
  return bytes;
}

double row_transfer_seconds(const Net& net, const Plan& plan, const LinkFigures& links) {
  const StepTransfers transfers(net, plan, Loss::kSoftmax, DType::kF32);
  double seconds = 0;
  for (const Pass& pass : plan.passes(plan.batch)) {
    seconds += seconds_of(transfers.gather_rows(pass), plan.options.world, links);
    if (transfers.scatters()) seconds += seconds_of(transfers.scatter_rows(pass), plan.options.world, links);
  }
  return seconds;
}

int64_t exchange_bytes(const Net& net, const Plan& plan, DType precision) {
  int64_t largest = 0;
  const std::vector<Pass> passes = plan.passes(plan.batch);
  for (const Pass& pass : passes) largest = std::max(largest, pass.total);
  if (passes.empty()) return 0;
  const int64_t slots = passes.size() > 1 ? 2 : 1;
  const int64_t row = output_shapes(net, 1)[static_cast<size_t>(plan.features)].count();
  const bool scatters = StepTransfers(net, plan, Loss::kSoftmax, precision).scatters();
  return slots * largest * row * (dtype_bytes(precision) + (scatters ? 4 : 0));
}

double largest_share(const Shape& outputs, int world) {
  const auto count = static_cast<double>(outputs[outputs.rank - 1]);
  return std::ceil(count / world) / count;
}

int64_t layer_parameters(const Net& net, int layer) {
  int64_t count = 0;
  for (const ParameterSpec& spec : parameters(net))
    if (spec.layer == layer && !spec.buffer()) count += spec.shape.count();
  return count;
}

int64_t own_parameters(const Net& net, const Plan& plan, int layer, int rank) {
  if (!plan.split(layer)) return layer_parameters(net, layer);
  int64_t count = 0;
  for (const ParameterSpec& spec : parameters(net))
    if (spec.layer == layer && !spec.buffer())
      count += part_of(spec.shape[0], rank, plan.options.world).count * spec.shape.row();
  return count;
}

}  // namespace convoy
