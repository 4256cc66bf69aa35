// What tests/test_save_faults.sh drives: one program that only saves to a folder, or only looks at one.
//
//   save_faults save DIR STEP   saves checkpoint STEP, keeps two, and the best
//   save_faults check DIR       prints the step that the next start goes on from; fails when it is not whole
//   or when
//                               anything is left over
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <iostream>

#include "convoy/checkpoint.h"

namespace {

using namespace convoy;

constexpr int64_t kElements = 300'000;  // more than one part

float element(int64_t step, int64_t i) {
  return static_cast<float>(step * 1'000'000 + i);
}

TrainingRecord record_of(int64_t step) {
  TrainingRecord record;
  record.net_name = "net";
  record.net_text = "input 1x1x1\na: fc 1\n";
  record.input = {1, 1, 1};
  record.step = step;
  return record;
}

int save(const std::string& dir, int64_t step) {
  access("the save begins here", F_OK);  // where the script finds the first system call of the save
  remove_temporaries(dir);
  const auto fill = [step](int64_t first, int64_t count, char* to) {
    for (int64_t i = first; i < first + count; ++i, to += sizeof(float)) {
      const float value = element(step, i);
      std::memcpy(to, &value, sizeof value);
    }
  };
  const std::string warning =
      save_checkpoint(dir, {{"a", "F32", {kElements}, fill}}, record_of(step), {2, true});
  if (!warning.empty()) std::cerr << warning << "\n";
  return 0;
}

// The step of a file that is whole.
int64_t step_of(const std::string& path) {
  const TensorFile file(path);
  const int64_t step = read_record(file).step;
  int64_t i = 0;
  file.read(*file.find("a"), [&](const char* data, int64_t bytes) {
    for (; bytes > 0; bytes -= 4, data += 4, ++i) {
      float value = 0;
      std::memcpy(&value, data, sizeof value);
      CONVOY_CHECK(value == element(step, i), "element ", i, " of step ", step);
    }
  });
  CONVOY_CHECK(i == kElements, i, " elements");
  return step;
}

int check(const std::string& dir) {
  remove_temporaries(dir);
  const FoundCheckpoint found = find_latest(dir);
  CONVOY_CHECK(found.warning.empty(), found.warning);
  for (const auto& entry : std::filesystem::directory_iterator(dir)) {
    const std::string name = entry.path().filename().string();
    CONVOY_CHECK(name == "latest" || entry.path().extension() == ".safetensors", name, " is left over");
    if (name != "latest") step_of(entry.path().string());  // every file that is there is whole
  }
  std::cout << step_of(found.file) << "\n";
  return 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    if (count == 4 && std::strcmp(words[1], "save") == 0) return save(words[2], std::stoll(words[3]));
    if (count == 3 && std::strcmp(words[1], "check") == 0) return check(words[2]);
    std::cerr << "usage: save_faults save DIR STEP | check DIR\n";
    return 2;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
