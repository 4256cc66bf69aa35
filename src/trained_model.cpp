#include "trained_model.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

namespace convoy {

std::string checkpoint_file(const std::string& file_or_dir) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(file_or_dir, error);
  if (!std::filesystem::exists(status))
    input_error("--checkpoint ", file_or_dir, ": ", error ? error.message() : "no such file or directory");
  if (!std::filesystem::is_directory(status)) return file_or_dir;
  const FoundCheckpoint found = find_latest(file_or_dir);
  if (found.file.empty())
    input_error("--checkpoint ", file_or_dir, ": holds no checkpoint-<step>.safetensors");
  if (!found.warning.empty()) std::fprintf(stderr, "convoy: warning: %s\n", found.warning.c_str());
  return found.file;
}

TrainingRecord read_record_of(const std::string& file) {
  const TensorFile content(file);
  if (!has_record(content))
    input_error(file,
                ": another program wrote it, so it names no net; start from it with convoy train --init ",
                file);
  return read_record(content);
}

TrainedModel load_trained(const std::string& file, const ComputeOptions& on,
                          const std::vector<int64_t>& rows) {
  TrainedModel t;
  t.file = file;
  t.record = read_record_of(file);
  const Cuda* cuda = choose_device(on.device);
  if (cuda != nullptr) t.queue = cuda_queue(*cuda, 0);
  t.exec = cuda != nullptr ? cuda_exec(*cuda, t.queue) : cpu_exec(cpu_backend(on.isa), on.threads);
  ModelOptions options;
  options.precision = use_precision(on.precision, t.exec);
  Net net = parse_net(t.record.net_text, file);
  net.name = t.record.net_name;
  if (net.input().h != t.record.input.h || net.input().w != t.record.input.w ||
      net.input().c != t.record.input.c)
    input_error(file, ": its net and its record disagree on the input; the file is damaged");
  if (t.record.normalization.mean.size() != static_cast<size_t>(net.input().c))
    input_error(file, ": has no normalisation for ", net.input().c, " channels; the file is damaged");
  options.training = false;
  options.normalization = t.record.normalization;
  const int64_t most = *std::max_element(rows.begin(), rows.end());
  t.model = make_model(net, make_plan(net, most), options, t.exec, {}, rows);
  const HostTensors tensors = host_tensors(t.model, t.exec);
  load_parameters(TensorFile(file), net, tensors);
  put_back(tensors, t.model, t.exec);
  return t;
}

}  // namespace convoy
