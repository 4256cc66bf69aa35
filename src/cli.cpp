#include "cli.h"

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <deque>
#include <functional>
#include <iostream>
#include <map>
#include <system_error>

#include "commands.h"
#include "config.h"
#include "info.h"
#include "nearest.h"
#include "run_dir.h"
#include "version.h"

namespace convoy {
namespace {

constexpr const char* kExitStatuses =
    "Exit status: 0 done, 2 bad usage or input, 75 saved on a signal and wants to be run again (--resume), 1 "
    "any other failure.";

// A default as --help shows it: the field's own value where the table has no text.
std::string default_text(const Setting& setting) {
  if (setting.default_text != nullptr) return setting.default_text;
  const Settings defaults;
  return std::visit(
      [&](const auto& value) {
        const std::string shown = text(defaults.*value.field);
        return shown.empty() ? "none" : shown;
      },
      setting.value);
}

std::string with_default(const std::string& help, const std::string& value) {
  return help + " (default " + value + ")";
}

// Options of the small commands: each keeps its text until the whole line is read, then sets its field.
class Options {
 public:
  explicit Options(CLI::App* app) : app_(app) {}

  void whole(const std::string& name, int64_t& field, int64_t min, int64_t max, const std::string& help,
             const std::string& shown = "") {
    add(name, "N", with_default(help, shown.empty() ? text(field) : shown),
        [name, &field, min, max](const std::string& value) { field = parse_whole(name, value, min, max); });
  }
  CLI::Option* word(const std::string& name, std::string& field, const char* kind, const std::string& help) {
    return add(name, kind, help, [&field](const std::string& value) { field = value; });
  }
  void flag(const std::string& name, bool& field, const std::string& help) {
    app_->add_flag("--" + name, field, help);
  }
  void real(const std::string& name, double& field, const Setting::Real& kind, const std::string& help,
            const std::string& shown) {
    add(name, "X", with_default(help, shown),
        [name, &field, kind](const std::string& value) { field = parse_real(name, value, kind); });
  }
  void threads(int64_t& field) {
    whole("threads", field, 0, 4096, "OpenMP threads; 0: all that this process may use");
  }
  void choice(const std::string& name, std::string& field, const char* kind,
              const std::vector<std::string>& choices, const std::string& help,
              const std::string& shown = "") {
    const Setting::Word word{nullptr, choices};
    add(name, kind, with_default(help, shown.empty() ? field : shown),
        [name, &field, word](const std::string& value) {
          const std::string wrong = problem(word, value);
          if (!wrong.empty())
            input_error("--", name, " '", value, "': ", wrong, did_you_mean(value, word.choices));
          field = value;
        });
  }
  void isa(std::string& field) {
    choice("isa", field, "auto|plain|avx2|avx512", {"auto", "plain", "avx2", "avx512"},
           "Instruction set of the kernels");
  }
  void device(std::string& field) {
    choice("device", field, "cpu|cuda|auto", {"cpu", "cuda", "auto"},
           "What computes; auto: CUDA where there is a device");
  }
  void precision(std::string& field) {
    choice("precision", field, "f32|tf32|bf16|f16", {"f32", "tf32", "bf16", "f16"},
           "Of activations and the weights that are read; all but f32 need --device cuda");
  }
  void apply() const {
    for (const auto& [option, set] : fields_)
      if (option->count() > 0) set(option->as<std::string>());
  }

 private:
  CLI::Option* add(const std::string& name, const char* kind, const std::string& help,
                   std::function<void(const std::string&)> set) {
    texts_.emplace_back();
    CLI::Option* option = app_->add_option("--" + name, texts_.back(), help)->type_name(kind);
    fields_.emplace_back(option, std::move(set));
    return option;
  }

  CLI::App* app_;
  std::deque<std::string> texts_;
  std::vector<std::pair<CLI::Option*, std::function<void(const std::string&)>>> fields_;
};

class TrainOptions {
 public:
  explicit TrainOptions(CLI::App* app) {
    app->add_option("--config", config_,
                    "Settings from a TOML file with the names below as keys; the command line wins")
        ->type_name("FILE.toml");
    for (const Setting& setting : setting_table()) {
      const std::string name = std::string("--") + setting.name;
      CLI::Option* option = nullptr;
      if (std::holds_alternative<Setting::Flag>(setting.value)) {
        flags_.push_back(false);
        option = app->add_flag(name, flags_.back(), with_default(setting.help, "off"));
      } else {
        texts_.emplace_back();
        option = app->add_option(name, texts_.back(), with_default(setting.help, default_text(setting)))
                     ->type_name(setting.kind);
      }
      option->group(setting.group);
      options_.emplace_back(&setting, option);
    }
  }

  // The defaults, then the config of the run that is resumed, then --config, then the command line.
  Settings settings() const {
    Settings line;
    Given on_line, given;
    for (const auto& [setting, option] : options_)
      if (option->count() > 0) {
        set_from_text(*setting, option_text(*setting, *option), line);
        on_line.insert(setting->name);
      }
    Settings settings;
    const std::string resumed = resumed_config(line.resume, line.out);
    if (!resumed.empty()) read_config(resumed, settings, given);
    if (!config_.empty()) read_config(config_, settings, given);
    const Settings file = settings;
    for (const auto& [setting, option] : options_)
      if (option->count() > 0) set_from_text(*setting, option_text(*setting, *option), settings);
    drop_overruled(settings, file, given, on_line);
    given.insert(on_line.begin(), on_line.end());
    resolve(settings, given);
    return settings;
  }

 private:
  static std::string option_text(const Setting& setting, const CLI::Option& option) {
    if (std::holds_alternative<Setting::Flag>(setting.value)) return option.as<bool>() ? "true" : "false";
    return option.as<std::string>();
  }

  std::string config_;
  std::deque<std::string> texts_;
  std::deque<bool> flags_;
  std::vector<std::pair<const Setting*, CLI::Option*>> options_;
};

// CLI11's complaint as one line that says what to do.
[[noreturn]] void bad_usage(const CLI::App& app, const CLI::App* command, const CLI::ParseError& error) {
  const std::string help =
      " (convoy " + (command == nullptr ? "" : command->get_name() + " ") + "--help lists them)";
  const CLI::App& where = command == nullptr ? app : *command;
  if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    std::vector<std::string> known;
    if (command == nullptr)
      for (const CLI::App* one : app.get_subcommands({})) known.push_back(one->get_name());
    for (const CLI::Option* option : where.get_options())
      for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
    for (const std::string& extra : app.remaining(true)) {
      const std::string word = extra.substr(0, extra.find('='));
      if (word.size() > 1 && word[0] == '-')
        input_error("unknown option ", word, did_you_mean(word, known), help);
      if (command == nullptr) input_error("unknown command '", word, "'", did_you_mean(word, known), help);
      input_error("unexpected argument '", extra, "'", help);
    }
  }
  std::string message = error.what();
  const std::string option = message.substr(0, message.find(':'));
  if (dynamic_cast<const CLI::ArgumentMismatch*>(&error) != nullptr && option.rfind("--", 0) == 0)
    input_error(option,
                message.find("At Most") != std::string::npos ? " is given more than once" : " needs a value",
                help);
  for (char& letter : message)
    if (letter == '\n') letter = ' ';
  input_error(message, help);
}

// A file that the program opens must not become its standard output because that one was closed.
void keep_standard_files() {
  for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR)) {
    if (fd <= STDERR_FILENO) continue;
    close(fd);
    return;
  }
}

// Whoever reads what a command printed has to get all of it.
void check_printed() {
  std::cout.flush();
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0 || !std::cout)
    throw Error(text("cannot write to the standard output: ", std::generic_category().message(errno)));
}

}  // namespace

int run_command_line(int argc, char** argv) {
  keep_standard_files();
  CLI::App app("Convoy trains convolutional networks.", "convoy");
  app.footer(kExitStatuses);
  app.set_version_flag("--version", text("convoy ", version(), " (commit ", commit(), ")"));
  app.require_subcommand(0, 1);
  std::map<const CLI::App*, std::function<int()>> commands;
  const auto add = [&](const char* name, const char* help) {
    CLI::App* command = app.add_subcommand(name, help);
    command->get_formatter()->column_width(34);
    command->footer(kExitStatuses);
    command->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::Throw);
    return command;
  };

  CLI::App* train = add("train", "Train a net; without arguments: cifar_cnn on the built-in shapes data set");
  const TrainOptions train_options(train);
  commands[train] = [&] {
    const Settings settings = train_options.settings();
    std::signal(SIGPIPE, SIG_IGN);  // a run outlives the reader of its lines
    return command_train(settings);
  };

  EvalSettings eval;
  CLI::App* eval_app =
      add("eval", "Loss, top-1 and top-5 accuracy and confusion matrix of a checkpoint on test data");
  Options eval_options(eval_app);
  eval_options
      .word("checkpoint", eval.checkpoint, "FILE|DIR", "Checkpoint, or a run directory: its newest one")
      ->required();
  eval_options.word("data", eval.data, "NAME|DIR", "Data set (default: the one of the training)");
  eval_options.word("data-dir", eval.data_dir, "DIR",
                    "Where the files of mnist, cifar10 or cifar100 lie (default: as in training)");
  eval_options.whole("image-size", eval.image_size, 1, 4096, "Folders: side in pixels of the images",
                     "as in training");
  eval_options.whole("batch-size", eval.batch_size, 1, int64_t{1} << 24, "Images at a time");
  eval_options.device(eval.device);
  eval_options.precision(eval.precision);
  eval_options.threads(eval.threads);
  eval_options.isa(eval.isa);
  eval_options.flag("json", eval.json, "Print one JSON object");
  commands[eval_app] = [&] {
    eval_options.apply();
    return command_eval(eval);
  };

  PredictSettings predict;
  CLI::App* predict_app = add("predict", "Classes and probabilities of image files");
  Options predict_options(predict_app);
  predict_options
      .word("checkpoint", predict.checkpoint, "FILE|DIR", "Checkpoint, or a run directory: its newest one")
      ->required();
  predict_options.whole("top", predict.top, 1, 1 << 20,
                        "Classes that are listed for each image, most probable first");
  predict_options.device(predict.device);
  predict_options.precision(predict.precision);
  predict_options.threads(predict.threads);
  predict_options.isa(predict.isa);
  predict_options.flag("json", predict.json, "Print one JSON object an image");
  predict_app->add_option("images", predict.images, "JPEG or PNG files, or folders of them")
      ->required()
      ->type_name("FILE|DIR");
  commands[predict_app] = [&] {
    predict_options.apply();
    return command_predict(predict);
  };

  SummarySettings summary;
  CLI::App* summary_app =
      add("summary", "Layers of a net, what each costs, and the memory of a training step");
  std::string nets;
  for (const std::string& name : builtin_nets()) nets += (nets.empty() ? "" : ", ") + name;
  summary_app
      ->add_option("net,--model", summary.model, with_default("Net file, or one of " + nets, summary.model))
      ->type_name("NAME|FILE.net");
  Options summary_options(summary_app);
  summary_options.word("input", summary.input, "HxWxC",
                       "Height, width, channels of the images (default: the net's own)");
  summary_options.whole("classes", summary.classes, 1, 1 << 24, "Outputs of the last layer", "the net's own");
  summary_options.whole("batch-size", summary.batch_size, 1, int64_t{1} << 24, "Images a training step");
  summary_options.choice("optimizer", summary.optimizer, "sgd|adamw", {"sgd", "adamw"},
                         "Optimizer whose state the memory counts");
  summary_options.threads(summary.threads);
  summary_options.isa(summary.isa);
  commands[summary_app] = [&] {
    summary_options.apply();
    return command_summary(summary);
  };

  PlanSettings plan;
  CLI::App* plan_app =
      add("plan", "How several workers divide a step of a net, what travels, and the modelled time");
  plan_app->add_option("net,--model", plan.model, with_default("Net file, or one of " + nets, plan.model))
      ->type_name("NAME|FILE.net");
  Options plan_options(plan_app);
  plan_options.word("input", plan.input, "HxWxC",
                    "Height, width, channels of the images (default: the net's own)");
  plan_options.whole("classes", plan.classes, 1, 1 << 24, "Outputs of the last layer", "the net's own");
  plan_options.whole("batch-size", plan.batch_size, 1, int64_t{1} << 24, "Images a step, of all workers");
  plan_options.whole("workers", plan.workers, 1, 256, "Workers");
  plan_options.choice("parallel", plan.parallel, "data|hybrid|model", {"data", "hybrid", "model"},
                      "What is split: nothing, the fully connected half, every layer");
  plan_options.choice(
      "scheme", plan.scheme, "a|b|c", {"a", "b", "c"},
      "How rows reach the split layers: all at once, one sender a pass, everyone a part a pass",
      "c; with --parallel model a");
  plan_options.whole("fc-batch-size", plan.fc_batch_size, 1, int64_t{1} << 24,
                     "Rows of a pass, schemes b and c", "batch size / workers");
  plan_options.choice("fc-update", plan.fc_update, "step|pass", {"step", "pass"},
                      "Update the split half once a");
  plan_options.word(
      "figures", plan.figures, "FILE.toml",
      "Speed of layers and links, such as bench/figures/k20.toml (default: layers as measured here, "
      "with so many workers at a time)");
  plan_options.real("link-gbps", plan.link_gbps, {nullptr, 0, 1e9, true},
                    "GB/s of a worker's link, either way", "the figures', else unlimited");
  plan_options.real("link-us", plan.link_us, {nullptr, 0, 1e9}, "Microseconds a message",
                    "the figures', else 0");
  plan_options.choice("precision", plan.precision, "f32|bf16|f16", {"f32", "bf16", "f16"},
                      "Of the activations that travel; layers' times stay as they are");
  plan_options.whole(
      "threads", plan.threads, 0, 4096,
      "OpenMP threads of a worker that is measured; 0: its share of what this process may use");
  plan_options.isa(plan.isa);
  plan_options.flag("json", plan.json, "Print one JSON object");
  commands[plan_app] = [&] {
    plan_options.apply();
    return command_plan(plan);
  };

  BenchSchemesSettings schemes;
  CLI::App* schemes_app =
      add("bench-schemes", "Steps of a net in every mode and exchange scheme: speed, waiting, bytes, memory");
  schemes_app
      ->add_option("net,--model", schemes.model, with_default("Net file, or one of " + nets, schemes.model))
      ->type_name("NAME|FILE.net");
  Options schemes_options(schemes_app);
  schemes_options.word("input", schemes.input, "HxWxC",
                       "Height, width, channels of the images (default: the net's own)");
  schemes_options.whole("classes", schemes.classes, 1, 1 << 24, "Outputs of the last layer", "the net's own");
  schemes_options.whole("batch-size", schemes.batch_size, 1, int64_t{1} << 24,
                        "Images a step, of all workers");
  schemes_options.word(
      "workers", schemes.workers, "K,K,...",
      "Workers, one table for all numbers (default 2, or one a CUDA device; under MPI the processes)");
  schemes_options.word("modes", schemes.modes, "MODE,...",
                       with_default("Of data, hybrid, model: what is split", schemes.modes));
  schemes_options.word("schemes", schemes.schemes, "S,...",
                       with_default("Of a, b, c: how rows reach the split layers", schemes.schemes));
  schemes_options.whole("fc-batch-size", schemes.fc_batch_size, 1, int64_t{1} << 24,
                        "Rows of a pass, schemes b and c", "batch size / workers");
  schemes_options.whole("steps", schemes.steps, 1, 1 << 20, "Measured steps of each row of the table");
  schemes_options.flag("plan", schemes.plan,
                       "Also measure the layers and model each step, as convoy plan does (default off)");
  schemes_options.device(schemes.device);
  schemes_options.precision(schemes.precision);
  schemes_options.choice("transport", schemes.transport, "auto|nccl|local|staged",
                         {"auto", "nccl", "local", "staged"}, "How workers on CUDA exchange, as in train");
  schemes_options.whole("threads", schemes.threads, 0, 4096,
                        "OpenMP threads of a worker; 0: its share of what this process may use");
  schemes_options.isa(schemes.isa);
  schemes_options.real("link-gbps", schemes.link_gbps, {nullptr, 0, 1e9, true},
                       "Simulate links: GB/s of each worker's, either way", "none");
  schemes_options.real("link-us", schemes.link_us, {nullptr, 0, 1e9},
                       "Microseconds that a message costs on them", "0");
  schemes_options.word("json", schemes.json, "FILE", "Also write the table here (default none)");
  schemes_options.word("page", schemes.page, "FILE.html",
                       "Also write a page with the timeline of a step of each row here (default none)");
  commands[schemes_app] = [&] {
    schemes_options.apply();
    return command_bench_schemes(schemes);
  };

  CLI::App* info = add("info", "This build and this machine: version, compiler, instruction sets, threads");
  commands[info] = [&] {
    print_info(std::cout);
    return 0;
  };

  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {  // --help, --version
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    const std::vector<CLI::App*> chosen = app.get_subcommands();
    bad_usage(app, chosen.empty() ? nullptr : chosen.front(), error);
  }
  if (app.get_subcommands().empty()) {
    std::cout << app.help();
    input_error("give a command, such as: convoy train");
  }
  const CLI::App* command = app.get_subcommands().front();
  const int status = commands.at(command)();
  if (command != train) check_printed();
  return status;
}

}  // namespace convoy
