#include "info.h"

#include <cstddef>
#include <cstdio>
// jpeglib.h needs the two above
#include <jpeglib.h>
#include <png.h>
#include <toml++/toml.h>
#include <unistd.h>
#include <zlib.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <sstream>
#include <string>
#include <thread>

#include "comm_mpi.h"
#include "convoy/backend.h"
#include "device.h"
#include "version.h"

namespace convoy {
namespace {

#define CONVOY_STRING(x) #x
#define CONVOY_TEXT(x) CONVOY_STRING(x)

// The first line of /proc/cpuinfo with this key, without it.
std::string cpu_info(const std::string& key) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(':');
    if (line.compare(0, key.size(), key) == 0 && colon != std::string::npos && colon + 2 <= line.size())
      return line.substr(colon + 2);
  }
  return "";
}

std::string vector_features() {
  std::istringstream flags(cpu_info("flags"));
  std::string found;
  for (std::string flag; flags >> flag;)
    for (const char* wanted :
         {"sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512bw", "avx512vl"})
      if (flag == wanted) found += (found.empty() ? "" : " ") + flag;
  return found.empty() ? "unknown" : found;
}

std::string openmp_version() {
#ifdef _OPENMP
  return text("yes (specification ", _OPENMP, ")");
#else
  return "no: one thread a worker";
#endif
}

// "avx512" of "cpu_avx512": what --isa calls it.
std::string isa_of(const Backend& backend) {
  return std::string(backend.name).substr(4);
}

// CUDA, and what it finds here.
template <class Line>
void device_lines(const Line& line) {
  const Cuda* cuda = find_cuda();
  const int count = cuda == nullptr ? 0 : cuda->devices();
  line("CUDA", cuda == nullptr ? std::string("no: workers compute on the CPU (rebuild with -DCONVOY_CUDA=ON)")
               : cuda->emulated ? std::string("emulated on the CPU")
                                : text("for compute capabilities ", cuda->architectures));
  line("CUDA devices", count == 0 ? "none" : text(count));
  for (int device = 0; device < count; ++device)
    line(text("device ", device).c_str(), device_text(cuda->describe(device)));
}

}  // namespace

std::string processor_name() {
  const std::string model = cpu_info("model name");
  return model.empty() ? "unknown" : model;
}

void print_info(std::ostream& out) {
  const auto line = [&](const char* what, const auto& value) {
    out << what << std::string(std::max<size_t>(1, 18 - std::string(what).size()), ' ') << value << "\n";
  };
  out << "convoy " << version() << "\n";
  line("commit", commit());
  line("compiler", compiler());
  line("build type", CONVOY_BUILD_TYPE);
  line("OpenMP", openmp_version());
  line("MPI", mpi() == nullptr ? "no: workers are threads (rebuild with -DCONVOY_MPI=ON)" : mpi()->version());
  line("kernels built", CONVOY_INSTRUCTION_SETS);
  out << "\n";
  device_lines(line);
  line("CPU", processor_name());
  line("vector features", vector_features());
  std::string usable;
  for (const Backend* backend : cpu_backends()) usable += (usable.empty() ? "" : " ") + isa_of(*backend);
  line("kernels usable", usable);
  line("kernels used", isa_of(cpu_backend("auto")) + " (--isa changes it)");
  line("cores", text(sysconf(_SC_NPROCESSORS_ONLN), " online, ", std::thread::hardware_concurrency(),
                     " for this process"));
  for (const char* name : {"OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES"})
    if (const char* value = std::getenv(name)) line(name, value);
  out << "\n";
  line("zlib", zlibVersion());
  line("libjpeg-turbo", CONVOY_TEXT(LIBJPEG_TURBO_VERSION));
  line("libpng", png_get_libpng_ver(nullptr));
  line("CLI11", CLI11_VERSION);
  line("toml++", text(TOML_LIB_MAJOR, ".", TOML_LIB_MINOR, ".", TOML_LIB_PATCH));
  line("nlohmann-json",
       text(NLOHMANN_JSON_VERSION_MAJOR, ".", NLOHMANN_JSON_VERSION_MINOR, ".", NLOHMANN_JSON_VERSION_PATCH));
}

}  // namespace convoy
