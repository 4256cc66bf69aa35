#include "bench/ops_peer.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

namespace convoy::bench {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;

std::string key(const std::string& net, const std::string& layer) {
  return net + " " + layer;
}

// A folder of its own, which goes with it.
struct Folder {
  fs::path path = fs::temp_directory_path() / text("convoy-peer-", getpid());
  Folder() { fs::create_directory(path); }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
};

}  // namespace

double PeerTimes::seconds(const Problem& problem, Pass pass) const {
  const auto found = by_layer.find({key(problem.net, problem.name), pass});
  return found == by_layer.end() ? 0 : found->second;
}

PeerTimes run_ops_peer(const CudaOptions& options, const std::vector<Problem>& problems) {
  PeerTimes times;
  if (options.peer.empty()) return times;
  try {
    const Folder folder;
    const std::string asked = folder.path / "problems.json", answer = folder.path / "times.json";
    Json list = Json::array();
    for (const Problem& p : problems) {
      const ConvShape& s = p.shape;
      list.push_back({{"net", p.net},
                      {"layer", p.name},
                      {"fc", p.fc},
                      {"first", p.first},
                      {"bias", p.bias},
                      {"x", {s.N, s.H, s.W, s.C}},
                      {"w", {s.K, s.R, s.S, s.C}},
                      {"stride", {s.stride_h, s.stride_w}},
                      {"pad", {s.pad_h, s.pad_w}}});
    }
    std::ofstream(asked) << list << "\n";
    const std::string command =
        text("timeout -k 5 ", static_cast<int64_t>(std::ceil(options.peer_seconds)), " \"", options.peer,
             "\" \"", options.peer_script, "\" --problems ", asked, " --json ", answer, " --precision ",
             options.precision, " --seconds ", options.seconds, " >/dev/null");
    const int status = std::system(command.c_str());
    std::ifstream in(answer);
    const Json result = in ? Json::parse(in, nullptr, false) : Json();
    if (!result.is_object()) throw Error(text("no times (status ", status, ")"));
    times.name = result.at("name");
    for (const Json& row : result.at("rows"))
      for (const Pass pass : {kForward, kBackwardData, kBackwardWeights})
        if (row.at("pass") == kPassNames[pass])
          times.by_layer[{key(row.at("net"), row.at("layer")), pass}] = row.at("seconds");
    if (status != 0)
      std::fprintf(stderr, "bench_ops: the peer ended early, with status %d and %zu times\n", status,
                   times.by_layer.size());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_ops: the peer %s: %s\n", options.peer.c_str(), error.what());
    if (times.by_layer.empty()) times.name = "none (it failed)";
  }
  return times;
}

}  // namespace convoy::bench
