#include "schemes_table.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <ostream>

#include "convoy/check.h"
#include "text_table.h"

namespace convoy {
namespace {

std::string megabytes(int64_t bytes) {
  return decimals(1e-6 * static_cast<double>(bytes), 3);
}

std::string milliseconds(double seconds) {
  return decimals(1e3 * seconds, 2);
}

// "0" when nothing differs, else two digits: 3.1e-01.
std::string difference(double value) {
  if (value == 0) return "0";
  std::ostringstream out;
  out.precision(1);
  out << std::scientific << value;
  return out.str();
}

}  // namespace

const std::vector<SchemeColumn>& scheme_columns() {
  static const std::vector<SchemeColumn> columns = {
      {"mode", ""},        {"scheme", ""},           {"workers", ""},   {"speed", "images/s"},
      {"step", "ms"},      {"compute", "ms"},        {"rows", "ms"},    {"columns", "ms"},
      {"gradients", "ms"}, {"rows", "MB"},           {"columns", "MB"}, {"gradients", "MB"},
      {"buffers", "MB"},   {"exposed", "% of rows"}, {"plan", "ms"},    {"#wrong", "bounds"},
  };
  return columns;
}

std::vector<std::string> scheme_cells(const SchemeRow& row) {
  return {row.mode,
          row.scheme.empty() ? "-" : row.scheme,
          std::to_string(row.workers),
          decimals(row.images_per_second, 1),
          milliseconds(row.step_seconds),
          milliseconds(row.compute_seconds),
          milliseconds(row.exposed[0]),
          milliseconds(row.exposed[1]),
          milliseconds(row.exposed[2]),
          megabytes(row.bytes[0]),
          megabytes(row.bytes[1]),
          megabytes(row.bytes[2]),
          megabytes(row.buffer_bytes),
          row.row_transfer_seconds > 0 ? decimals(100 * row.least_row_seconds / row.row_transfer_seconds, 1)
                                       : "-",
          row.modelled_seconds > 0 ? milliseconds(row.modelled_seconds) : "-",
          difference(row.wrong)};
}

void print_schemes(std::ostream& out, const Facts& facts, const std::vector<SchemeRow>& rows) {
  for (const auto& [name, value] : facts) out << "# " << name << ": " << value << "\n";
  out << "#\n# rows, columns, gradients: ms that compute waits for them, and MB a worker and step\n"
      << "# exposed: of the time that rows take on the links, what the worker that waits least waits for "
         "them\n"
      << "# plan: the step as `convoy plan` models it\n";
  TableRow names, units;
  for (const SchemeColumn& column : scheme_columns()) {
    names.emplace_back(column.name);
    units.emplace_back(column.unit[0] == '\0' ? "" : text("(", column.unit, ")"));
  }
  names[0] = "# " + names[0];
  units[0] = "#";
  std::vector<TableRow> table = {names, units};
  int wrong = 0;
  for (const SchemeRow& row : rows) {
    table.push_back(scheme_cells(row));
    table.back()[0] = "  " + table.back()[0];
    wrong += !(row.wrong <= 1);
  }
  print_table(out, table, 2);
  out << "# rows that differ from one worker by more than rounding: " << wrong << "\n";
}

std::string schemes_json(const Facts& facts, const std::vector<SchemeRow>& rows) {
  using Json = nlohmann::ordered_json;
  Json json = {{"facts", Json::object()}, {"rows", Json::array()}};
  for (const auto& [name, value] : facts) json["facts"][name] = value;
  for (const SchemeRow& row : rows)
    json["rows"].push_back({{"mode", row.mode},
                            {"scheme", row.scheme},
                            {"workers", row.workers},
                            {"images_per_second", row.images_per_second},
                            {"step_seconds", row.step_seconds},
                            {"compute_seconds", row.compute_seconds},
                            {"exposed_row_seconds", row.exposed[0]},
                            {"exposed_column_seconds", row.exposed[1]},
                            {"exposed_gradient_seconds", row.exposed[2]},
                            {"row_bytes", row.bytes[0]},
                            {"column_bytes", row.bytes[1]},
                            {"gradient_bytes", row.bytes[2]},
                            {"buffer_bytes", row.buffer_bytes},
                            {"row_transfer_seconds", row.row_transfer_seconds},
                            {"least_row_seconds", row.least_row_seconds},
                            {"modelled_seconds", row.modelled_seconds},
                            {"wrong", row.wrong}});
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace convoy
