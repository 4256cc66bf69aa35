#include "schemes_page.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "text_table.h"

namespace convoy {
namespace {

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --faint: #5b6470; --line: #d5dae1; --lane: #f2f4f7;
  --compute: #a9b4c2; --rows: #e69f00; --columns: #d58ab4; --gradients: #2bb38a; --other: #6cbcec; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ee; --paper: #15181c; --faint: #9aa4b1; --line: #363c45; --lane: #1e2329; --compute: #8492a3; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto;
  max-width: 1160px; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .5rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .4rem; }
h3 { font-size: 1rem; font-weight: 600; margin: 1.2rem 0 .2rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; color: var(--faint); margin: 0; }
dd { margin: 0; color: var(--ink); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem .4rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } th small { color: var(--faint); font-weight: 400; display: block; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
td.wrong { color: #d03030; font-weight: 700; }
p.legend { color: var(--faint); margin: .3rem 0; } .legend span { margin-right: 1.2rem; white-space: nowrap; }
.legend i { display: inline-block; width: .9em; height: .9em; border-radius: 2px; margin-right: .35em;
  vertical-align: -.08em; }
svg { width: 100%; height: auto; display: block; font: 11px system-ui, sans-serif; }
svg text { fill: var(--faint); } svg text.in { fill: #111; pointer-events: none; }
svg line { stroke: var(--line); } svg .lane { fill: var(--lane); }
.compute { fill: var(--compute); background: var(--compute); } .rows { fill: var(--rows); background: var(--rows); }
.columns { fill: var(--columns); background: var(--columns); }
.gradients { fill: var(--gradients); background: var(--gradients); }
.other { fill: var(--other); background: var(--other); }
svg .span { stroke: var(--paper); stroke-width: .5; }
)";

// Of the drawing, in its own units.
constexpr double kLeft = 118, kRight = 1100, kLaneHeight = 18, kLaneGap = 2, kRankGap = 8, kAxis = 24;

// 1, 2 or 5 times a power of ten: at most ten steps of it on the axis.
double tick_step(double nanoseconds) {
  double step = std::pow(10, std::floor(std::log10(std::max(nanoseconds, 1.0))) - 1);
  for (const double factor : {2.0, 2.5, 2.0}) {
    if (nanoseconds / step <= 10) break;
    step *= factor;
  }
  return step;
}

struct Range {
  int64_t first = std::numeric_limits<int64_t>::max(), last = std::numeric_limits<int64_t>::min();
  int64_t length() const { return last > first ? last - first : 0; }
};
// Of all spans, or of the transfers of rows alone.
Range range_of(const StepTimeline& timeline, bool rows_alone) {
  Range range;
  for (const TracedWorker& worker : timeline.workers)
    for (const auto& lane : worker.lanes)
      for (const TracedSpan& span : lane) {
        if (rows_alone && span.kind != SpanKind::kRows) continue;
        range.first = std::min(range.first, span.start);
        range.last = std::max(range.last, span.end);
      }
  return range;
}

std::string shown_time(double nanoseconds) {
  return nanoseconds >= 1e6 ? decimals(1e-6 * nanoseconds, 2) + " ms"
                            : decimals(1e-3 * nanoseconds, 1) + " us";
}

void draw_span(std::ostream& out, const TracedSpan& span, double x, double width, double y) {
  std::string tip = span.name;
  if (span.pass >= 0) tip += text(", pass ", span.pass);
  tip += ": " + shown_time(static_cast<double>(span.end - span.start));
  if (span.bytes > 0) tip += ", " + decimals(1e-6 * static_cast<double>(span.bytes), 3) + " MB";
  out << "<g><title>" << escaped(tip) << "</title><rect class=\"span " << span_kind_name(span.kind)
      << "\" x=\"" << decimals(x, 2) << "\" y=\"" << decimals(y, 1) << "\" width=\""
      << decimals(std::max(width, 0.4), 2) << "\" height=\"" << kLaneHeight << "\"/>";
  std::string inside = span.pass >= 0 ? text(span.name, " ", span.pass) : span.name;
  constexpr double kLetter = 5.7;
  if (width >= kLetter * static_cast<double>(inside.size()) + 4)
    out << "<text class=\"in\" x=\"" << decimals(x + 3, 2) << "\" y=\"" << decimals(y + kLaneHeight - 5, 1)
        << "\">" << escaped(inside) << "</text>";
  out << "</g>\n";
}

// The part of the timeline from `first` on, `longest` nanoseconds from edge to edge.
void draw(std::ostream& out, const StepTimeline& timeline, const Range& part, int64_t longest) {
  const double height =
      static_cast<double>(timeline.workers.size()) * (kLanes * (kLaneHeight + kLaneGap) + kRankGap) + kAxis;
  const double scale = (kRight - kLeft) / static_cast<double>(std::max<int64_t>(longest, 1));
  out << "<svg viewBox=\"0 0 " << kRight + 20 << " " << height << "\" role=\"img\" aria-label=\""
      << escaped(timeline.title) << "\">\n";
  const double step = tick_step(static_cast<double>(longest));
  const int digits = std::max(0, static_cast<int>(std::ceil(6 - std::log10(step) - 1e-9)));
  for (int tick = 0; tick * step <= static_cast<double>(longest) * 1.0001; ++tick) {
    const double at = tick * step;
    const std::string x = decimals(kLeft + at * scale, 2);
    out << "<line x1=\"" << x << "\" x2=\"" << x << "\" y1=\"0\" y2=\"" << height - kAxis + 4
        << "\"/><text x=\"" << x << "\" y=\"" << height - 6 << "\" text-anchor=\"middle\">"
        << decimals(1e-6 * at, digits) << (tick == 0 ? " ms" : "") << "</text>\n";
  }
  double y = 2;
  for (const TracedWorker& worker : timeline.workers) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      out << "<text x=\"0\" y=\"" << decimals(y + kLaneHeight - 5, 1) << "\">rank " << worker.rank << " "
          << lane_name(static_cast<Lane>(lane)) << "</text><rect class=\"lane\" x=\"" << kLeft << "\" y=\""
          << y << "\" width=\"" << kRight - kLeft << "\" height=\"" << kLaneHeight << "\"/>\n";
      std::vector<TracedSpan> spans = worker.lanes[lane];
      // What contains others is drawn below them.
      std::stable_sort(spans.begin(), spans.end(), [](const TracedSpan& a, const TracedSpan& b) {
        return a.start != b.start ? a.start < b.start : a.end > b.end;
      });
      for (const TracedSpan& span : spans) {
        const int64_t start = std::max(span.start, part.first), end = std::min(span.end, part.last);
        if (start > end || (start == end && span.start < span.end)) continue;
        draw_span(out, span, kLeft + static_cast<double>(start - part.first) * scale,
                  static_cast<double>(end - start) * scale, y);
      }
      y += kLaneHeight + kLaneGap;
    }
    y += kRankGap;
  }
  out << "</svg>\n";
}

void write_table(std::ostream& out, const std::vector<SchemeRow>& rows) {
  out << "<div class=\"wide\"><table>\n<thead><tr>";
  for (const SchemeColumn& column : scheme_columns())
    out << "<th>" << escaped(column.name) << "<small>" << escaped(column.unit) << "</small></th>";
  out << "</tr></thead>\n<tbody>\n";
  for (const SchemeRow& row : rows) {
    out << "<tr>";
    const std::vector<std::string> cells = scheme_cells(row);
    for (size_t c = 0; c < cells.size(); ++c)
      out << (c + 1 == cells.size() && !(row.wrong <= 1) ? "<td class=\"wrong\">" : "<td>")
          << escaped(cells[c]) << "</td>";
    out << "</tr>\n";
  }
  out << "</tbody></table></div>\n";
}

}  // namespace

std::string escaped(const std::string& raw) {
  // Through JSON's writer: bytes that are not UTF-8 are replaced.
  const std::string value = nlohmann::json::parse(
      nlohmann::json(raw).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  std::string out;
  for (const char letter : value) {
    const auto code = static_cast<unsigned char>(letter);
    if (letter == '&')
      out += "&amp;";
    else if (letter == '<')
      out += "&lt;";
    else if (letter == '>')
      out += "&gt;";
    else if (letter == '"')
      out += "&quot;";
    else
      out += code < 32 && letter != '\n' && letter != '\t' ? '?' : letter;
  }
  return out;
}

std::string schemes_page(const std::string& title, const Facts& facts, const std::vector<SchemeRow>& rows,
                         const std::vector<StepTimeline>& timelines) {
  std::ostringstream out;
  out << "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head><meta "
         "charset=\"utf-8\"/>"
      << "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>"
      << escaped(title) << "</title>\n<style>" << kStyle << "</style></head>\n<body>\n<h1>" << escaped(title)
      << "</h1>\n<dl>\n";
  for (const auto& [name, value] : facts)
    out << "<dt>" << escaped(name) << "</dt><dd>" << escaped(value) << "</dd>\n";
  out << "</dl>\n<h2>Results</h2>\n"
      << "<p class=\"legend\">ms of a step: computing, and waiting for rows, columns and gradients. MB: what "
         "a worker "
         "exchanges in a step, and its memory for rows that travel. #wrong: the largest difference from one "
         "worker's "
         "weights; up to 1 is rounding.</p>\n";
  write_table(out, rows);
  out << "<h2>One step</h2>\n<p class=\"legend\">";
  for (const SpanKind kind :
       {SpanKind::kCompute, SpanKind::kRows, SpanKind::kColumns, SpanKind::kGradients, SpanKind::kOther})
    out << "<span><i class=\"" << span_kind_name(kind) << "\"></i>" << span_kind_name(kind) << "</span>";
  out << "</p>\n";
  int64_t longest = 0, longest_exchange = 0;
  for (const StepTimeline& timeline : timelines) {
    longest = std::max(longest, range_of(timeline, false).length());
    longest_exchange = std::max(longest_exchange, range_of(timeline, true).length());
  }
  for (const StepTimeline& timeline : timelines) {
    out << "<h3>" << escaped(timeline.title) << "</h3>\n";
    draw(out, timeline, range_of(timeline, false), longest);
    const Range exchange = range_of(timeline, true);
    if (exchange.length() == 0) continue;
    out << "<p class=\"legend\">From the first row that travels to the last, enlarged:</p>\n";
    draw(out, timeline, exchange, longest_exchange);
  }
  out << "</body>\n</html>\n";
  return out.str();
}

}  // namespace convoy
