#include <fstream>

#include "convoy/net.h"
#include "models.h"
#include "nearest.h"
#include "net_text.h"

namespace convoy {
namespace {

constexpr int64_t kMaxFile = int64_t{1} << 20;

std::string read_text(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) input_error(file, ": cannot open the net file; built-in nets are named without .net");
  std::string content(static_cast<size_t>(kMaxFile) + 1, '\0');
  in.read(content.data(), static_cast<std::streamsize>(content.size()));
  if (in.bad() || (in.fail() && !in.eof())) input_error(file, ": cannot read the net file; is it a folder?");
  if (in.gcount() > kMaxFile)
    input_error(file, ": a net file has at most ", kMaxFile, " bytes; is this a net?");
  content.resize(static_cast<size_t>(in.gcount()));
  return content;
}

bool is_net_file(const std::string& name) {
  return name.size() > 4 && name.compare(name.size() - 4, 4, ".net") == 0;
}

}  // namespace

Net load_net(const std::string& name_or_file) {
  if (is_net_file(name_or_file)) return parse_net(read_text(name_or_file), name_or_file);
  std::string list;
  for (const BuiltinNet* net = kBuiltinNets; net->name != nullptr; ++net) {
    if (name_or_file == net->name) return parse_net(net->text, net->name);
    list += (list.empty() ? "" : ", ") + std::string(net->name);
  }
  input_error("no net ", quoted(name_or_file), did_you_mean(name_or_file, builtin_nets()),
              "; built-in: ", list, "; or give a file ending in .net");
}

std::vector<std::string> builtin_nets() {
  std::vector<std::string> names;
  for (const BuiltinNet* net = kBuiltinNets; net->name != nullptr; ++net) names.push_back(net->name);
  return names;
}

}  // namespace convoy
