#include "net_choice.h"

#include <algorithm>

#include "settings.h"

namespace convoy {
namespace {

Input parse_input(const std::string& value) {
  constexpr int64_t kLargest = 65536;
  std::vector<int64_t> extents;
  for (size_t at = 0; at <= value.size();) {
    const size_t end = std::min(value.find('x', at), value.size());
    try {
      extents.push_back(parse_whole("input", value.substr(at, end - at), 1, kLargest));
    } catch (const InputError&) {
      extents.clear();
      break;
    }
    at = end + 1;
  }
  if (extents.size() != 3)
    input_error("--input '", value, "': expected height x width x channels, such as 28x28x1, each from 1 to ",
                kLargest);
  return {extents[0], extents[1], extents[2]};
}

}  // namespace

Net load_net_for(const std::string& model, const std::string& input, int64_t classes) {
  Net net = load_net(model);
  if (input.empty() && classes == 0) return net;
  return adapt_net(net, input.empty() ? net.input() : parse_input(input),
                   classes > 0 ? classes : output_shapes(net, 1).back().row());
}

}  // namespace convoy
