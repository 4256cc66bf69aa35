#include "run_dir.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <filesystem>
#include <system_error>

#include "convoy/checkpoint.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

bool holds_run(const std::string& dir) {
  std::error_code ignored;
  for (const char* name : {"config.toml", "metrics.jsonl", "summary.json"})
    if (fs::exists(fs::path(dir) / name, ignored)) return true;
  return fs::is_directory(dir, ignored) && !checkpoint_files(dir).empty();
}

// The directory, or the nearest one above it that is there, is a directory that can be written to.
void check_writable(const std::string& dir) {
  fs::path there = fs::absolute(dir);
  std::error_code error;
  while (!fs::exists(there, error) && there.has_relative_path()) {
    if (error && error != std::errc::no_such_file_or_directory && error != std::errc::not_a_directory)
      input_error("--out ", dir, ": cannot make the directory: ", error.message());
    there = there.parent_path();
  }
  const bool whole = there == fs::absolute(dir);
  if (!fs::is_directory(there, error))
    input_error("--out ", dir, ": ", whole ? "" : there.string() + " ", "is a file; give a directory");
  if (faccessat(AT_FDCWD, there.c_str(), W_OK | X_OK, AT_EACCESS) != 0)
    input_error("--out ", dir, whole ? ": cannot write to it: " : ": cannot make the directory: ",
                std::generic_category().message(errno));
}

void check_new(const std::string& dir) {
  if (holds_run(dir))
    input_error("--out ", dir, ": holds a run; go on with --resume ", dir, ", or give another --out");
  check_writable(dir);
}

void make_dir(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error) input_error("--out ", dir, ": cannot make the directory: ", error.message());
}

// runs/<model>-<date>-<time>; the first of several in one second gets the plain name.
std::string make_default_dir(const std::string& model) {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  char date[32];
  std::strftime(date, sizeof date, "%Y%m%d-%H%M%S", &local);
  const std::string name = "runs/" + fs::path(model).stem().string() + "-" + date;
  make_dir("runs");
  for (int number = 1; number <= 1000; ++number) {
    std::string dir = number == 1 ? name : name + "-" + std::to_string(number);
    std::error_code error;
    if (fs::create_directory(dir, error)) return dir;  // false: somebody else's
    if (error) input_error("--out ", dir, ": cannot make the directory: ", error.message());
  }
  input_error("--out: ", name, " and 999 numbered ones are taken; give a directory");
}

bool same(const std::string& a, const std::string& b) {
  std::error_code ignored;
  return fs::equivalent(a, b, ignored);
}

std::string parent(const std::string& file) {
  const std::string dir = fs::path(file).parent_path().string();
  return dir.empty() ? "." : dir;
}

// In a run's own directory, a run that goes on from an older checkpoint would mix with the newer ones.
void refuse_newer(const std::string& file) {
  for (const std::string& other : checkpoint_files(parent(file))) {  // newest first
    if (same(other, file)) return;
    input_error("--resume ", file, ": ", other,
                " is another or a newer checkpoint of that run; give --out DIR for a branch, ",
                "or --resume ", parent(file), " to go on from the newest");
  }
}

void lock_if_there(RunDir& run) {
  std::error_code ignored;
  if (fs::is_directory(run.path, ignored) &&
      faccessat(AT_FDCWD, run.path.c_str(), W_OK | X_OK, AT_EACCESS) == 0)
    run.lock = std::make_shared<RunLock>(run.path);
}

}  // namespace

RunDir choose_run_dir(const Settings& settings) {
  RunDir run;
  run.path = settings.out;
  lock_if_there(run);
  if (settings.resume.empty()) {
    if (run.path.empty())
      check_writable("runs");
    else
      check_new(run.path);
    return run;
  }
  if (settings.resume == "auto") {
    check_writable(run.path);
    if (!checkpoint_files(run.path).empty()) run.from = run.path;
    return run;
  }
  run.from = settings.resume;
  std::error_code error;
  const fs::file_status status = fs::status(run.from, error);
  if (!fs::exists(status))
    input_error("--resume ", run.from, ": ", error ? error.message() : "no such file or directory");
  const bool is_dir = fs::is_directory(status);
  if (!is_dir && fs::path(run.from).extension() != ".safetensors")
    input_error("--resume ", run.from,
                ": is no checkpoint; give a run directory or its checkpoint-<step>.safetensors");
  if (is_dir && checkpoint_files(run.from).empty())
    input_error("--resume ", run.from, ": holds no checkpoint-<step>.safetensors");
  const std::string home = is_dir ? run.from : parent(run.from);
  if (run.path.empty()) {
    run.path = home;
    lock_if_there(run);
  }
  if (!same(run.path, home)) {
    check_new(run.path);
  } else {
    if (!is_dir) refuse_newer(run.from);
    check_writable(run.path);
  }
  return run;
}

RunDir make_run_dir(RunDir run, const std::string& model) {
  if (run.path.empty())
    run.path = make_default_dir(model);
  else
    make_dir(run.path);
  if (run.lock == nullptr) {
    run.lock = std::make_shared<RunLock>(run.path);
    if (holds_run(run.path))
      input_error("--out ", run.path,
                  ": another program has made a run there in the meantime; go on with --resume ", run.path,
                  ", or give another --out");
  }
  remove_temporaries(run.path);
  return run;
}

std::string resumed_config(const std::string& resume, const std::string& out) {
  if (resume.empty()) return "";
  std::error_code ignored;
  const std::string home = resume == "auto"                    ? out
                           : fs::is_directory(resume, ignored) ? resume
                                                               : parent(resume);
  const std::string file = home + "/config.toml";
  return !home.empty() && fs::exists(file, ignored) ? file : "";
}

}  // namespace convoy
