#include <algorithm>
#include <filesystem>
#include <fstream>

#include "atomic_file.h"
#include "convoy/checkpoint.h"
#include "safetensors_format.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

const std::string kPrefix = "checkpoint-";
const std::string kSuffix = ".safetensors";
constexpr const char* kLatest = "latest";
constexpr const char* kBest = "best.safetensors";

// The step of "checkpoint-<step>.safetensors"; -1 for any other name.
int64_t step_of(const std::string& name) {
  if (name.size() <= kPrefix.size() + kSuffix.size() || name.compare(0, kPrefix.size(), kPrefix) != 0 ||
      name.compare(name.size() - kSuffix.size(), kSuffix.size(), kSuffix) != 0) {
    return -1;
  }
  const std::string step = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  if (step.size() > 18 || step.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::stoll(step);
}

std::string name_of(const std::string& path) {
  return fs::path(path).filename().string();
}

std::vector<std::string> names_in(const std::string& dir) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(dir, error), end; !error && it != end; it.increment(error)) {
    names.push_back(it->path().filename().string());
  }
  if (error && error != std::errc::no_such_file_or_directory) {
    input_error("cannot list ", dir, ": ", error.message());
  }
  return names;
}

// What `latest` says, and what is wrong with it.
struct Named {
  std::string name, fault;
};
Named read_latest(const std::string& dir) {
  std::ifstream in(fs::path(dir) / kLatest, std::ios::binary);
  if (!in) return {"", text(dir, " has no file '", kLatest, "'")};
  char line[64] = {};
  in.read(line, sizeof line);
  std::string name(line, static_cast<size_t>(in.gcount()));
  if (!name.empty() && name.back() == '\n') name.pop_back();
  if (step_of(name) < 0) return {"", text(dir, "/", kLatest, " is damaged")};
  return {name, ""};
}

// Those that are no newer than `step`: later ones belong to a run that was gone back from.
std::string remove_old(const std::string& dir, int64_t step, int64_t keep) {
  std::string warning;
  int64_t kept = 0;
  for (const std::string& file : checkpoint_files(dir)) {
    if (step_of(name_of(file)) > step || kept++ < keep) continue;
    std::error_code error;
    fs::remove(file, error);
    if (error) warning = text("cannot remove the old ", file, ": ", error.message());
  }
  return warning;
}

}  // namespace

std::string checkpoint_path(const std::string& dir, int64_t step) {
  return (fs::path(dir) / text(kPrefix, step, kSuffix)).string();
}

std::vector<std::string> checkpoint_files(const std::string& dir) {
  std::vector<std::string> names;
  for (const std::string& name : names_in(dir)) {
    if (step_of(name) >= 0) names.push_back(name);
  }
  std::sort(names.begin(), names.end(), [](const std::string& a, const std::string& b) {
    return step_of(a) != step_of(b) ? step_of(a) > step_of(b) : a < b;
  });
  for (std::string& name : names) name = (fs::path(dir) / name).string();
  return names;
}

void remove_temporaries(const std::string& dir) {
  const std::string suffix = kTemporarySuffix;
  for (const std::string& name : names_in(dir)) {
    if (name.size() <= suffix.size()) continue;
    const std::string stem = name.substr(0, name.size() - suffix.size());
    if (stem + suffix != name || (step_of(stem) < 0 && stem != kLatest && stem != kBest)) continue;
    std::error_code ignored;  // the next save of that name writes over it
    fs::remove(fs::path(dir) / name, ignored);
  }
}

std::string save_checkpoint(const std::string& dir, const std::vector<TensorSource>& tensors,
                            const TrainingRecord& record, const SaveOptions& options) {
  const std::map<std::string, std::string> metadata = record_metadata(record);
  const std::string path = checkpoint_path(dir, record.step);
  write_safetensors(path, tensors, metadata);

  AtomicFile latest((fs::path(dir) / kLatest).string());
  const std::string line = name_of(path) + "\n";
  latest.write(0, line.data(), static_cast<int64_t>(line.size()));
  latest.commit();

  if (options.best) write_safetensors((fs::path(dir) / kBest).string(), tensors, metadata);
  return options.keep > 0 ? remove_old(dir, record.step, options.keep) : "";
}

FoundCheckpoint find_latest(const std::string& dir, const std::function<void(const std::string& file)>& use) {
  std::vector<std::string> files = checkpoint_files(dir);
  if (files.empty()) return {};
  Named latest = read_latest(dir);
  if (!latest.name.empty()) {  // first in line
    const auto named = std::find_if(files.begin(), files.end(),
                                    [&](const std::string& file) { return name_of(file) == latest.name; });
    if (named == files.end()) {
      latest.fault = text(dir, "/", kLatest, " names ", latest.name, ", which is not there");
    } else {
      std::rotate(files.begin(), named, named + 1);
    }
  }
  std::string fault = latest.fault;
  for (const std::string& file : files) {
    try {
      if (use) {
        use(file);
      } else {
        TensorFile(file).verify();
      }
      return {file, fault.empty() ? "" : text(fault, "; going on from ", file)};
    } catch (const InputError& error) {
      if (fault.empty() || fault == latest.fault) fault = error.what();
    }
  }
  input_error(fault, "; ", dir, " holds no checkpoint that is good");
}

}  // namespace convoy
