#include "text_table.h"

#include <algorithm>
#include <iomanip>
#include <ostream>
#include <sstream>

namespace convoy {

void print_table(std::ostream& out, const std::vector<TableRow>& rows, size_t words) {
  std::vector<size_t> width(rows.front().size());
  for (const TableRow& row : rows)
    for (size_t c = 0; c < row.size(); ++c) width[c] = std::max(width[c], row[c].size());
  for (const TableRow& row : rows) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      const std::string space(width[c] - row[c].size(), ' ');
      line += (c == 0 ? "" : "  ") + (c < words ? row[c] + space : space + row[c]);
    }
    out << line.substr(0, line.find_last_not_of(' ') + 1) << "\n";
  }
}

std::string decimals(double value, int digits) {
  std::ostringstream out;
  out << std::fixed << std::setprecision(digits) << value;
  return out.str();
}

}  // namespace convoy
