// Results of `convoy bench-schemes`: one row a mode, scheme and number of workers; as a table and as JSON.
#pragma once
#include <array>
#include <iosfwd>
#include <string>
#include <vector>

namespace convoy {

struct SchemeRow {
  std::string mode;    // "data", "hybrid", "model", "one worker"
  std::string scheme;  // "A", "B", "C", or empty
  int workers = 1;
  double images_per_second = 0, step_seconds = 0, compute_seconds = 0;
  std::array<double, 3> exposed{};  // seconds that compute waits for rows, columns, gradients
  std::array<int64_t, 3> bytes{};   // of a worker and step: rows, columns, gradients
  int64_t buffer_bytes = 0;         // memory for rows that travel
  double row_transfer_seconds = 0;  // of a step on the simulated links, one after the other; 0: no such links
  double least_row_seconds =
      0;  // what the worker that waits least waits for rows: the others wait for it as well
  double modelled_seconds = 0;  // of a step, by the model of `convoy plan`; 0: not asked for
  double wrong = 0;             // largest difference from one worker's weights, in units of its bound
};

// Lines of "name: value" that say what was measured: version, device, net, batch, links.
using Facts = std::vector<std::pair<std::string, std::string>>;

// In the style of nccl-tests: # lines, a header, a row of units, the rows, a footer.
void print_schemes(std::ostream& out, const Facts& facts, const std::vector<SchemeRow>& rows);

// {"facts": {...}, "rows": [{...}, ...]}
std::string schemes_json(const Facts& facts, const std::vector<SchemeRow>& rows);

// A row as it stands in the table, under the names and units of scheme_columns().
struct SchemeColumn {
  const char *name, *unit;
};
const std::vector<SchemeColumn>& scheme_columns();
std::vector<std::string> scheme_cells(const SchemeRow& row);

}  // namespace convoy
