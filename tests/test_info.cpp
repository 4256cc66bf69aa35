// What `convoy info` prints.
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <sstream>
#include <thread>

#include "comm_mpi.h"
#include "convoy/backend.h"
#include "info.h"
#include "version.h"

namespace convoy {
namespace {

// The lines by what they are about: the first 18 columns.
std::map<std::string, std::string> info() {
  std::ostringstream out;
  print_info(out);
  std::map<std::string, std::string> lines;
  std::istringstream in(out.str());
  for (std::string line; std::getline(in, line);) {
    const size_t blank = line.substr(0, 18).find_last_not_of(' ');
    lines[line.substr(0, blank + 1)] = line.size() > 18 ? line.substr(18) : "";
  }
  return lines;
}

TEST(Info, SaysWhatThisBuildIs) {
  const auto lines = info();
  EXPECT_EQ(lines.count(text("convoy ", version())), 1u);
  EXPECT_EQ(lines.at("commit"), commit());
  EXPECT_EQ(lines.at("compiler"), compiler());
  EXPECT_FALSE(lines.at("build type").empty());
}

TEST(Info, NamesTheKernelsOfThisMachine) {
  const auto lines = info();
  std::string usable;
  for (const Backend* backend : cpu_backends())
    usable += (usable.empty() ? "" : " ") + std::string(backend->name).substr(4);
  EXPECT_EQ(lines.at("kernels usable"), usable);
  EXPECT_EQ(lines.at("kernels used"),
            std::string(cpu_backend("auto").name).substr(4) + " (--isa changes it)");
  // Whatever is usable was built, and the processor says that it has it.
  const std::string built = " " + lines.at("kernels built") + " ";
  for (const Backend* backend : cpu_backends()) {
    const std::string isa = std::string(backend->name).substr(4);  // cpu_avx2
    EXPECT_NE(built.find(" " + isa + " "), std::string::npos) << built;
    const bool announced = isa == "plain" || lines.at("vector features").find(isa) != std::string::npos;
    EXPECT_TRUE(announced) << isa;
  }
}

TEST(Info, SaysWhetherThisBuildHasMpi) {
  const std::string said = info().at("MPI");
  if (mpi() == nullptr)
    EXPECT_EQ(said.substr(0, 3), "no:");
  else
    EXPECT_EQ(said, mpi()->version());
  EXPECT_FALSE(said.empty());
}

TEST(Info, CountsCores) {
  const std::string cores = info().at("cores");
  EXPECT_NE(cores.find(text(std::thread::hardware_concurrency(), " for this process")), std::string::npos)
      << cores;
  EXPECT_GT(std::atoi(cores.c_str()), 0) << cores;
}

TEST(Info, ShowsOpenMpSettingsThatAreSet) {
  ASSERT_EQ(setenv("OMP_PLACES", "cores", 1), 0);
  EXPECT_EQ(info().at("OMP_PLACES"), "cores");
  ASSERT_EQ(unsetenv("OMP_PLACES"), 0);
  EXPECT_EQ(info().count("OMP_PLACES"), 0u);
}

TEST(Info, HasAVersionOfEveryLibrary) {
  const auto lines = info();
  for (const char* library : {"zlib", "libjpeg-turbo", "libpng", "CLI11", "toml++", "nlohmann-json"}) {
    const std::string version_text = lines.at(library);
    EXPECT_NE(version_text.find('.'), std::string::npos) << library << " " << version_text;
    EXPECT_EQ(version_text.find_first_not_of("0123456789."), std::string::npos)
        << library << " " << version_text;
  }
}

}  // namespace
}  // namespace convoy
