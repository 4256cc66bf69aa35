// Which build this is.
#pragma once

namespace convoy {

const char* version();   // "0.1.0"
const char* commit();    // git's full hash, "-dirty" with uncommitted changes; "unknown" outside of git
const char* compiler();  // "GNU 12.2.0", ...

}  // namespace convoy
