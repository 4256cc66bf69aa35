// `convoy predict`: class names and probabilities of image files.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>

#include "commands.h"
#include "image_file.h"
#include "trained_model.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

bool is_image(const fs::path& file) {
  std::string extension = file.extension().string();
  for (char& c : extension) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

// The files named, and the images in the folders named, sorted.
std::vector<std::string> image_files(const std::vector<std::string>& names) {
  std::vector<std::string> files;
  for (const std::string& name : names) {
    std::error_code error;
    if (!fs::is_directory(name, error)) {
      files.push_back(name);
      continue;
    }
    std::vector<std::string> found;
    for (fs::recursive_directory_iterator it(name, error), end; !error && it != end; it.increment(error))
      if (it->is_regular_file(error) && is_image(it->path())) found.push_back(it->path().string());
    if (error) input_error(name, ": cannot list the folder: ", error.message());
    if (found.empty()) input_error(name, ": the folder holds no .jpg, .jpeg or .png file");
    std::sort(found.begin(), found.end());
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

std::vector<double> softmax(const std::vector<float>& logits) {
  const double most = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  p.reserve(logits.size());
  for (const float x : logits) p.push_back(std::exp(static_cast<double>(x) - most));
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& x : p) x /= sum;
  return p;
}

}  // namespace

int command_predict(const PredictSettings& settings) {
  const std::vector<std::string> files = image_files(settings.images);
  TrainedModel trained = load_trained(
      checkpoint_file(settings.checkpoint),
      {settings.device, settings.precision, settings.isa, static_cast<int>(settings.threads)}, {1});
  const Input& in = trained.record.input;
  const int64_t classes = output_shapes(trained.model.net, 1).back().row();
  std::vector<std::string> names = trained.record.class_names;
  if (names.size() != static_cast<size_t>(classes)) {
    names.clear();
    for (int64_t c = 0; c < classes; ++c) names.push_back(text("class_", c));
  }
  const auto shown = static_cast<size_t>(std::min(settings.top, classes));

  std::vector<float> logits;
  int32_t nothing = 0;
  std::vector<uint8_t> pixels(static_cast<size_t>(in.h * in.w * in.c));
  for (const std::string& file : files) {
    read_image(file, in, pixels.data());
    Batch batch;
    batch.pixels = View(pixels.data(), Shape{1, in.h, in.w, in.c});
    batch.labels = View(&nothing, Shape{1});
    batch.index = View(&nothing, Shape{1});
    batch.rows = batch.global_rows = 1;
    evaluate_batch(trained.model, trained.exec, batch, &logits);
    const std::vector<double> probability = softmax(logits);
    std::vector<size_t> order(probability.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return probability[a] > probability[b]; });
    order.resize(shown);
    if (settings.json) {
      nlohmann::ordered_json json;
      json["file"] = file;
      for (const size_t c : order)
        json["classes"].push_back({{"name", names[c]}, {"index", c}, {"probability", probability[c]}});
      std::cout << json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << '\n';
    } else {
      std::cout << file << ": " << std::fixed << std::setprecision(1);
      for (const size_t c : order)
        std::cout << (c == order.front() ? "" : ", ") << names[c] << ' ' << 100 * probability[c] << " %";
      std::cout << '\n';
    }
  }
  return 0;
}

}  // namespace convoy
