#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <thread>

#include "cli.h"
#include "convoy/check.h"
#include "launcher.h"

namespace {

int failed(const char* what, int status) {
  std::fprintf(stderr, "convoy: error: %s\n", what);
  return status;
}

// What is wrong for one process is wrong for all that were started together most of the time: the first one says it, and
// the launcher ends the others before they do.
int bad_input(const char* what) {
  constexpr std::chrono::seconds kFirst{3};
  const int64_t rank = convoy::launcher().rank;
  if (rank == 0) return failed(what, 2);
  std::this_thread::sleep_for(kFirst);
  char host[256] = "unknown host";
  gethostname(host, sizeof host - 1);
  std::fprintf(stderr, "convoy: rank %s (%s): error: %s\n", std::to_string(rank).c_str(), host, what);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return convoy::run_command_line(argc, argv);
  } catch (const convoy::InputError& error) {
    return bad_input(error.what());
  } catch (const std::bad_alloc&) {
    return failed("out of memory; a smaller --batch-size needs less", 1);
  } catch (const std::exception& error) {
    return failed(error.what(), 1);
  }
}
