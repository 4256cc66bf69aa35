// `convoy eval`: loss, top-1, top-5 and the confusion matrix of a checkpoint on a data set's test images.
#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

#include "batches.h"
#include "commands.h"
#include "config.h"
#include "trained_model.h"

namespace convoy {
namespace {

// What the checkpoint was trained on, unless the command line says otherwise.
DataOptions options_of(const EvalSettings& settings, const TrainingRecord& record, const std::string& file) {
  Settings trained;
  Given given;
  if (const auto config = record.settings.find("config"); config != record.settings.end())
    read_config_text(config->second, file + ": settings", trained, given);
  if (!settings.data.empty()) {
    trained.data = settings.data;
    trained.data_dir.clear();
  }
  if (!settings.data_dir.empty()) trained.data_dir = settings.data_dir;
  trained.image_size = settings.image_size > 0 ? settings.image_size : record.input.h;
  return data_options(trained);
}

void print_confusion(const EvaluationReport& report, const std::vector<std::string>& names) {
  const size_t classes = names.size();
  constexpr size_t kShown = 32;  // wider than this no terminal shows
  if (classes > kShown) {
    std::printf("confusion matrix: %zu x %zu, printed with --json\n", classes, classes);
    return;
  }
  size_t width = 6;
  for (const std::string& name : names) width = std::max(width, name.size() + 1);
  std::cout << "confusion matrix, rows: label, columns: prediction\n"
            << std::setw(static_cast<int>(width)) << "";
  for (size_t c = 0; c < classes; ++c) std::cout << std::setw(6) << c;
  std::cout << '\n';
  for (size_t l = 0; l < classes; ++l) {
    std::cout << std::setw(static_cast<int>(width)) << names[l];
    for (size_t p = 0; p < classes; ++p) std::cout << std::setw(6) << report.confusion[l * classes + p];
    std::cout << '\n';
  }
}

}  // namespace

int command_eval(const EvalSettings& settings) {
  const std::string file = checkpoint_file(settings.checkpoint);
  const TrainingRecord record = read_record_of(file);
  const DataSets data = load_data(options_of(settings, record, file));
  const Input &want = record.input, &have = data.test.image;
  if (want.h != have.h || want.w != have.w || want.c != have.c)
    input_error("--data: images are ", have.h, "x", have.w, "x", have.c, ", the net takes ", want.h, "x",
                want.w, "x", want.c);
  if (data.test.count() == 0) input_error("--data ", data.test.name, ": has no test images");
  TrainedModel trained = load_trained(
      file, {settings.device, settings.precision, settings.isa, static_cast<int>(settings.threads)},
      batch_rows(data.test.count(), settings.batch_size));
  const int64_t classes = output_shapes(trained.model.net, 1).back().row();
  if (data.test.classes != classes)
    input_error("--data: has ", data.test.classes, " classes, the net ", classes);

  Loader::Options loading;
  loading.batch = settings.batch_size;
  loading.shuffle = false;
  loading.threads = data.test.decodes ? reading_threads(trained.exec, settings.threads, 1) : 1;
  loading.memory = trained.exec.backend;
  Loader loader(data.test, loading);
  const EvaluationReport report = evaluate(trained.model, trained.exec, loader, true);

  if (settings.json) {
    nlohmann::ordered_json json;
    json["checkpoint"] = file;
    json["step"] = record.step;
    json["data"] = data.test.name;
    json["images"] = report.rows;
    json["loss"] = report.loss;
    json["top1"] = report.top1;
    json["top5"] = report.top5;
    json["classes"] = data.test.class_names;
    for (int64_t l = 0; l < classes; ++l)
      json["confusion"].push_back(std::vector<int64_t>(report.confusion.begin() + l * classes,
                                                       report.confusion.begin() + (l + 1) * classes));
    std::cout << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    return 0;
  }
  std::printf("%s (%s, step %" PRId64 ") on %" PRId64 " images of %s\n", file.c_str(),
              record.net_name.c_str(), record.step, report.rows, data.test.name.c_str());
  std::printf("loss %.4f, top-1 %.2f %%, top-5 %.2f %%\n", report.loss, 100 * report.top1, 100 * report.top5);
  std::fflush(stdout);
  print_confusion(report, data.test.class_names);
  return 0;
}

}  // namespace convoy
