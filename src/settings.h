// What the commands are told. One table (setting_table) holds each option's name, kind, range and help: the
// command line, the config file and OUT/config.toml are all made from it, so that they cannot differ.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "convoy/data.h"
#include "convoy/plan.h"

namespace convoy {

// `convoy train`. The defaults here are what `convoy train` without arguments does; resolve() fills what
// depends on others.
struct Settings {
  // What is trained, on what
  std::string model = "cifar_cnn";  // built-in name or FILE.net
  std::string data = "shapes";      // built-in name or folder
  std::string data_dir;             // where mnist's and cifar's files lie
  int64_t image_size = 0;           // folders: side in pixels; 0: 224
  std::string init;                 // safetensors file with initial weights; empty: random
  std::string mean, stddev;         // "0.5,0.5,0.5" (parse_channels); empty: the data set's
  std::string augment = "none";     // none, standard
  bool no_shuffle = false;
  // How long; 0: not given. The run ends where the first of those that are given is reached.
  int64_t epochs = 0;
  int64_t steps = 0;
  double max_minutes = 0;
  // How
  int64_t batch_size = 128;
  std::string loss = "softmax";   // softmax, logistic
  std::string optimizer = "sgd";  // sgd, adamw
  double lr = 0.05;               // adamw: 0.001
  double momentum = 0.9;          // sgd only
  bool nesterov = false;
  double weight_decay = 0;               // adamw: 0.01
  double clip_norm = 0;                  // 0: no clipping
  std::string lr_schedule = "constant";  // constant, step, cosine, linear (schedule.h)
  double warmup_epochs = 0;
  double lr_step_every = 30;  // epochs
  double lr_gamma = 0.1;
  int64_t seed = 0;
  // How the work is divided
  int64_t workers = 0;             // 0: one a rank under MPI, else one
  std::string parallel = "data";   // data, hybrid, model
  std::string scheme = "c";        // a, b, c; hybrid and model (model: a)
  int64_t fc_batch_size = 0;       // rows of a pass; 0: all for scheme a, a worker's share for b and c
  std::string fc_update = "step";  // step, pass
  double fc_lr = 0;                // of the split half; 0: lr
  std::string batchnorm = "sync";  // sync, local
  std::string sync = "step";       // step, average
  std::string average_every = "1epoch";
  std::string average_init = "same";  // same, different
  double link_gbps = 0, link_us = 0;  // a simulated link; 0: none
  std::string trace;                  // file; empty: none
  // On what
  std::string device = "auto";     // cpu, cuda, auto (device.h)
  std::string precision = "f32";   // f32, tf32, bf16, f16: of activations and the weights that are read
  bool no_graph = false;           // steps are not recorded
  std::string profile_steps;       // "A:B"; empty: none
  std::string transport = "auto";  // of workers on CUDA: auto, nccl, local, staged
  int64_t threads = 0;             // of a worker; 0: the worker's share of what this process may use
  std::string isa = "auto";        // auto, plain, avx2, avx512
  int64_t watchdog = 300;          // seconds; 0: none
  // What is kept
  std::string out;                          // empty: runs/<model>-<time> (run_dir.h)
  std::string checkpoint_every = "1epoch";  // steps, or epochs with the suffix "epoch"; "0": at the end only
  int64_t keep = 3;                         // newest checkpoints that are kept; 0: all
  std::string resume;                       // empty, "auto", a run directory or a checkpoint
  int64_t log_every = 50;                   // steps
};

// How many epochs a run takes when neither --epochs, --steps nor --max-minutes says.
constexpr int64_t kDefaultEpochs = 8;

// `convoy eval`.
struct EvalSettings {
  std::string checkpoint;  // a file, or a run directory: its newest checkpoint
  std::string data;        // empty: what the checkpoint was trained on
  std::string data_dir;    // empty: likewise
  int64_t image_size = 0;  // 0: likewise
  int64_t batch_size = 128;
  std::string device = "auto", precision = "f32";
  int64_t threads = 0;
  std::string isa = "auto";
  bool json = false;
};

// `convoy predict`.
struct PredictSettings {
  std::string checkpoint;
  std::vector<std::string> images;  // files and folders
  int64_t top = 5;                  // classes that are listed for each image
  std::string device = "auto", precision = "f32";
  int64_t threads = 0;
  std::string isa = "auto";
  bool json = false;
};

// `convoy summary`.
struct SummarySettings {
  std::string model = "cifar_cnn";
  std::string input;    // HxWxC; empty: the net's own
  int64_t classes = 0;  // 0: the net's own
  int64_t batch_size = 128;
  std::string optimizer = "sgd";
  int64_t threads = 0;
  std::string isa = "auto";
};

// `convoy plan`.
struct PlanSettings {
  std::string model = "alexnet";
  std::string input;    // HxWxC; empty: the net's own
  int64_t classes = 0;  // 0: the net's own
  int64_t batch_size = 128;
  int64_t workers = 4;
  std::string parallel = "hybrid";  // data, hybrid, model
  std::string scheme;               // a, b, c; empty: c, with model a
  int64_t fc_batch_size = 0;        // 0: the batch for a, batch / workers rounded up for b and c
  std::string fc_update = "step";   // step, pass
  std::string figures;              // figures.h; empty: measured here
  double link_gbps = 0;             // 0: the figures'
  double link_us = -1;              // below 0: the figures'
  std::string precision = "f32";    // of activations, for the bytes that travel
  int64_t threads = 1;              // of a worker, when measured here
  std::string isa = "auto";
  bool json = false;
};

// `convoy bench-schemes`.
struct BenchSchemesSettings {
  std::string model = "cifar_cnn";
  std::string input;    // HxWxC; empty: the net's own
  int64_t classes = 0;  // 0: the net's own
  int64_t batch_size = 128;
  int64_t fc_batch_size = 0;  // 0: batch / workers rounded up for b and c
  std::string workers;        // "2,4"; empty: 2, or the processes of an MPI run
  std::string modes = "data,hybrid,model", schemes = "a,b,c";
  int64_t steps = 10;
  bool plan = false;  // model the steps too
  std::string device = "auto", precision = "f32", transport = "auto";
  int64_t threads = 1;
  std::string isa = "auto";
  double link_gbps = 0, link_us = 0;  // a simulated link; 0: none
  std::string json, page;             // files; empty: none
};

// One option of `convoy train`. Its name is also its key in a config file.
struct Setting {
  // A whole number or a real one that is NaN or outside [min, max] (outside (min, max] with `above`) is
  // refused.
  struct Whole {
    int64_t Settings::*field;
    int64_t min, max;
  };
  struct Real {
    double Settings::*field;
    double min, max;
    bool above = false;
  };
  struct Word {
    std::string Settings::*field;
    std::vector<std::string> choices;  // empty: any text
    bool or_whole = false;             // a config file may give a whole number instead
  };
  struct Flag {
    bool Settings::*field;
  };
  const char* name;  // "batch-size"
  std::variant<Whole, Real, Word, Flag> value;
  const char* kind;          // "N", "DIR", ... in --help
  const char* help;          // with the unit
  const char* group;         // heading in --help
  const char* default_text;  // in --help, where the field's own value does not say it; or nullptr
};
const std::vector<Setting>& setting_table();

// Names of the settings that somebody gave a value.
using Given = std::set<std::string>;

// Forgets what a config file said where the command line overrules it: --steps the file's epochs, another
// --optimizer the file's learning rate, ... `from_file` loses those names.
void drop_overruled(Settings& settings, const Settings& file, Given& from_file, const Given& on_line);

// Checks what one table row cannot: throws InputError for contradictions (--epochs with --steps, ...), and
// fills the defaults that depend on other settings (epochs, and AdamW's lr and weight decay).
void resolve(Settings& settings, const Given& given);

// "500": every 500 steps; "1epoch": at the end of each epoch; "0": never. Throws InputError naming the option.
struct Every {
  int64_t count = 0;
  bool epochs = false;
};
Every parse_every(const char* option, const std::string& text);

// "A:B": steps A to B - 1, of whole numbers A < B; an empty text: none. Throws InputError.
struct StepWindow {
  int64_t first = -1, end = -1;
};
StepWindow parse_window(const char* option, const std::string& text);

// What is wrong with a value, as "expected ...", or "" if nothing is.
std::string problem(const Setting::Whole& kind, int64_t value);
std::string problem(const Setting::Real& kind, double value);
std::string problem(const Setting::Word& kind, const std::string& value);

// Numbers of the command line, where the whole text must be the number: throw InputError "--option value:
// expected ...".
int64_t parse_whole(const std::string& option, const std::string& text, int64_t min, int64_t max);
double parse_real(const std::string& option, const std::string& text, const Setting::Real& kind);

// Sets one setting from the command line's text; throws InputError naming the option.
void set_from_text(const Setting& setting, const std::string& text, Settings& settings);

// --mean and --std: one number for all channels or one a channel, separated by commas, in units of pixels /
// 255. Throws InputError naming the option when one is no such number.
std::vector<float> parse_mean(const std::string& text);
std::vector<float> parse_stddev(const std::string& text);

// What --mean and --std give takes the place of the data set's constants. Throws InputError when their number
// does not fit the channels.
void apply_normalization(const Settings& settings, Normalization& normalization);

DataOptions data_options(const Settings& settings);

// What the settings say about the division of the work, for one of `world` workers.
PlanOptions plan_options(const Settings& settings, int rank, int world);

}  // namespace convoy
