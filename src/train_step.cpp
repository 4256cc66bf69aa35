// One training step, and one evaluated batch.
//
// Two queues: compute, and transfers. With a split half, the rows of pass p + 1 travel while pass p computes, and the
// gradient of pass p goes home behind pass p + 1; the front half's gradients are summed over the workers, layer by
// layer, while the layers below compute theirs.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "activity.h"
#include "convoy/train.h"
#include "device.h"
#include "nonfinite.h"
#include "trace.h"
#include "upload.h"

namespace convoy {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Step& step_for(std::map<int64_t, Step>& steps, int64_t rows) {
  const auto found = steps.find(rows);
  CONVOY_CHECK(found != steps.end(), "nothing was lowered for a batch of ", rows, " rows");
  return found->second;
}

// By Traffic.
constexpr const char* kWaits[] = {"wait for rows", "wait for columns", "wait for gradients",
                                  "wait for reports"};
static_assert(std::size(kWaits) == kTrafficKinds);

// A range of a profiler's timeline, on CUDA.
class Range {
 public:
  Range(const Cuda* cuda, const char* name) : cuda_(cuda) {
    if (cuda_ != nullptr) cuda_->range(name);
  }
  ~Range() {
    if (cuda_ != nullptr) cuda_->range(nullptr);
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  const Cuda* cuda_;
};

// A step as it runs: what it works with, and what it reports.
struct Running {
  Model& m;
  Exec& compute;
  Exec& transfer;
  Step& step;
  bool training;
  StepReport report;
  int32_t pass = -1;  // through the split half
  const Cuda* cuda = m.backend->host_memory ? nullptr : find_cuda();
  struct Wait {
    size_t from, to;  // of the model's clock
    Traffic traffic;
  };
  std::vector<Wait> waits = {};  // on CUDA

  // Runs what compute waits in. On CUDA the host only queues it: the device's clock tells how long it took.
  template <class F>
  void expose(Traffic traffic, const F& f) {
    if (cuda != nullptr && m.team.world() == 1) return f();
    if (cuda != nullptr) {
      const size_t from = m.clock->point(compute);
      f();
      return waits.push_back({from, m.clock->point(compute), traffic});
    }
    const Clock::time_point start = Clock::now();
    f();
    report.exposed[static_cast<size_t>(traffic)] += since(start);
  }
  // The compute queue waits for an event of the other one.
  void wait(const Event& event, Traffic traffic) {
    note(m.team.activity, Lane::kCompute, kWaits[static_cast<size_t>(traffic)], pass);
    expose(traffic, [&] { compute.backend->wait(compute, event); });
  }
  void run(const Operation& operation) {
    note(m.team.activity, Lane::kCompute, operation.name.c_str(), pass);
    const Range range(cuda, operation.name.c_str());
    if (!operation.transfer) {
      const Span span(m.team.trace, Lane::kCompute, operation.name.c_str(), SpanKind::kCompute, pass);
      return operation.run(compute);
    }
    expose(*operation.transfer, [&] { operation.run(compute); });
  }
  void run(const std::vector<Operation>& operations) {
    for (const Operation& operation : operations) run(operation);
  }
  Event done() { return compute.backend->record(compute); }
  Event sent() { return transfer.backend->record(transfer); }
  void after(const Event& event) { transfer.backend->wait(transfer, event); }
};

// To the host, which knows that it has arrived once the queue was synchronized.
void to_host(Running& s, const Tensor& to, int64_t first, const In& from) {
  s.compute.backend->copy(s.compute, to.view().data + first * 4, from.data, from.count() * 4);
}

void upload(Running& s, const Batch& batch, const StepScalars (&scalars)[2], bool ahead) {
  Model& m = s.m;
  const Backend& backend = *s.compute.backend;
  CONVOY_CHECK(batch.rows == s.step.front.rows && batch.pixels.shape == m.pixels.shape.with_rows(batch.rows),
               "a batch of ", batch.pixels.shape, ", ", s.step.front.rows, " rows were planned");
  if (ahead) {
    take_upload(m, s.compute, batch);
  } else {
    backend.copy(s.compute, m.pixels.data, batch.pixels.data, batch.pixels.bytes());
    backend.copy(s.compute, m.labels.data, batch.labels.data, batch.labels.bytes());
    backend.copy(s.compute, m.index.data, batch.index.data, batch.index.bytes());
  }
  std::memcpy(m.host_scalars.view().data, scalars, sizeof scalars);
  backend.copy(s.compute, m.step_scalars(), m.host_scalars.view().data, sizeof scalars);
  if (s.step.passes.empty()) return;
  const In all = batch.all_labels.empty() ? In(batch.labels) : batch.all_labels;
  const int32_t* labels = all.as<int32_t>();
  CONVOY_CHECK(all.count() == static_cast<int64_t>(s.step.order.size()), "the labels of ", all.count(),
               " rows, not of ", s.step.order.size());
  auto* ordered = m.ordered_labels.view().as<int32_t>();
  for (size_t i = 0; i < s.step.order.size(); ++i) ordered[i] = labels[s.step.order[i]];
  backend.copy(s.compute, m.pass_labels.data, ordered, all.count() * 4);
}

// This worker's part of a program's losses, to the host.
void keep_losses(Running& s, const Program& program, int64_t from, const RowRange& own) {
  if (own.count == 0) return;
  to_host(s, s.m.own_loss, own.first, program.row_loss.slice_rows(from, own.count));
  to_host(s, s.m.own_rank, own.first, program.row_rank.slice_rows(from, own.count));
}

// Before a pass changes weights: every worker has the losses of all its rows.
void check_pass(Running& s, const PassWork& work, int64_t step) {
  to_host(s, s.m.pass_loss, 0, work.program->row_loss.slice_rows(0, work.pass.total));
  s.compute.backend->synchronize(s.compute);
  const float* loss = s.m.pass_loss.view().f32();
  if (!std::all_of(loss, loss + work.pass.total, [](float x) { return std::isfinite(x); }))
    name_nonfinite(s.m, s.compute, s.step, step);
}

// Forward, loss, and in training backward of the split half, pass by pass.
void run_passes(Running& s, int64_t step, const std::function<void(const PassWork&)>& after_pass) {
  Model& m = s.m;
  Communicator& rows = *m.team.transfer;
  const Program& front = s.step.front;
  const std::vector<PassWork>& passes = s.step.passes;
  const auto slot_of = [&](const PassWork& work) -> const Slot& {
    return m.slots[static_cast<size_t>(work.slot)];
  };
  Event arrived[2], gone[2], computed;
  const auto gather = [&](const PassWork& work) {
    s.after(computed);  // the features are there, or the pass before the last has left its slot
    gather_rows(rows, s.transfer, work.pass, front.features,
                slot_of(work).features.slice_rows(0, work.pass.total));
    arrived[work.slot] = s.sent();
  };
  computed = s.done();
  if (!passes.empty()) gather(passes[0]);
  for (size_t p = 0; p < passes.size(); ++p) {
    const PassWork& work = passes[p];
    const Slot& slot = slot_of(work);
    s.pass = work.pass.number;
    if (p + 1 < passes.size()) gather(passes[p + 1]);
    s.wait(arrived[work.slot], Traffic::kRows);
    s.wait(gone[work.slot], Traffic::kRows);
    const int64_t bytes = work.pass.total * 4;
    s.compute.backend->copy(s.compute, slot.labels.data, m.pass_labels.data + work.first * 4, bytes);
    s.compute.backend->copy(s.compute, slot.row_numbers.data, s.step.row_numbers.view().data + work.first * 4,
                            bytes);
    s.run(work.program->forward);
    keep_losses(s, *work.program, work.own_first, work.pass.from[static_cast<size_t>(rows.rank())]);
    if (after_pass) after_pass(work);
    if (!s.training) continue;
    if (m.plan.options.update_each_pass) check_pass(s, work, step);
    s.run(work.program->backward);
    computed = s.done();
    if (!front.dfeatures.empty()) {
      s.after(computed);
      scatter_rows(rows, s.transfer, work.pass, slot.dfeatures.slice_rows(0, work.pass.total),
                   front.dfeatures);
      gone[work.slot] = s.sent();
    }
    if (m.plan.options.update_each_pass) {
      auto* scalars = reinterpret_cast<StepScalars*>(m.host_scalars.view().data) + 1;
      scalars->update = m.split_updates++;
      scalars->gradient_scale = 1.0f / (static_cast<float>(work.pass.total) * scalars->loss_scale);
      s.compute.backend->copy(s.compute, m.step_scalars() + 1, scalars, sizeof *scalars);
      s.run(work.program->update);
    }
  }
  s.pass = -1;
  for (const Event& event : gone) s.wait(event, Traffic::kRows);
}

// The front half's way back: a bucket of gradients is summed over the workers as soon as it is complete.
void run_backward(Running& s) {
  const Program& front = s.step.front;
  const bool sum = s.m.team.world() > 1 && !s.m.plan.options.average;
  size_t bucket = 0;
  for (size_t k = 0; k < front.backward.size(); ++k) {
    s.run(front.backward[k]);
    for (; sum && bucket < front.buckets.size() && front.buckets[bucket].after == k; ++bucket) {
      s.after(s.done());
      s.m.team.transfer->all_reduce(s.transfer, {Traffic::kGradients, "sum gradients"},
                                    front.buckets[bucket].gradients);
    }
  }
}

// Every worker's losses and votes, added up in rank order.
struct Share {
  double loss;
  int64_t correct, rows;
  int32_t vote;
  double slowest;
};
static_assert(sizeof(Share) <= kReportBytes);

Share own_share(Running& s, int32_t vote, double slowest) {
  s.compute.backend->synchronize(s.compute);
  Share share{0, 0, s.step.front.rows, vote, slowest};
  const float* loss = s.m.own_loss.view().f32();
  const int32_t* rank = s.m.own_rank.view().as<int32_t>();
  for (int64_t n = 0; n < share.rows; ++n) {  // in row order and double precision
    share.loss += static_cast<double>(loss[n]);
    share.correct += rank[n] == 0;  // i32 and f32 alike
  }
  return share;
}

void send_share(Running& s, const Share& share) {
  const int world = s.m.team.world();
  std::byte* mine = s.m.reports.data() + static_cast<size_t>(s.m.team.rank()) * kReportBytes;
  std::memcpy(mine, &share, sizeof share);
  if (world == 1) return;
  const int64_t bytes = kReportBytes;
  Team& team = s.m.team;
  Communicator& group = team.host_group != nullptr ? *team.host_group : *team.transfer;
  group.all_gather(team.host_exec(s.transfer), {Traffic::kOther, "gather reports"},
                   In(mine, DType::kU8, {1, bytes}), View(s.m.reports.data(), DType::kU8, {world, bytes}),
                   s.m.report_blocks);
}

void read_shares(Running& s) {
  for (int r = 0; r < s.m.team.world(); ++r) {
    Share share;
    std::memcpy(&share, s.m.reports.data() + static_cast<size_t>(r) * kReportBytes, sizeof share);
    s.report.loss += share.loss;
    s.report.correct += share.correct;
    s.report.rows += share.rows;
    s.report.vote = std::max(s.report.vote, share.vote);
    s.report.slowest = std::max(s.report.slowest, share.slowest);
  }
}

// On CUDA a worker alone records its second step of a size, when everything has been loaded, and then launches the
// recording. A trace needs the operations one by one, and so does an update each pass, which the host looks at.
template <class Work>
void run_or_replay(Running& s, const Work& work) {
  Model& m = s.m;
  if (!m.options.graph || m.team.world() > 1 || m.team.trace != nullptr || m.plan.options.update_each_pass ||
      s.step.runs == 0)
    return work();
  if (s.step.graph == nullptr) {
    s.cuda->begin_recording(s.compute);
    work();
    s.step.graph = std::shared_ptr<void>(s.cuda->end_recording(s.compute), s.cuda->release_graph);
  }
  note(m.team.activity, Lane::kCompute, "a recorded step");
  s.cuda->launch(s.compute, s.step.graph.get());
}

// Once the queue was synchronized: what the device's clock says of the step between two points.
void read_clock(Running& s, size_t first, size_t last) {
  const DeviceClock& clock = *s.m.clock;
  s.report.device_seconds = clock.seconds(first, last);
  for (const Running::Wait& wait : s.waits)
    s.report.exposed[static_cast<size_t>(wait.traffic)] += clock.seconds(wait.from, wait.to);
}

std::array<int64_t, kTrafficKinds> bytes_so_far(const Team& team) {
  std::array<int64_t, kTrafficKinds> bytes{};
  for (int t = 0; team.compute != nullptr && t < kTrafficKinds; ++t) {
    bytes[static_cast<size_t>(t)] = team.compute->bytes(static_cast<Traffic>(t));
    if (team.transfer != team.compute)
      bytes[static_cast<size_t>(t)] += team.transfer->bytes(static_cast<Traffic>(t));
  }
  return bytes;
}

}  // namespace

void LossScale::step(bool overflow) {
  if (overflow) {
    scale = std::max(scale / 2, 1.0f);
    good_steps = 0;
  } else if (++good_steps == kRaiseAfter) {
    scale = std::min(scale * 2, 16777216.0f);
    good_steps = 0;
  }
}

StepReport train_step(Model& m, Exec& compute, const Batch& batch, const StepSettings& settings) {
  const Clock::time_point start = Clock::now();
  const auto bytes_before = bytes_so_far(m.team);
  Running s{m, compute, m.team.queue, step_for(m.train, batch.global_rows), true, {}, -1};
  const Program& front = s.step.front;
  const bool split = !s.step.passes.empty();
  StepScalars scalars[2];
  scalars[0].step = scalars[0].update = settings.step;
  scalars[0].epoch = settings.epoch;
  scalars[0].first_row = batch.first_row;
  scalars[0].lr = settings.lr;
  scalars[0].gradient_scale =
      1.0f /
      static_cast<float>(m.plan.options.average ? std::max<int64_t>(batch.rows, 1) : batch.global_rows);
  if (m.options.precision == DType::kF16) {
    scalars[0].loss_scale = m.loss_scale.scale;
    scalars[0].gradient_scale /= m.loss_scale.scale;
  }
  scalars[1] = scalars[0];
  scalars[1].lr = settings.split_lr.value_or(settings.lr);
  scalars[1].update = m.split_updates;
  size_t first = 0;
  if (m.clock != nullptr) {
    m.clock->restart();
    first = m.clock->point(compute);
  }
  const bool ahead = s.cuda != nullptr && settings.next;
  upload(s, batch, scalars, ahead);

  const bool several = m.team.world() > 1;
  const auto run_whole = [&](const auto& losses_there, const auto& gradients_there) {
    s.run(front.forward);
    if (split)
      run_passes(s, settings.step, nullptr);
    else
      keep_losses(s, front, 0, {0, front.rows});
    losses_there();
    run_backward(s);
    if (several) s.wait(s.sent(), Traffic::kGradients);
    gradients_there();
    s.run(front.update);
    if (split && !m.plan.options.update_each_pass) s.run(s.step.passes[0].program->update);
  };
  const auto report = [&] {
    send_share(s, own_share(s, settings.vote, std::max(settings.last, since(start))));
  };
  const auto agree = [&] {
    read_shares(s);
    if (!std::isfinite(s.report.loss)) name_nonfinite(m, compute, s.step, settings.step);
  };
  if (compute.backend->host_memory) {
    Event reported;
    run_whole(
        [&] {
          report();
          reported = s.sent();
          if (!several) agree();
        },
        [&] {
          s.wait(reported, Traffic::kOther);
          if (several) agree();
        });
  } else {
    // The host would have to wait for the losses. The device itself watches over the update (Lowering::guard), and the
    // host looks at the end.
    const auto nothing = [] {};
    run_or_replay(s, [&] { run_whole(nothing, nothing); });
    const size_t last = m.clock->point(compute);
    if (ahead) {
      finish_uploads(m);
      if (const Batch* next = settings.next()) upload_ahead(m, compute, *next);
    }
    const bool scaled = m.options.precision == DType::kF16;
    if (scaled) to_host(s, m.host_skip, 0, m.skip);
    report();
    read_clock(s, first, last);
    agree();
    if (scaled) {
      s.report.skipped = m.host_skip.view().as<int32_t>()[0] != 0;
      m.loss_scale.step(s.report.skipped);
    }
  }
  if (!m.plan.options.update_each_pass)
    ++m.split_updates;  // without a split half too: another mode may go on
  ++s.step.runs;
  s.report.seconds = since(start);
  s.report.bytes = bytes_so_far(m.team);
  for (size_t t = 0; t < bytes_before.size(); ++t) s.report.bytes[t] -= bytes_before[t];
  return s.report;
}

StepReport evaluate_batch(Model& m, Exec& compute, const Batch& batch, std::vector<float>* logits) {
  Running s{m, compute, m.team.queue, step_for(m.evaluate, batch.global_rows), false, {}, -1};
  const Program& front = s.step.front;
  if (m.clock != nullptr) m.clock->restart();
  upload(s, batch, {}, false);
  s.run(front.forward);
  const auto keep_logits = [&](const Program& program, int64_t from, const RowRange& own) {
    if (logits == nullptr || own.count == 0) return;
    CONVOY_CHECK(program.logits.dtype == DType::kF32, "logits in f32");
    const int64_t classes = program.logits.shape[1];
    logits->resize(static_cast<size_t>(front.rows * classes));
    compute.backend->copy(compute, logits->data() + own.first * classes,
                          program.logits.data + from * classes * 4, own.count * classes * 4);
  };
  if (s.step.passes.empty()) {
    keep_losses(s, front, 0, {0, front.rows});
    keep_logits(front, 0, {0, front.rows});
  } else {
    run_passes(s, 0, [&](const PassWork& work) {
      keep_logits(*work.program, work.own_first, work.pass.from[static_cast<size_t>(m.team.rank())]);
    });
  }
  const Share share = own_share(s, 0, 0);
  s.report.loss = share.loss;
  s.report.correct = share.correct;
  s.report.rows = share.rows;
  return s.report;
}

}  // namespace convoy
