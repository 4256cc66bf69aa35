#include "nonfinite.h"

#include <cstring>

#include "kernels/fill.h"

namespace convoy {
namespace {

int64_t nonfinite_in(Exec& exec, const In& x) {
  int32_t count = 0;
  run(exec, CountNonfinite{x.reshaped({x.count()}), View(&count, Shape{1})});
  exec.backend->synchronize(exec);
  return count;
}

std::string bad_weight(const Model& m, Exec& exec) {
  for (size_t i = 0; i < m.specs.size(); ++i)
    if (const int64_t count = nonfinite_in(exec, m.values[i]); count > 0)
      return text(m.specs[i].name, " holds ", count, " NaN or infinite values since the update before");
  return "";
}

// Runs all operations, transfers too, so that no worker waits for another.
void run_and_look(const Model& m, Exec& exec, const std::vector<Operation>& operations, std::string& found) {
  for (const Operation& operation : operations) {
    operation.run(exec);
    if (operation.output.empty() || !found.empty()) continue;
    if (const int64_t count = nonfinite_in(exec, operation.output); count > 0)
      found = text("the first layer with NaN or infinite values is ",
                   m.net.layers[static_cast<size_t>(operation.layer)].name, " (", operation.name, ", ", count,
                   " of ", operation.output.count(), ")");
  }
}

// What the lowest rank that found something has found.
std::string first_found(const Model& m, Exec& exec, const std::string& found) {
  const int world = m.team.world();
  if (world == 1) return found;
  constexpr int64_t kBytes = 400;
  std::vector<char> all(static_cast<size_t>(world * kBytes));
  char* mine = all.data() + m.team.rank() * kBytes;
  std::strncpy(mine, found.c_str(), kBytes - 1);
  const auto view = [](char* data, int64_t rows) {
    return View(reinterpret_cast<std::byte*>(data), DType::kU8, {rows, kBytes});
  };
  m.team.compute->all_gather(exec, {Traffic::kOther, "gather findings"}, view(mine, 1),
                             view(all.data(), world), m.report_blocks);
  exec.backend->synchronize(exec);
  for (int r = 0; r < world; ++r)
    if (all[static_cast<size_t>(r * kBytes)] != 0) return text(all.data() + r * kBytes, " on worker ", r);
  return "";
}

}  // namespace

void name_nonfinite(Model& m, Exec& exec, const Step& step, int64_t step_number) {
  std::string found = bad_weight(m, exec);
  run_and_look(m, exec, step.front.forward, found);
  for (const PassWork& work : step.passes) {
    const Slot& slot = m.slots[static_cast<size_t>(work.slot)];
    gather_rows(*m.team.transfer, m.team.queue, work.pass, step.front.features,
                slot.features.slice_rows(0, work.pass.total));
    exec.backend->wait(exec, exec.backend->record(m.team.queue));
    const int64_t bytes = work.pass.total * 4;
    exec.backend->copy(exec, slot.labels.data, m.pass_labels.data + work.first * 4, bytes);
    exec.backend->copy(exec, slot.row_numbers.data, step.row_numbers.data() + work.first, bytes);
    run_and_look(m, exec, work.program->forward, found);
  }
  found = first_found(m, exec, found);
  if (found.empty()) found = "the sum over the batch overflows";
  throw NonfiniteError(
      text("the loss is not finite at step ", step_number, ": ", found, "; lower --lr or set --clip-norm"));
}

}  // namespace convoy
