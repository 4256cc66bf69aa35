#include <cstdio>
#include <exception>
#include <new>

#include "cli.h"
#include "convoy/check.h"

namespace {

int failed(const char* what, int status) {
  std::fprintf(stderr, "convoy: error: %s\n", what);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return convoy::run_command_line(argc, argv);
  } catch (const convoy::InputError& error) {
    return failed(error.what(), 2);
  } catch (const std::bad_alloc&) {
    return failed("out of memory; a smaller --batch-size needs less", 1);
  } catch (const std::exception& error) {
    return failed(error.what(), 1);
  }
}
