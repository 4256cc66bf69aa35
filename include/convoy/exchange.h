// The exchange of rows between the data-parallel half of a net and its split half.
//
// A pass lists the rows that each worker puts into it; a scheme is a list of passes
// (A. Krizhevsky, arXiv 1404.5997, section 3: his (a), (b), (c)). Everything else about a scheme follows.
//
//   A  one pass with every row
//   B  pass p takes the global rows [pn, (p+1)n): with n = batch / world, all the rows of worker p
//   C  pass p takes from worker r the slice number (p + r) mod P of its rows; P = ceil(batch / n)
#pragma once
#include "convoy/comm.h"

namespace convoy {

enum class Scheme : uint8_t { kA, kB, kC };
const char* scheme_name(Scheme scheme);  // "A"

struct Pass {
  std::vector<RowRange> from;  // one a worker: which of its own rows
  Blocks rows;                 // from[r].count, as the communicator wants them
  int64_t total = 0;           // rows of the pass
  int32_t number = 0;          // p
};

// The passes of a global batch of which worker r owns part_of(batch, r, world); those without rows are left
// out. `pass_rows` is n, 1 <= n; scheme A ignores it.
std::vector<Pass> exchange_passes(Scheme scheme, int world, int64_t batch, int64_t pass_rows);

// The rows of the global batch in the order in which they stand in the pass.
std::vector<int32_t> rows_of(const Pass& pass, int world, int64_t batch);

// local [own rows, D] -> assembled [pass.total, D] on every worker.
void gather_rows(Communicator& comm, Exec& exec, const Pass& pass, In local, View assembled);
// Its transpose: sums assembled over the workers and overwrites the pass's rows of local.
void scatter_rows(Communicator& comm, Exec& exec, const Pass& pass, In assembled, View local);

}  // namespace convoy
