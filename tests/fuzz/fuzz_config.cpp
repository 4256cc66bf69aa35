// Any bytes as a config file: settings, or one InputError.
#include <cstdint>

#include "config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  convoy::Settings settings;
  convoy::Given given;
  try {
    convoy::read_config_text(std::string(reinterpret_cast<const char*>(data), size), "f", settings, given);
    convoy::resolve(settings, given);
  } catch (const convoy::InputError&) {
  }
  return 0;
}
