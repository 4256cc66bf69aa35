#include "next_commands.h"

#include <cerrno>  // program_invocation_name, of the C libraries on Linux
#include <filesystem>

namespace convoy {
namespace {

namespace fs = std::filesystem;

bool is_dir(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

// The options that name the run's data.
std::string data_words(const Settings& s) {
  std::string words = " --data " + shell_word(s.data);
  if (!s.data_dir.empty()) words += " --data-dir " + shell_word(s.data_dir);
  if (s.image_size > 0) words += text(" --image-size ", s.image_size);
  return words;
}

// Images that a net of this data can be shown, or real ones to train on.
std::string next_data(const Settings& s, const std::string& dir) {
  const std::string predict = program_word() + " predict --checkpoint " + shell_word(dir) + " ";
  for (const char* test : {"/val", "/test"})
    if (is_dir(s.data + test)) return predict + shell_word(s.data + test);
  std::string mnist = program_word() + " train --model mnist_cnn --data mnist --lr 0.01 --epochs 3";
  if (s.data == "mnist") return predict + "IMAGE.png";
  if (is_dir("data/mnist")) return mnist;
  const std::string script = "jobs/download_data.sh";
  std::error_code ignored;
  if (fs::exists(script, ignored)) return "bash " + script + " mnist && " + mnist;
  return predict + "IMAGE.png";
}

}  // namespace

std::string program_word() {
  return shell_word(program_invocation_name);
}

std::string shell_word(const std::string& word) {
  const std::string plain = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=./:,@%";
  if (!word.empty() && word.find_first_not_of(plain) == std::string::npos) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::vector<std::string> next_commands(const Settings& settings, const std::string& dir) {
  const char* other = settings.model == "resnet18" ? "cifar_cnn" : "resnet18";
  return {program_word() + " eval --checkpoint " + shell_word(dir), next_data(settings, dir),
          program_word() + " train --model " + other + data_words(settings) + " --epochs 1"};
}

std::string resume_command(const std::string& dir) {
  return program_word() + " train --resume " + shell_word(dir);
}

}  // namespace convoy
