#include "convoy/exchange.h"

#include <algorithm>

namespace convoy {
namespace {

// The part of worker r's rows, which begin at global row `own.first`, that lies in the global rows `wanted`.
RowRange own_rows_in(RowRange own, RowRange wanted) {
  const int64_t first = std::clamp(wanted.first, own.first, own.end());
  const int64_t end = std::clamp(wanted.end(), own.first, own.end());
  return {first - own.first, end - first};
}

}  // namespace

const char* scheme_name(Scheme scheme) {
  switch (scheme) {
    case Scheme::kA:
      return "A";
    case Scheme::kB:
      return "B";
    case Scheme::kC:
      break;
  }
  return "C";
}

std::vector<Pass> exchange_passes(Scheme scheme, int world, int64_t batch, int64_t pass_rows) {
  CONVOY_CHECK(world >= 1 && batch >= 0 && (pass_rows >= 1 || scheme == Scheme::kA), world, " workers, ",
               batch, " rows, ", pass_rows, " rows a pass");
  const int64_t n = scheme == Scheme::kA ? std::max<int64_t>(batch, 1) : pass_rows;
  const auto count = static_cast<int>((batch + n - 1) / n);
  std::vector<Pass> passes;
  for (int p = 0; p < count; ++p) {
    Pass pass;
    pass.number = p;
    for (int r = 0; r < world; ++r) {
      const RowRange own = part_of(batch, r, world);
      const RowRange from =
          scheme == Scheme::kC ? part_of(own.count, (p + r) % count, count) : own_rows_in(own, {p * n, n});
      pass.from.push_back(from);
      pass.rows.push_back(from.count);
      pass.total += from.count;
    }
    if (pass.total > 0) passes.push_back(std::move(pass));
  }
  return passes;
}

std::vector<int32_t> rows_of(const Pass& pass, int world, int64_t batch) {
  std::vector<int32_t> rows;
  for (int r = 0; r < world; ++r) {
    const RowRange& from = pass.from[static_cast<size_t>(r)];
    for (int64_t i = 0; i < from.count; ++i)
      rows.push_back(static_cast<int32_t>(part_of(batch, r, world).first + from.first + i));
  }
  return rows;
}

void gather_rows(Communicator& comm, Exec& exec, const Pass& pass, In local, View assembled) {
  const RowRange& own = pass.from[static_cast<size_t>(comm.rank())];
  CONVOY_CHECK(own.end() <= local.rows(), "rows ", own.first, "+", own.count, " of ", local.shape);
  comm.all_gather(exec, {Traffic::kRows, "gather rows", pass.number}, local.slice_rows(own.first, own.count),
                  assembled, pass.rows);
}

void scatter_rows(Communicator& comm, Exec& exec, const Pass& pass, In assembled, View local) {
  const RowRange& own = pass.from[static_cast<size_t>(comm.rank())];
  CONVOY_CHECK(own.end() <= local.rows(), "rows ", own.first, "+", own.count, " of ", local.shape);
  comm.reduce_scatter(exec, {Traffic::kRows, "scatter rows", pass.number}, assembled,
                      local.slice_rows(own.first, own.count), pass.rows);
}

}  // namespace convoy
