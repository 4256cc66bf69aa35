// The nets of src/models, compiled into the program by cmake/models.cmake.
#pragma once

namespace convoy {

struct BuiltinNet {
  const char* name;
  const char* text;
};
extern const BuiltinNet kBuiltinNets[];  // sorted by name; ends with {nullptr, nullptr}

}  // namespace convoy
