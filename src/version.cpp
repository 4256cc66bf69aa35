#include "version.h"

#include "convoy_commit.h"

namespace convoy {

const char* version() {
  return CONVOY_VERSION;
}
const char* commit() {
  return CONVOY_COMMIT;
}
const char* compiler() {
  return CONVOY_COMPILER;
}

}  // namespace convoy
