#include "nonfinite.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kernels/fill.h"

namespace convoy {
namespace {

int64_t nonfinite_in(const Model& m, Exec& exec, const In& x) {
  int32_t count = 0;
  run(exec, CountNonfinite{x.reshaped({x.count()}), m.nonfinite});
  exec.backend->copy(exec, &count, m.nonfinite.data, sizeof count);
  exec.backend->synchronize(exec);
  return count;
}

// What a worker has found first: a weight, or what a layer computed.
struct Found {
  int32_t layer = kNothing;
  std::string what;
  static constexpr int32_t kWeight = -1, kNothing = std::numeric_limits<int32_t>::max();
};

Found bad_weight(const Model& m, Exec& exec) {
  for (size_t i = 0; i < m.specs.size(); ++i)
    if (const int64_t count = nonfinite_in(m, exec, m.values[i]); count > 0)
      return {Found::kWeight,
              text(m.specs[i].name, " holds ", count, " NaN or infinite values since the update before")};
  return {};
}

// Runs all operations, transfers too, so that no worker waits for another.
void run_and_look(const Model& m, Exec& exec, const std::vector<Operation>& operations, Found& found) {
  for (const Operation& operation : operations) {
    operation.run(exec);
    if (operation.output.empty() || found.layer != Found::kNothing) continue;
    if (const int64_t count = nonfinite_in(m, exec, operation.output); count > 0)
      found = {operation.layer, text("the first layer with NaN or infinite values is ",
                                     m.net.layers[static_cast<size_t>(operation.layer)].name, " (",
                                     operation.name, ", ", count, " of ", operation.output.count(), ")")};
  }
}

// What lies first in the net, of what the workers have found: the others' findings follow from it.
std::string first_found(Model& m, Exec& compute, const Found& found) {
  const int world = m.team.world();
  if (world == 1) return found.what;
  Exec& exec = m.team.host_exec(compute);
  constexpr int64_t kBytes = 400;
  struct Record {
    int32_t layer;
    char what[kBytes - sizeof(int32_t)];
  };
  std::vector<Record> all(static_cast<size_t>(world));
  Record& mine = all[static_cast<size_t>(m.team.rank())];
  mine.layer = found.layer;
  std::strncpy(mine.what, found.what.c_str(), sizeof mine.what - 1);
  const auto view = [](Record* records, int64_t rows) {
    return View(reinterpret_cast<std::byte*>(records), DType::kU8, {rows, kBytes});
  };
  m.team.host()->all_gather(exec, {Traffic::kOther, "gather findings"}, view(&mine, 1),
                            view(all.data(), world), m.report_blocks);
  exec.backend->synchronize(exec);
  const auto first = std::min_element(all.begin(), all.end(),
                                      [](const Record& a, const Record& b) { return a.layer < b.layer; });
  if (first->layer == Found::kNothing) return "";
  return text(first->what, " on worker ", first - all.begin());
}

}  // namespace

void name_nonfinite(Model& m, Exec& exec, const Step& step, int64_t step_number) {
  Found found = bad_weight(m, exec);
  run_and_look(m, exec, step.front.forward, found);
  for (const PassWork& work : step.passes) {
    const Slot& slot = m.slots[static_cast<size_t>(work.slot)];
    gather_rows(*m.team.transfer, m.team.queue, work.pass, step.front.features,
                slot.features.slice_rows(0, work.pass.total));
    exec.backend->wait(exec, exec.backend->record(m.team.queue));
    const int64_t bytes = work.pass.total * 4;
    exec.backend->copy(exec, slot.labels.data, m.pass_labels.data + work.first * 4, bytes);
    exec.backend->copy(exec, slot.row_numbers.data, step.row_numbers.view().data + work.first * 4, bytes);
    run_and_look(m, exec, work.program->forward, found);
  }
  std::string what = first_found(m, exec, found);
  if (what.empty()) what = "the sum over the batch overflows";
  throw NonfiniteError(
      text("the loss is not finite at step ", step_number, ": ", what, "; lower --lr or set --clip-norm"));
}

}  // namespace convoy
