// Any text is a net or one InputError; a net has shapes, counts and a text that gives it again.
#include <cstdint>
#include <string>
#include <vector>

#include "convoy/check.h"
#include "convoy/net.h"

namespace {

using namespace convoy;

void check_net(const Net& net) {
  const std::vector<Shape> shapes = output_shapes(net, 1);
  int64_t macs = 0;
  for (const int64_t layer : forward_macs(net)) macs += layer;
  CONVOY_CHECK(macs >= 0 && parameter_count(net) > 0 && shapes.back().rank == 2, macs);
  const std::string written = net_text(net);
  const Net again = parse_net(written, "again");
  CONVOY_CHECK(net_text(again) == written, written);
  CONVOY_CHECK(output_shapes(again, 1) == shapes, written);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  const std::string content(reinterpret_cast<const char*>(data), bytes);
  try {
    const Net net = parse_net(content, "resnet18");
    check_net(net);
    check_net(adapt_net(net, {28, 28, 1}, 7));
  } catch (const InputError& error) {
    // One printable line.
    for (const char* c = error.what(); *c != '\0'; ++c) CONVOY_CHECK(*c >= 0x20 && *c < 0x7f, error.what());
  }
  return 0;
}
