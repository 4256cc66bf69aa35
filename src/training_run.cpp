#include "training_run.h"

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "average.h"
#include "batches.h"
#include "config.h"
#include "device.h"
#include "from_leader.h"
#include "next_commands.h"
#include "signals.h"
#include "version.h"
#include "watchdog.h"
#include "workers.h"

namespace convoy {
namespace {

using Clock = std::chrono::steady_clock;

double since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

constexpr int kTracedSteps = 20;
constexpr int32_t kOutOfTime = 1000;  // above every signal's number

ModelOptions model_options(const Settings& s, const DataSets& data, const Team& team, DType precision) {
  ModelOptions o;
  o.loss = s.loss == "logistic" ? Loss::kLogistic : Loss::kSoftmax;
  o.optimizer.kind = s.optimizer == "adamw" ? OptimizerKind::kAdamw : OptimizerKind::kSgd;
  o.optimizer.momentum = static_cast<float>(s.momentum);
  o.optimizer.weight_decay = static_cast<float>(s.weight_decay);
  o.optimizer.nesterov = s.nesterov;
  o.optimizer.clip_norm = static_cast<float>(s.clip_norm);
  o.precision = precision;
  o.graph = !s.no_graph && s.profile_steps.empty();  // a profile shows the operations by name
  o.seed = static_cast<uint64_t>(s.seed);
  if (s.sync == "average" && s.average_init == "different")
    o.initial_seed = o.seed + 0x9E3779B97F4A7C15u * static_cast<uint64_t>(team.rank());
  o.augment = s.augment == "standard";
  o.augment_flip = data.augment_flip;
  o.augment_pad = data.augment_pad;
  o.normalization = data.normalization;
  return o;
}

// How the work is divided, in a few words.
std::string mode_text(const Settings& s) {
  if (s.sync == "average") return "training apart, averaged every " + s.average_every;
  if (s.parallel == "data") return "data-parallel";
  return text(s.parallel == "hybrid" ? "hybrid" : "model-parallel", ", scheme ", s.scheme,
              s.fc_update == "pass" ? ", fully connected layers updated each pass" : "");
}

bool has_summary(const std::string& dir) {
  return std::filesystem::exists(dir + "/summary.json");
}

std::string channels_text(const std::vector<float>& numbers) {
  std::ostringstream out;
  out.precision(9);  // reads back as the same float
  for (size_t c = 0; c < numbers.size(); ++c) out << (c == 0 ? "" : ",") << numbers[c];
  return out.str();
}

}  // namespace

TrainingRun::TrainingRun(const Settings& settings, const DataSets& data, RunDir& dir, const Team& team,
                         const Exec& exec)
    : settings_(settings), run_dir_(dir), data_(data), team_(team), exec_(exec) {
  const DType precision = use_precision(settings.precision, exec_);
  net_ = adapt_net(load_net(settings.model), data_.train.image, data_.train.classes);
  const int64_t train = data_.train.count(), test = data_.test.count();
  const int64_t batch = std::min(settings.batch_size, std::max(train, test));
  steps_per_epoch_ = batches_of(train, batch);
  total_steps_ = total_steps(settings, steps_per_epoch_);
  schedule_ = make_schedule(settings, steps_per_epoch_);
  checkpoint_every_ = parse_every("checkpoint-every", settings.checkpoint_every);
  average_every_ = parse_every("average-every", settings.average_every);
  profiled_ = parse_window("profile-steps", settings.profile_steps);
  if (profiled_.end > 0 && exec.backend->host_memory)
    input_error("--profile-steps: for --device cuda; on the CPU, --trace FILE shows the steps");
  const Plan plan = make_plan(net_, batch, plan_options(settings, team.rank(), team.world()));
  model_ = make_model(net_, plan, model_options(settings, data_, team, precision), exec_,
                      batch_rows(train, batch), batch_rows(test, batch), team);
  averages_ = plan.options.average;

  Loader::Options loading;
  loading.batch = batch;
  loading.seed = static_cast<uint64_t>(settings.seed);
  loading.shuffle = !settings.no_shuffle;
  // As if all workers were on this machine.
  loading.threads = data_.train.decodes ? reading_threads(exec_, settings.threads, team.world()) : 1;
  loading.memory = exec.backend;
  loading.rank = team.rank();
  loading.world = team.world();
  train_loader_ = std::make_unique<Loader>(data_.train, loading);
  if (test > 0) {
    loading.shuffle = false;
    test_loader_ = std::make_unique<Loader>(data_.test, loading);
  }
  if (!settings.init.empty() && dir.from.empty()) load_initial();
  if (!dir.from.empty()) resume(dir.from);
  averaged_step_ = step_;
  if (leads()) dir = make_run_dir(dir, settings.model);
  dir_ = text_from_leader(team_, exec_, dir.path);
  if (!leads()) return;
  write_config(dir_, settings_);
  metrics_ = std::make_unique<MetricsWriter>(dir_ + "/metrics.jsonl", resumed_ ? step_ : -1);
  progress_ = std::make_unique<Progress>(stdout, is_terminal(stdout), total_steps_,
                                         batches_of(std::max<int64_t>(total_steps_, 1), steps_per_epoch_));
}

void TrainingRun::load_initial() {
  LoadOptions load;
  load.other_classes = true;
  HostTensors weights = host_tensors(model_, exec_);
  weights.state.clear();  // a new run: its optimizer starts from nothing
  LoadReport report;
  all_or_none(team_.host(), team_.host_exec(exec_),
              [&] { report = load_parameters(TensorFile(settings_.init), net_, weights, load); });
  put_back(weights, model_, exec_);
  if (report.last_layer_kept && leads())
    std::printf("%s has another number of classes: the last layer keeps its random weights\n",
                settings_.init.c_str());
}

void TrainingRun::resume(const std::string& from) {
  const auto use = [&](const std::string& name) {
    const TensorFile file(name);
    const TrainingRecord record = read_record(file);
    if (!same_layers(parse_net(record.net_text, name), net_))
      input_error(name, ": was trained with another net (", record.net_name, "), not ", net_.name,
                  "; give its --model and --data");
    if (record.optimizer != model_.options.optimizer.kind)
      input_error(name, ": was trained with another optimizer; give --optimizer ",
                  record.optimizer == OptimizerKind::kAdamw ? "adamw" : "sgd");
    if (record.normalization.mean != data_.normalization.mean ||
        record.normalization.stddev != data_.normalization.stddev)
      input_error(name, ": was trained on images normalised in another way; give its --mean ",
                  channels_text(record.normalization.mean), " and --std ",
                  channels_text(record.normalization.stddev));
    const HostTensors tensors = host_tensors(model_, exec_);
    load_parameters(file, net_, tensors);
    put_back(tensors, model_, exec_);
    step_ = record.step;
    epoch_ = record.epoch;
    batch_in_epoch_ = record.batch_in_epoch;
    epoch_sums_ = record.epoch_so_far;
    best_accuracy_ = record.best_accuracy;
    model_.split_updates = record.fc_updates;
    model_.loss_scale = record.loss_scale;
  };
  FoundCheckpoint found;
  if (from_leader(team_, exec_, std::filesystem::is_directory(from)) != 0)
    found = find_latest_together(team_.host(), team_.host_exec(exec_), from, use);
  else
    all_or_none(team_.host(), team_.host_exec(exec_), [&] { use(found.file = from); });
  if (!found.warning.empty() && leads()) std::fprintf(stderr, "convoy: warning: %s\n", found.warning.c_str());
  if (batch_in_epoch_ > steps_per_epoch_)
    input_error(found.file, ": stopped after batch ", batch_in_epoch_, " of an epoch, which has only ",
                steps_per_epoch_, " here; resume with the same --data and --batch-size");
  resumed_ = true;
  saved_step_ = step_;
  epoch_measured_ = batch_in_epoch_ == 0;
  if (leads())
    std::printf("resumed %s: step %" PRId64 ", epoch %" PRId64 "\n", found.file.c_str(), step_, epoch_ + 1);
}

int TrainingRun::run() {
  if (resumed_ && all_steps_done() && from_leader(team_, exec_, leads() && has_summary(dir_)) != 0)
    return leads() ? nothing_left() : 0;
  if (leads()) announce();
  if (!settings_.trace.empty()) start_trace();
  note_activity(&activity_);
  const Watchdog watchdog(activity_, settings_.watchdog, team_);
  try {
    train();
  } catch (const NonfiniteError& error) {
    throw Error(text(error.what(), "; ",
                     saved_step_ >= 0
                         ? text("the last good checkpoint is ", checkpoint_path(dir_, saved_step_))
                         : "no checkpoint was due before"));
  }
  if (stop_ == 0 || stop_ == kOutOfTime || (all_steps_done() && epoch_measured_)) {
    finish();
    return 0;
  }
  if (saved_step_ != step_) save(false);
  if (leads())
    progress_->line(text("stopped by ", signal_name(stop_), " after step ", step_,
                         "; go on with: ", resume_command(dir_)));
  return kExitAgain;
}

void TrainingRun::announce() const {
  std::filesystem::remove(dir_ + "/summary.json");  // of the shorter run that is gone on with
  std::printf("%s (%" PRId64 " parameters) on %s: %" PRId64 " training and %" PRId64
              " test images, batch %" PRId64 ", %s, ",
              net_.name.c_str(), parameter_count(net_), settings_.data.c_str(), data_.train.count(),
              data_.test.count(), settings_.batch_size, exec_.backend->name);
  if (team_.world() > 1) std::printf("%d workers (%s) of ", team_.world(), mode_text(settings_).c_str());
  std::printf("%d thread%s\n", exec_.threads, exec_.threads == 1 ? "" : "s");
  std::fflush(stdout);
}

// Up to the end of the run or to a signal.
void TrainingRun::train() {
  if (epoch_at_end()) end_epoch(true);  // a signal came before this evaluation was done
  bool over = all_steps_done() || stop_ != 0;
  while (!over) {
    train_loader_->start(epoch_, batch_in_epoch_);
    auto start = Clock::now();
    const Batch* batch = next_batch();
    while (!over && batch != nullptr) {
      over = one_step(*batch);
      const double seconds = since(start);
      seconds_ += seconds;
      epoch_seconds_ += seconds;
      window_seconds_ += seconds;
      report_step();
      if (epoch_at_end()) end_epoch(true);
      over = over || stop_ != 0;
      if (checkpoint_due(batch_in_epoch_ == 0)) save(false);
      start = Clock::now();
      if (over) break;
      if (ahead_error_) std::rethrow_exception(ahead_error_);
      batch = exec_.backend->host_memory ? next_batch() : ahead_;
    }
  }
  if (!epoch_measured_) end_epoch(epoch_at_end());
}

const Batch* TrainingRun::next_batch() {
  activity_.phase("reading a batch", step_);
  return train_loader_->next();
}

void TrainingRun::report_step() {
  if (!leads()) return;
  StepMetrics now;
  now.step = step_;
  now.epoch = epoch_;
  now.loss = window_loss_ / static_cast<double>(std::max<int64_t>(window_steps_, 1));
  now.lr = learning_rate(schedule_, step_ - 1);
  now.images_per_second = static_cast<double>(window_rows_) / window_seconds_;
  now.workers = team_.world();
  now.steps = window_steps_;
  now.sums = window_;
  progress_->step(now);
  if (step_ % settings_.log_every != 0) return;
  metrics_->write(now);
  window_seconds_ = window_loss_ = 0;
  window_rows_ = window_steps_ = 0;
  window_ = StepReport();
}

void TrainingRun::note_activity(Activity* activity) {
  model_.team.activity = activity;
  if (team_.world() == 1) return;
  team_.compute->note_to(activity, Lane::kCompute);
  team_.transfer->note_to(activity, Lane::kTransfer);
}

void TrainingRun::start_trace() {
  trace_ = std::make_unique<Trace>();
  model_.team.trace = trace_.get();
  if (team_.world() == 1) return;
  team_.compute->trace_to(trace_.get(), Lane::kCompute);
  team_.transfer->trace_to(trace_.get(), Lane::kTransfer);
}

// After the last traced step, or the last of all, the leader writes what everybody recorded.
void TrainingRun::trace_step() {
  if (++traced_steps_ < kTracedSteps && !all_steps_done() && stop_ == 0) return trace_->make_room();
  exec_.backend->synchronize(team_.queue);
  if (team_.world() > 1) {
    team_.compute->trace_to(nullptr, Lane::kCompute);
    team_.transfer->trace_to(nullptr, Lane::kTransfer);
  }
  model_.team.trace = nullptr;
  const std::vector<TracedWorker> workers =
      team_.world() > 1 ? gather_traces(*team_.host(), team_.host_exec(exec_), *trace_)
                        : std::vector<TracedWorker>{traced_worker(0, *trace_)};
  if (leads()) write_trace(settings_.trace, workers);
  trace_.reset();
}

int32_t TrainingRun::vote() const {
  if (caught_signal() != 0) return caught_signal();
  return settings_.max_minutes > 0 && since(started_) >= settings_.max_minutes * 60 ? kOutOfTime : 0;
}

// A signal that came after a step's vote would wait for the end of the next one. Where steps are long the workers vote at
// their end too; where they are short, that would take time of every step.
void TrainingRun::vote_again(const StepReport& report) {
  constexpr double kLong = 0.25;  // seconds
  step_seconds_ = report.seconds;
  if (stop_ == 0 && (team_.world() == 1 || report.slowest > kLong)) stop_ = largest(model_, exec_, vote());
}

bool TrainingRun::one_step(const Batch& batch) {
  StepSettings now;
  now.step = step_;
  now.epoch = epoch_;
  now.lr = static_cast<float>(learning_rate(schedule_, step_));
  if (settings_.fc_lr > 0) now.split_lr = now.lr * static_cast<float>(settings_.fc_lr / settings_.lr);
  now.vote = vote();
  now.last = step_seconds_;
  activity_.phase("training", step_);
  now.next = [this]() -> const Batch* {
    ahead_ = nullptr;
    try {
      ahead_ = next_batch();
    } catch (...) {  // this step is good
      ahead_error_ = std::current_exception();
    }
    activity_.phase("training", step_);
    return ahead_;
  };
  if (step_ == profiled_.first) find_cuda()->profile(true);
  const StepReport report = train_step(model_, exec_, batch, now);
  ++step_;
  if (step_ == profiled_.end) find_cuda()->profile(false);
  ++batch_in_epoch_;
  epoch_measured_ = false;
  epoch_sums_.loss += report.loss;
  epoch_sums_.correct += report.correct;
  epoch_sums_.rows += report.rows;
  rows_ += report.rows;
  epoch_rows_ += report.rows;
  window_rows_ += report.rows;
  window_loss_ += report.loss / static_cast<double>(report.rows);
  ++window_steps_;
  window_.seconds += report.seconds;
  window_.device_seconds += report.device_seconds;
  for (size_t t = 0; t < kTrafficKinds; ++t) {
    window_.exposed[t] += report.exposed[t];
    window_.bytes[t] += report.bytes[t];
  }
  stop_ = std::max(stop_, report.vote);
  vote_again(report);
  const bool due = average_every_.epochs ? epoch_at_end() && (epoch_ + 1) % average_every_.count == 0
                                         : step_ % average_every_.count == 0;
  if (averages_ && due) average();
  if (trace_ != nullptr) trace_step();
  return all_steps_done() || stop_ != 0;
}

// Also before whatever looks at the weights: an evaluation, a checkpoint.
void TrainingRun::average() {
  if (averaged_step_ == step_) return;
  average_weights(model_, exec_);
  averaged_step_ = step_;
}

// Evaluates, reports, and moves to the next epoch. An epoch that the run's end cut short is reported the same
// way. A signal leaves everything as it was: whoever goes on with the run evaluates.
void TrainingRun::end_epoch(bool complete) {
  const auto signalled = [] { return static_cast<int32_t>(caught_signal()); };
  if (stop_ != 0 && stop_ != kOutOfTime) return;
  activity_.phase("evaluating", step_);
  if (averages_) average();
  if (settings_.batchnorm == "local" && team_.world() > 1) share_statistics(model_, exec_);
  EpochMetrics m;
  m.step = step_;
  m.epoch = epoch_;
  if (epoch_sums_.rows > 0) {
    m.train_loss = epoch_sums_.loss / static_cast<double>(epoch_sums_.rows);
    m.train_accuracy = static_cast<double>(epoch_sums_.correct) / static_cast<double>(epoch_sums_.rows);
  }
  if (epoch_seconds_ > 0) m.images_per_second = static_cast<double>(epoch_rows_) / epoch_seconds_;
  m.seconds = epoch_seconds_;
  bool best = false;
  if (test_loader_ != nullptr) {
    const EvaluationReport test = evaluate(model_, exec_, *test_loader_, false, signalled);
    if (test.stopped != 0) {
      stop_ = test.stopped;
      return;
    }
    m.test_loss = test.loss;
    m.test_accuracy = test.top1;
    best = test.top1 > best_accuracy_;
    best_accuracy_ = std::max(best_accuracy_, test.top1);
  }
  last_ = m;
  epoch_measured_ = true;
  if (leads()) {
    metrics_->write(m);
    progress_->epoch(m);
  }
  epoch_seconds_ = 0;
  epoch_rows_ = 0;
  if (complete) {
    ++epoch_;
    batch_in_epoch_ = 0;
    epoch_sums_ = StepReport();
  }
  if (best && checkpoint_every_.count > 0) save(true);
}

bool TrainingRun::checkpoint_due(bool epoch_end) const {
  if (checkpoint_every_.count == 0 || saved_step_ == step_) return false;
  if (checkpoint_every_.epochs) return epoch_end && epoch_ % checkpoint_every_.count == 0;
  return step_ % checkpoint_every_.count == 0;
}

TrainingRecord TrainingRun::record() const {
  TrainingRecord r;
  r.net_name = net_.name;
  r.net_text = net_text(net_);
  r.input = net_.input();
  r.class_names = data_.train.class_names;
  r.normalization = data_.normalization;
  r.optimizer = model_.options.optimizer.kind;
  r.seed = model_.options.seed;
  r.world = team_.world();
  r.fc_updates = model_.split_updates;
  r.loss_scale = model_.loss_scale;
  r.step = step_;
  r.epoch = epoch_;
  r.batch_in_epoch = batch_in_epoch_;
  r.epoch_so_far = epoch_sums_;
  r.best_accuracy = best_accuracy_;
  r.settings = {{"config", config_text(settings_)}, {"commit", commit()}, {"version", version()}};
  return r;
}

void TrainingRun::save(bool best) {
  activity_.phase("saving a checkpoint", step_);
  if (averages_) average();
  if (leads()) run_dir_.lock->check();
  SaveOptions options;
  options.keep = settings_.keep;
  options.best = best;
  const std::string warning = save_checkpoint_together(team_.host(), team_.host_exec(exec_), dir_, net_,
                                                       host_tensors(model_, exec_), record(), options);
  if (!warning.empty()) std::fprintf(stderr, "convoy: warning: %s\n", warning.c_str());
  saved_step_ = step_;
}

// A job that is started once more after its run was complete.
int TrainingRun::nothing_left() const {
  std::printf("the run is complete, nothing is left to do; more of it: %s --%s N, with N over %" PRId64 "\n",
              resume_command(dir_).c_str(), settings_.steps > 0 ? "steps" : "epochs",
              settings_.steps > 0 ? settings_.steps : settings_.epochs);
  return 0;
}

void TrainingRun::finish() {
  if (saved_step_ != step_) save(false);
  if (!leads()) return;
  RunSummary s;
  s.status = "done";
  s.steps = step_;
  s.epochs = static_cast<double>(step_) / static_cast<double>(std::max<int64_t>(steps_per_epoch_, 1));
  s.parameters = parameter_count(net_);
  s.last = last_;
  if (best_accuracy_ >= 0) s.best_test_accuracy = best_accuracy_;
  if (seconds_ > 0) s.images_per_second = static_cast<double>(rows_) / seconds_;
  s.training_seconds = seconds_;
  s.total_seconds = since(started_);
  s.device = exec_.backend->name;
  s.threads = exec_.threads;
  s.workers = team_.world();
  write_summary(dir_, settings_, s);
  if (!std::isnan(last_.test_accuracy))
    std::printf("test accuracy %.2f %% (best %.2f %%), ", 100 * last_.test_accuracy, 100 * best_accuracy_);
  if (seconds_ > 0) std::printf("%.0f images/s, ", s.images_per_second);
  std::printf("%s of training\n", duration_text(seconds_).c_str());
  std::printf("run directory: %s\ntry next:\n", dir_.c_str());
  for (const std::string& command : next_commands(settings_, dir_)) std::printf("  %s\n", command.c_str());
  std::fflush(stdout);
}

}  // namespace convoy
