#pragma once
#include <iosfwd>
#include <string>
#include <vector>

namespace convoy {

using TableRow = std::vector<std::string>;

// Columns as wide as their widest cell, two spaces apart; the first `words` of them to the left, numbers to the
// right. All rows have as many cells as the first.
void print_table(std::ostream& out, const std::vector<TableRow>& rows, size_t words);

// A number with so many digits behind the point.
std::string decimals(double value, int digits);

}  // namespace convoy
