// One checkpoint of several workers. The first one writes; where a part needs rows of others, it asks their
// owners, who answer until they are told how it ended. Requests and answers come in pairs: at any moment one
// rank talks to one other, and nobody holds more than a part.
#include <algorithm>

#include "checkpoint_agree.h"
#include "convoy/checkpoint.h"

namespace convoy {
namespace {

// For elements of parameter `spec` in the file's order; or, with spec -1, the end, and the verdict follows.
struct Request {
  int64_t spec = -1, state = -1;  // state -1: the values
  int64_t first = 0, count = 0;
};

// [rank][spec]
std::vector<std::vector<RowRange>> gather(Communicator& workers, Exec& exec,
                                          const std::vector<RowRange>& mine) {
  const auto specs = mine.size(), world = static_cast<size_t>(workers.world());
  std::vector<RowRange> all(specs * world);
  const auto bytes = static_cast<int64_t>(specs * sizeof(RowRange));
  const Blocks blocks(world, 1);
  workers.all_gather(exec, Line::kLabel, In(reinterpret_cast<const uint8_t*>(mine.data()), Shape{1, bytes}),
                     View(reinterpret_cast<uint8_t*>(all.data()), Shape{workers.world(), bytes}), blocks);
  exec.backend->synchronize(exec);
  std::vector<std::vector<RowRange>> by_rank;
  for (auto rank = all.begin(); rank != all.end(); rank += static_cast<std::ptrdiff_t>(specs))
    by_rank.emplace_back(rank, rank + static_cast<std::ptrdiff_t>(specs));
  return by_rank;
}

// Elements of rows that are here.
void copy_part(const std::vector<FileLayout>& layouts, const HostTensors& from,
               const std::vector<RowRange>& own, const Request& part, float* to) {
  const auto i = static_cast<size_t>(part.spec);
  CONVOY_CHECK(i < layouts.size() && part.state >= -1 &&
                   part.state < static_cast<int64_t>(from.state.size()) && part.count >= 0 &&
                   part.first >= own[i].first * layouts[i].row() &&
                   part.first + part.count <= own[i].end() * layouts[i].row(),
               "elements ", part.first, "+", part.count, " of tensor ", part.spec, ", state ", part.state);
  const float* values =
      part.state < 0 ? from.values[i] : from.state[static_cast<size_t>(part.state)].values[i];
  to_file_order(layouts[i], values, part.first - own[i].first * layouts[i].row(), part.count, to);
}

// Answers the first rank until it says how the save ended.
void serve(Line& line, const std::vector<FileLayout>& layouts, const HostTensors& from,
           const std::vector<RowRange>& own) {
  std::vector<float> part;
  for (;;) {
    Request request;
    line.recv(&request, sizeof request, 0);
    if (request.spec < 0) {
      heed(line);
      return;
    }
    part.resize(static_cast<size_t>(request.count));
    copy_part(layouts, from, own, request, part.data());
    line.send(part.data(), request.count * static_cast<int64_t>(sizeof(float)), 0);
  }
}

}  // namespace

std::string save_checkpoint_together(Communicator* workers, Exec& exec, const std::string& dir,
                                     const Net& net, const HostTensors& from, const TrainingRecord& record,
                                     const SaveOptions& options) {
  if (workers == nullptr || workers->world() == 1)
    return save_checkpoint(dir, checkpoint_tensors(net, from, record), record, options);
  const std::vector<FileLayout> layouts = file_layouts(net);
  std::vector<RowRange> own = from.own;
  if (own.empty())
    for (const FileLayout& layout : layouts) own.push_back({0, layout.shape[0]});
  CONVOY_CHECK(own.size() == layouts.size(), own.size(), " for ", layouts.size());
  Line line(*workers, exec);
  const std::vector<std::vector<RowRange>> owners = gather(*workers, exec, own);
  if (workers->rank() != 0) {
    serve(line, layouts, from, own);
    return "";
  }

  const auto fetch = [&](size_t spec, int state, int64_t first, int64_t count, float* to) {
    while (count > 0) {
      const int64_t row = first / layouts[spec].row();
      const auto owner = std::find_if(owners.begin(), owners.end(), [&](const std::vector<RowRange>& rows) {
        return row >= rows[spec].first && row < rows[spec].end();
      });
      CONVOY_CHECK(owner != owners.end(), "no worker has row ", row, " of ", layouts[spec].name);
      const int64_t end = (*owner)[spec].end() * layouts[spec].row();
      const Request part{static_cast<int64_t>(spec), state, first, std::min(count, end - first)};
      const auto rank = static_cast<int>(owner - owners.begin());
      if (rank == 0) {
        copy_part(layouts, from, own, part, to);
      } else {
        line.send(&part, sizeof part, rank);
        line.recv(to, part.count * static_cast<int64_t>(sizeof(float)), rank);
      }
      first += part.count;
      count -= part.count;
      to += part.count;
    }
  };
  std::string warning;
  const Verdict verdict = attempt(
      [&] { warning = save_checkpoint(dir, checkpoint_tensors(net, from, record, fetch), record, options); });
  const Request end;
  for (int rank = 1; rank < workers->world(); ++rank) line.send(&end, sizeof end, rank);
  announce(line, verdict);
  pronounce(verdict);
  return warning;
}

}  // namespace convoy
