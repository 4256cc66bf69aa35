// The source line of a return address, by binutils' addr2line.
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <sstream>

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

std::string look_up(uintptr_t offset) {
  char path[4096];
  const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
  if (length <= 0) return "";
  path[length] = 0;
  std::ostringstream command;
  command << "addr2line -i -e '" << path << "' 0x" << std::hex << offset << " 2>/dev/null";
  FILE* pipe = popen(command.str().c_str(), "r");
  if (!pipe) return "";
  // Inlined frames, innermost first: the kernel's line is the first one outside of the emulator.
  std::string found;
  char line[4096];
  while (std::fgets(line, sizeof line, pipe)) {
    std::string text = line;
    text = text.substr(0, text.find_first_of(" \n"));
    const bool own = text.find("tests/emulator/") != std::string::npos ||
                     text.find("kernels/mma.cuh") != std::string::npos;
    if (found.empty() && !own && text.find("??") != 0) found = text;
  }
  pclose(pipe);
  return found;
}

}  // namespace

std::string name_of_code(const void* code) {
  static std::map<const void*, std::string> known;
  std::string& name = known[code];
  if (name.empty()) {
    const uintptr_t offset = reinterpret_cast<uintptr_t>(code) - program_base() - 1;
    name = look_up(offset);
    if (name.empty()) {
      std::ostringstream out;
      out << "code 0x" << std::hex << offset;
      name = out.str();
    }
  }
  return name;
}

}  // namespace emulator
