// The net that --model, --input and --classes ask for.
#pragma once
#include <string>

#include "convoy/net.h"

namespace convoy {

// `input` is "HxWxC", or empty for the net's own; `classes` 0 for its own. Throws InputError as load_net and
// adapt_net do, and naming --input when it is no such text.
Net load_net_for(const std::string& model, const std::string& input, int64_t classes);

}  // namespace convoy
