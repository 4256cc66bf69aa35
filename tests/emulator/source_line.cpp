// The source line of a return address, by binutils' addr2line.
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "machine.h"

namespace emulator {
namespace {

uintptr_t program_base() {
  uintptr_t base = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        *static_cast<uintptr_t*>(out) = info->dlpi_addr;
        return 1;  // the program itself comes first
      },
      &base);
  return base;
}

// addr2line's answer, a line each.
std::vector<std::string> look_up(const char* options, uintptr_t offset) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return {};
  path[length] = 0;
  std::ostringstream command;
  command << "addr2line " << options << " -e '" << path << "' 0x" << std::hex << offset << " 2>/dev/null";
  FILE* pipe = popen(command.str().c_str(), "r");
  if (!pipe) return {};
  std::vector<std::string> lines;
  char line[4096];
  while (std::fgets(line, sizeof line, pipe)) {
    lines.emplace_back(line);
    lines.back().erase(lines.back().find_last_not_of('\n') + 1);
  }
  pclose(pipe);
  return lines;
}

// Inlined frames, innermost first: the kernel's line is the first one outside of the emulator.
std::string first_of_kernel(const std::vector<std::string>& frames) {
  for (const std::string& frame : frames) {
    const bool own = frame.find("tests/emulator/") != std::string::npos ||
                     frame.find("kernels/mma") != std::string::npos ||
                     frame.find("kernels/hopper") != std::string::npos;
    if (!own && frame.find("??") != 0)
      return frame.substr(0, frame.find(' '));  // without "(discriminator 2)"
  }
  return "";
}

}  // namespace

std::string name_of_function(const void* function, const char* otherwise) {
  static std::map<const void*, std::string> known;  // every look-up starts addr2line
  std::string& name = known[function];
  if (name.empty()) {
    const auto lines = look_up("-f -C", reinterpret_cast<uintptr_t>(function) - program_base());
    name = lines.empty() || lines[0] == "??" ? otherwise : lines[0];
  }
  return name;
}

std::string name_of_code(const void* code) {
  static std::map<const void*, std::string> known;
  std::string& name = known[code];
  if (name.empty()) {
    const uintptr_t offset = reinterpret_cast<uintptr_t>(code) - program_base() - 1;
    name = first_of_kernel(look_up("-i", offset));
    if (name.empty()) {
      std::ostringstream out;
      out << "code 0x" << std::hex << offset;
      name = out.str();
    }
  }
  return name;
}

}  // namespace emulator
