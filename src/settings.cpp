#include "settings.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "nearest.h"

namespace convoy {
namespace {

constexpr int64_t kManyRows = int64_t{1} << 24;
constexpr int64_t kMany = int64_t{1} << 53;  // a whole number up to here survives JSON's doubles
constexpr double kHuge = 1e9;

std::vector<Setting> make_table() {
  using Whole = Setting::Whole;
  using Real = Setting::Real;
  using Word = Setting::Word;
  using Flag = Setting::Flag;
  using S = Settings;
  const char* data = "Net and data";
  const char* length = "Length of the run (it ends where the first of the given limits is reached)";
  const char* training = "Training";
  const char* workers = "Several workers";
  const char* machine = "Machine";
  const char* run = "Run directory";
  static const std::string default_epochs = text(kDefaultEpochs, " when no limit is given");
  return {
      {"model", Word{&S::model, {}}, "NAME|FILE.net", "Built-in net (see convoy summary --help) or net file",
       data, nullptr},
      {"data", Word{&S::data, {}}, "NAME|DIR",
       "shapes, mnist, cifar10, cifar100, synthetic:HxWxC:classes, or a folder of class folders of JPEG and "
       "PNG images",
       data, nullptr},
      {"data-dir", Word{&S::data_dir, {}}, "DIR", "Where the files of mnist, cifar10 or cifar100 lie", data,
       "data/<name>"},
      {"image-size", Whole{&S::image_size, 1, 4096}, "N",
       "Folders: side in pixels of the square that images are resized and cropped to", data, "224"},
      {"mean", Word{&S::mean, {}}, "X[,X...]",
       "Means that are subtracted from the pixels / 255: one for all channels or one a channel", data,
       "the data set's"},
      {"std", Word{&S::stddev, {}}, "X[,X...]",
       "Standard deviations that the pixels / 255 are then divided by", data, "the data set's"},
      {"augment", Word{&S::augment, {"none", "standard"}}, "none|standard",
       "standard: random crop of the padded image and horizontal flip, as far as the data set allows it",
       data, nullptr},
      {"no-shuffle", Flag{&S::no_shuffle}, "", "Take the images in the data set's order in every epoch", data,
       nullptr},
      {"init", Word{&S::init, {}}, "FILE", "Initial weights from a safetensors file (PyTorch's names)", data,
       "random, as PyTorch's layers"},
      {"epochs", Whole{&S::epochs, 1, kMany}, "N", "Epochs; not together with --steps", length,
       default_epochs.c_str()},
      {"steps", Whole{&S::steps, 1, kMany}, "N", "Training steps", length, "no limit"},
      {"max-minutes", Real{&S::max_minutes, 0, kHuge, true}, "M", "Minutes of wall-clock time", length,
       "no limit"},
      {"batch-size", Whole{&S::batch_size, 1, kManyRows}, "N", "Images a step", training, nullptr},
      {"loss", Word{&S::loss, {"softmax", "logistic"}}, "softmax|logistic",
       "Softmax cross-entropy, or independent logistic units", training, nullptr},
      {"optimizer", Word{&S::optimizer, {"sgd", "adamw"}}, "sgd|adamw", "Optimizer, as in PyTorch", training,
       nullptr},
      {"lr", Real{&S::lr, 0, kHuge}, "X", "Learning rate", training, "0.05; adamw: 0.001"},
      {"momentum", Real{&S::momentum, 0, 1}, "X", "Momentum (sgd)", training, nullptr},
      {"nesterov", Flag{&S::nesterov}, "", "Nesterov momentum (sgd)", training, nullptr},
      {"weight-decay", Real{&S::weight_decay, 0, kHuge}, "X", "Weight decay", training, "0; adamw: 0.01"},
      {"clip-norm", Real{&S::clip_norm, 0, kHuge}, "X", "Largest norm of the whole gradient; 0: no clipping",
       training, nullptr},
      {"lr-schedule", Word{&S::lr_schedule, {"constant", "step", "cosine", "linear"}},
       "constant|step|cosine|linear",
       "Course of the learning rate after the warm-up; cosine and linear end at 0 with the run", training,
       nullptr},
      {"warmup-epochs", Real{&S::warmup_epochs, 0, kHuge}, "X",
       "Epochs (parts of one too) in which the learning rate grows linearly", training, nullptr},
      {"lr-step-every", Real{&S::lr_step_every, 0, kHuge, true}, "X",
       "--lr-schedule step: epochs between two drops", training, nullptr},
      {"lr-gamma", Real{&S::lr_gamma, 0, 1}, "X", "--lr-schedule step: factor of a drop", training, nullptr},
      {"seed", Whole{&S::seed, 0, std::numeric_limits<int64_t>::max()}, "N",
       "Seed of weights, order, augmentation and dropout", training, nullptr},
      {"workers", Whole{&S::workers, 0, 1024}, "K",
       "Workers as threads of this process; under mpirun or srun --mpi=pmix one worker a rank", workers, "1"},
      {"parallel", Word{&S::parallel, {"data", "hybrid", "model"}}, "data|hybrid|model",
       "data: every worker holds all weights; hybrid: fully connected layers are split over the workers; "
       "model: every layer with weights is",
       workers, nullptr},
      {"scheme", Word{&S::scheme, {"a", "b", "c"}}, "a|b|c",
       "How rows reach the split layers: all at once, one sender a pass, everyone a part a pass", workers,
       "c; with --parallel model a"},
      {"fc-batch-size", Whole{&S::fc_batch_size, 1, kManyRows}, "N",
       "Rows of a pass through the split layers", workers,
       "scheme a: --batch-size; b, c: a worker's share of it"},
      {"fc-update", Word{&S::fc_update, {"step", "pass"}}, "step|pass",
       "Update the split layers once a step, or after each pass (schemes b and c)", workers, nullptr},
      {"fc-lr", Real{&S::fc_lr, 0, kHuge, true}, "X", "Learning rate of the split layers", workers, "--lr"},
      {"batchnorm", Word{&S::batchnorm, {"sync", "local"}}, "sync|local",
       "Statistics over the global batch, or over each worker's rows", workers, nullptr},
      {"sync", Word{&S::sync, {"step", "average"}}, "step|average",
       "Sum gradients in each step, or train apart and average the weights from time to time", workers,
       nullptr},
      {"average-every", Word{&S::average_every, {}, true}, "H|epoch",
       "--sync average: steps, or epochs with the suffix epoch, between two averages", workers, nullptr},
      {"average-init", Word{&S::average_init, {"same", "different"}}, "same|different",
       "--sync average: whether the workers start from the same weights", workers, nullptr},
      {"link-gbps", Real{&S::link_gbps, 0, kHuge}, "X",
       "Simulated link: GB/s of each worker, out and in; 0: none", workers, nullptr},
      {"link-us", Real{&S::link_us, 0, kHuge}, "Y", "Simulated link: microseconds a message", workers,
       nullptr},
      {"trace", Word{&S::trace, {}}, "FILE",
       "Write a trace of the first 20 steps, all queues of all workers, for Perfetto or chrome://tracing",
       workers, nullptr},
      {"device", Word{&S::device, {"cpu", "cuda", "auto"}}, "cpu|cuda|auto",
       "What the workers compute on; auto: CUDA where there is a device", machine, nullptr},
      {"precision", Word{&S::precision, {"f32", "tf32", "bf16", "f16"}}, "f32|tf32|bf16|f16",
       "Of activations and the weights that are read; master weights, gradients of weights and optimizer "
       "state are f32. "
       "tf32: f32, multiplied with 11 bits. All but f32 need --device cuda",
       machine, nullptr},
      {"no-graph", Flag{&S::no_graph}, "",
       "On CUDA, queue every step's operations one by one instead of recording them", machine, nullptr},
      {"profile-steps", Word{&S::profile_steps, {}}, "A:B",
       "On CUDA, let a profiler that waits for it (nsys, ncu, nvprof: see the README) record steps A to B - "
       "1",
       machine, nullptr},
      {"transport", Word{&S::transport, {"auto", "nccl", "local", "staged"}}, "auto|nccl|local|staged",
       "How workers on CUDA exchange: by NCCL, as threads that share devices, or through the host's memory "
       "over MPI; auto: "
       "NCCL where every worker has a device and the library is found",
       machine, nullptr},
      {"threads", Whole{&S::threads, 0, 4096}, "N",
       "OpenMP threads of a worker; 0: its share of all that this process may use", machine, nullptr},
      {"isa", Word{&S::isa, {"auto", "plain", "avx2", "avx512"}}, "auto|plain|avx2|avx512",
       "Instruction set of the kernels; auto: the best one of this machine", machine, nullptr},
      {"watchdog", Whole{&S::watchdog, 0, 1000000}, "SECONDS",
       "End the run with status 1 when it makes no progress for so long, and say what each worker was doing; "
       "0: never",
       machine, nullptr},
      {"out", Word{&S::out, {}}, "DIR", "Run directory", run, "runs/<model>-<time>"},
      {"checkpoint-every", Word{&S::checkpoint_every, {}, true}, "500|1epoch",
       "Steps, or epochs with the suffix epoch, between two checkpoints; 0: one at the end", run, nullptr},
      {"keep", Whole{&S::keep, 0, kMany}, "N", "Newest checkpoints that are kept beside the best one; 0: all",
       run, nullptr},
      {"resume", Word{&S::resume, {}}, "DIR|FILE|auto",
       "Go on with the run in DIR, or from checkpoint FILE; auto: from --out if a checkpoint is there, else "
       "start",
       run, "a new run"},
      {"log-every", Whole{&S::log_every, 1, kMany}, "N", "Steps between two lines of metrics.jsonl", run,
       nullptr},
  };
}

}  // namespace

const std::vector<Setting>& setting_table() {
  static const std::vector<Setting> table = make_table();
  return table;
}

std::string problem(const Setting::Whole& kind, int64_t value) {
  if (value >= kind.min && value <= kind.max) return "";
  if (kind.max >= kMany) return text("expected a whole number, at least ", kind.min);
  return text("expected a whole number from ", kind.min, " to ", kind.max);
}

std::string problem(const Setting::Real& kind, double value) {
  const bool enough = kind.above ? value > kind.min : value >= kind.min;  // false for NaN
  if (enough && value <= kind.max) return "";
  return text("expected a number ", kind.above ? "above " : "from ", kind.min,
              kind.above ? ", at most " : " to ", kind.max);
}

std::string problem(const Setting::Word& kind, const std::string& value) {
  if (kind.choices.empty()) return "";
  std::string list;
  for (const std::string& choice : kind.choices) {
    if (choice == value) return "";
    list += (list.empty() ? "" : ", ") + choice;
  }
  return "expected one of " + list;
}

int64_t parse_whole(const std::string& option, const std::string& value, int64_t min, int64_t max) {
  errno = 0;
  char* end = nullptr;
  const long long number = std::strtoll(value.c_str(), &end, 10);
  const std::string wrong = problem(Setting::Whole{nullptr, min, max}, number);
  const bool complete =
      value.find_first_not_of("+-0123456789") == std::string::npos && end != value.c_str() && *end == '\0';
  if (!complete || errno == ERANGE || !wrong.empty())
    input_error("--", option, " '", value,
                "': ", wrong.empty() ? problem(Setting::Whole{nullptr, min, max}, min - 1) : wrong);
  return number;
}

double parse_real(const std::string& option, const std::string& value, const Setting::Real& kind) {
  char* end = nullptr;
  const double number = std::strtod(value.c_str(), &end);
  const std::string wrong = problem(kind, number);
  const bool complete =
      value.find_first_of(" \t\n") == std::string::npos && end != value.c_str() && *end == '\0';
  if (!complete || !wrong.empty())
    input_error("--", option, " '", value, "': ", wrong.empty() ? problem(kind, std::nan("")) : wrong);
  return number;
}

void set_from_text(const Setting& setting, const std::string& value, Settings& settings) {
  if (const auto* whole = std::get_if<Setting::Whole>(&setting.value)) {
    settings.*whole->field = parse_whole(setting.name, value, whole->min, whole->max);
  } else if (const auto* real = std::get_if<Setting::Real>(&setting.value)) {
    settings.*real->field = parse_real(setting.name, value, *real);
  } else if (const auto* word = std::get_if<Setting::Word>(&setting.value)) {
    const std::string wrong = problem(*word, value);
    if (!wrong.empty())
      input_error("--", setting.name, " '", value, "': ", wrong, did_you_mean(value, word->choices));
    settings.*word->field = value;
  } else {
    settings.*std::get<Setting::Flag>(setting.value).field = value == "true";
  }
}

Every parse_every(const char* option, const std::string& value) {
  const std::string suffix = "epoch";
  Every every;
  std::string count = value == suffix ? "1epoch" : value;
  if (count.size() > suffix.size() &&
      count.compare(count.size() - suffix.size(), suffix.size(), suffix) == 0) {
    every.epochs = true;
    count.resize(count.size() - suffix.size());
  }
  if (count.empty() || count.size() > 15 || count.find_first_not_of("0123456789") != std::string::npos)
    input_error("--", option, " '", value, "': expected steps, such as 500, or epochs, such as 1epoch");
  every.count = std::stoll(count);
  return every;
}

StepWindow parse_window(const char* option, const std::string& value) {
  StepWindow window;
  if (value.empty()) return window;
  const size_t colon = value.find(':');
  const auto number = [&](const std::string& digits) -> int64_t {
    if (digits.empty() || digits.size() > 15 || digits.find_first_not_of("0123456789") != std::string::npos)
      return -1;
    return std::stoll(digits);
  };
  if (colon != std::string::npos) window = {number(value.substr(0, colon)), number(value.substr(colon + 1))};
  if (window.first < 0 || window.end <= window.first)
    input_error("--", option, " '", value,
                "': expected two steps, the first and the one after the last, such as 20:30");
  return window;
}

void drop_overruled(Settings& settings, const Settings& file, Given& from_file, const Given& on_line) {
  const Settings defaults;
  const auto drop = [&](std::initializer_list<const char*> names) {
    for (const Setting& setting : setting_table())
      for (const char* name : names) {
        if (std::string(name) != setting.name || on_line.count(name) != 0 || from_file.erase(name) == 0)
          continue;
        std::visit([&](const auto& value) { settings.*value.field = defaults.*value.field; }, setting.value);
      }
  };
  if (on_line.count("steps") != 0) drop({"epochs"});
  if (on_line.count("epochs") != 0) drop({"steps"});
  if (settings.optimizer != file.optimizer) drop({"lr", "momentum", "nesterov", "weight-decay"});
  if (settings.lr_schedule != file.lr_schedule) drop({"lr-step-every", "lr-gamma"});
  if (settings.parallel != file.parallel) drop({"scheme", "fc-batch-size", "fc-update", "fc-lr"});
  if (settings.scheme != file.scheme) drop({"fc-batch-size", "fc-update"});
  if (settings.sync != file.sync) drop({"average-every", "average-init"});
  if (on_line.count("data") != 0) drop({"data-dir", "image-size", "mean", "std"});
  if (on_line.count("resume") != 0 && settings.resume != "auto") drop({"init"});
}

void resolve(Settings& s, const Given& given) {
  if (s.epochs > 0 && s.steps > 0)
    input_error("--epochs ", s.epochs, " and --steps ", s.steps, " contradict each other: give one of them");
  if (s.epochs == 0 && s.steps == 0 && s.max_minutes == 0) s.epochs = kDefaultEpochs;

  const bool adamw = s.optimizer == "adamw";
  if (adamw && given.count("momentum") != 0 && s.momentum != 0)
    input_error("--momentum has no meaning with --optimizer adamw: leave it out");
  if (adamw && s.nesterov) input_error("--nesterov has no meaning with --optimizer adamw: leave it out");
  if (!adamw && s.nesterov && s.momentum == 0) input_error("--nesterov needs --momentum above 0");
  if (adamw) s.momentum = 0;
  if (adamw && given.count("lr") == 0) s.lr = 0.001;
  if (adamw && given.count("weight-decay") == 0) s.weight_decay = 0.01;

  for (const char* name : {"lr-step-every", "lr-gamma"})
    if (given.count(name) != 0 && s.lr_schedule != "step")
      input_error("--", name, " has no meaning with --lr-schedule ", s.lr_schedule,
                  ": give --lr-schedule step, or leave it out");
  if ((s.lr_schedule == "cosine" || s.lr_schedule == "linear") && s.epochs == 0 && s.steps == 0)
    input_error("--lr-schedule ", s.lr_schedule,
                " has to know the length of the run: give --epochs or --steps");

  const bool splits = s.parallel != "data";
  for (const char* name : {"scheme", "fc-batch-size", "fc-lr"})
    if (given.count(name) != 0 && !splits)
      input_error("--", name,
                  " has no meaning with --parallel data, which splits no layer: give --parallel "
                  "hybrid, or leave it out");
  if (s.fc_update == "pass" && !splits)
    input_error("--fc-update pass needs split layers: give --parallel hybrid");
  if (s.parallel == "model" && given.count("scheme") == 0) s.scheme = "a";
  if (s.fc_update == "pass" && s.scheme == "a")
    input_error("--fc-update pass has no meaning with --scheme a, which has one pass: give --scheme b or c");
  if (s.fc_update == "pass" && s.clip_norm > 0)
    input_error(
        "--clip-norm needs the gradient of all layers, which --fc-update pass does not wait for: leave "
        "one of them out");
  if (s.fc_batch_size > 0 && s.scheme == "a" && s.fc_batch_size != s.batch_size)
    input_error("--fc-batch-size ", s.fc_batch_size, " with --scheme a, whose one pass has all ",
                s.batch_size, " rows: give --scheme b or c");
  if (s.fc_batch_size > s.batch_size)
    input_error("--fc-batch-size ", s.fc_batch_size, " is more than --batch-size ", s.batch_size);
  for (const char* name : {"average-every", "average-init"})
    if (given.count(name) != 0 && s.sync != "average")
      input_error("--", name, " has no meaning without --sync average");
  if (s.sync == "average" && splits)
    input_error("--sync average averages whole nets, --parallel ", s.parallel,
                " splits them: give --parallel data");
  if (parse_every("average-every", s.average_every).count == 0)
    input_error("--average-every 0: the workers would never hear of each other");
  if (s.link_us > 0 && s.link_gbps == 0) input_error("--link-us needs --link-gbps, the speed of the link");

  parse_every("checkpoint-every", s.checkpoint_every);
  parse_window("profile-steps", s.profile_steps);
  parse_mean(s.mean);
  parse_stddev(s.stddev);
  for (const auto& [name, value] : {std::pair{"--model", s.model}, std::pair{"--data", s.data}})
    if (value.empty()) input_error(name, " is empty: give a name");
  if (s.resume == "auto" && s.out.empty())
    input_error("--resume auto needs --out DIR: the directory to look in");
  if (!s.init.empty() && !s.resume.empty() && s.resume != "auto" && given.count("init") != 0)
    input_error("--init and --resume contradict each other: a checkpoint holds its own weights");
}

namespace {

std::vector<float> parse_channels(const char* option, const std::string& value, const Setting::Real& kind) {
  std::vector<float> numbers;
  for (size_t begin = 0; !value.empty() && begin <= value.size();) {
    const size_t end = std::min(value.find(',', begin), value.size());
    const std::string part = value.substr(begin, end - begin);
    try {
      numbers.push_back(static_cast<float>(parse_real(option, part, kind)));
    } catch (const InputError&) {
      input_error("--", option, " '", value,
                  "': expected one number, or one a channel with commas between them, each from ", kind.min,
                  " to ", kind.max, " (in units of pixels / 255)");
    }
    begin = end + 1;
  }
  return numbers;
}

void replace_constants(const char* option, std::vector<float> numbers, std::vector<float>& constants) {
  if (numbers.empty()) return;
  if (numbers.size() == 1) numbers.resize(constants.size(), numbers[0]);
  if (numbers.size() != constants.size())
    input_error("--", option, " has ", numbers.size(), " numbers, the images have ", constants.size(),
                constants.size() == 1 ? " channel" : " channels", ": give one number, or one a channel");
  constants = std::move(numbers);
}

}  // namespace

std::vector<float> parse_mean(const std::string& value) {
  return parse_channels("mean", value, {nullptr, 0, 1});
}

std::vector<float> parse_stddev(const std::string& value) {
  return parse_channels("std", value, {nullptr, 1e-6, 1});
}

void apply_normalization(const Settings& settings, Normalization& normalization) {
  replace_constants("mean", parse_mean(settings.mean), normalization.mean);
  replace_constants("std", parse_stddev(settings.stddev), normalization.stddev);
}

DataOptions data_options(const Settings& settings) {
  DataOptions options;
  options.name = settings.data;
  options.dir = settings.data_dir;
  options.image_size = settings.image_size;
  options.seed = static_cast<uint64_t>(settings.seed);
  return options;
}

PlanOptions plan_options(const Settings& s, int rank, int world) {
  PlanOptions o;
  o.rank = rank;
  o.world = world;
  o.parallel = s.parallel == "hybrid"  ? Parallel::kHybrid
               : s.parallel == "model" ? Parallel::kModel
                                       : Parallel::kData;
  o.scheme = s.scheme == "a" ? Scheme::kA : s.scheme == "b" ? Scheme::kB : Scheme::kC;
  o.fc_batch_size = s.fc_batch_size;
  o.update_each_pass = s.fc_update == "pass";
  o.sync_batchnorm = s.batchnorm == "sync";
  o.average = s.sync == "average" && world > 1;
  return o;
}

}  // namespace convoy
