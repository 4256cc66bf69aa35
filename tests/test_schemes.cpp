// The results of bench-schemes as table, JSON and page.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "schemes_page.h"

namespace convoy {
namespace {

const Facts kFacts = {{"net", "alexnet <b>&\"bold\"</b>"}, {"links", "2 GB/s"}};

std::vector<SchemeRow> two_rows() {
  SchemeRow one, b;
  one.mode = "one worker";
  one.images_per_second = 327.04;
  one.step_seconds = one.compute_seconds = 0.3914;
  b.mode = "hybrid";
  b.scheme = "B";
  b.workers = 4;
  b.images_per_second = 1225.1;
  b.step_seconds = 0.4179;
  b.compute_seconds = 0.4073;
  b.exposed = {0.00484, 0.00565, 0.00014};
  b.bytes = {28311552, 26701824, 14818176};
  b.buffer_bytes = 18874368;
  b.row_transfer_seconds = 0.0121;
  b.least_row_seconds = 0.00363;
  b.modelled_seconds = 0.4201;
  b.wrong = 1.25;
  return {one, b};
}

StepTimeline small_timeline(const std::string& title) {
  StepTimeline timeline;
  timeline.title = title;
  for (int rank = 0; rank < 2; ++rank) {
    TracedWorker worker;
    worker.rank = rank;
    worker.lanes[0] = {{"forward <conv> & \"co\"", SpanKind::kCompute, 1000000, 3000000, 0, -1},
                       {"gather columns", SpanKind::kColumns, 3000000, 5000000, 64, 0}};
    worker.lanes[1] = {{"gather rows", SpanKind::kRows, 2000000, 4000000, 4718592, 1}};
    timeline.workers.push_back(worker);
  }
  return timeline;
}

int64_t count(const std::string& text, const std::string& part) {
  int64_t found = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

TEST(SchemesTable, WholeText) {
  std::ostringstream out;
  print_schemes(out, {{"net", "alexnet"}}, two_rows());
  EXPECT_EQ(out.str(), R"(# net: alexnet
#
# rows, columns, gradients: ms that compute waits for them, and MB a worker and step
# exposed: of the time that rows take on the links, what the worker that waits least waits for them
# plan: the step as `convoy plan` models it
# mode        scheme  workers       speed    step  compute  rows  columns  gradients    rows  columns  gradients  buffers      exposed    plan    #wrong
#                              (images/s)    (ms)     (ms)  (ms)     (ms)       (ms)    (MB)     (MB)       (MB)     (MB)  (% of rows)    (ms)  (bounds)
  one worker  -             1       327.0  391.40   391.40  0.00     0.00       0.00   0.000    0.000      0.000    0.000            -       -         0
  hybrid      B             4      1225.1  417.90   407.30  4.84     5.65       0.14  28.312   26.702     14.818   18.874         30.0  420.10   1.2e+00
# rows that differ from one worker by more than rounding: 1
)");
}

TEST(SchemesTable, ADifferenceThatIsNoNumberIsWrong) {
  std::vector<SchemeRow> rows = two_rows();
  rows[1].wrong = std::nan("");
  std::ostringstream out;
  print_schemes(out, {}, rows);
  EXPECT_NE(out.str().find("more than rounding: 1\n"), std::string::npos) << out.str();
  rows[1].wrong = 1;
  out.str("");
  print_schemes(out, {}, rows);
  EXPECT_NE(out.str().find("more than rounding: 0\n"), std::string::npos) << out.str();
}

TEST(SchemesTable, JsonHasEveryNumber) {
  const nlohmann::json json = nlohmann::json::parse(schemes_json(kFacts, two_rows()));
  EXPECT_EQ(json["facts"]["net"], kFacts[0].second);
  ASSERT_EQ(json["rows"].size(), 2u);
  EXPECT_EQ(json["rows"][1], nlohmann::json::parse(R"({"mode":"hybrid","scheme":"B","workers":4,
      "images_per_second":1225.1,"step_seconds":0.4179,"compute_seconds":0.4073,"exposed_row_seconds":0.00484,
      "exposed_column_seconds":0.00565,"exposed_gradient_seconds":0.00014,"row_bytes":28311552,
      "column_bytes":26701824,"gradient_bytes":14818176,"buffer_bytes":18874368,
      "row_transfer_seconds":0.0121,"least_row_seconds":0.00363,"modelled_seconds":0.4201,"wrong":1.25})"));
}

TEST(SchemesPage, HasEveryRowEveryLaneAndEverySpan) {
  const std::string page = schemes_page("Exchange & schemes", kFacts, two_rows(),
                                        {small_timeline("scheme A"), small_timeline("scheme B")});
  for (const SchemeRow& row : two_rows())
    for (const std::string& cell : scheme_cells(row))
      EXPECT_NE(page.find(">" + cell + "</td>"), std::string::npos) << cell;
  EXPECT_EQ(count(page, "<td class=\"wrong\">1.2e+00</td>"), 1);
  for (const char* title : {"<h3>scheme A</h3>", "<h3>scheme B</h3>"}) EXPECT_EQ(count(page, title), 1);
  // Two timelines, each whole and enlarged, of two ranks.
  EXPECT_EQ(count(page, "<svg "), 4);
  for (const char* lane : {">rank 0 compute<", ">rank 1 transfer<"}) EXPECT_EQ(count(page, lane), 4) << lane;
  EXPECT_EQ(count(page, "gather rows, pass 1: 2.00 ms, 4.719 MB"), 8);
  EXPECT_EQ(count(page, "class=\"span rows\""), 8);
  EXPECT_EQ(count(page, "<script"), 0);
  EXPECT_EQ(count(page, "http"), 1) << "the namespace alone";
  // The axis of 4 ms from edge to edge, 118 to 1100: rows travel from 1 ms to 3 ms.
  EXPECT_NE(page.find("<rect class=\"span rows\" x=\"363.50\" y=\"22.0\" width=\"491.00\""),
            std::string::npos);
}

TEST(SchemesPage, EscapesWhatIsNotItsOwn) {
  EXPECT_EQ(escaped("a<b>&\"c\"\x01\xff\n"), "a&lt;b&gt;&amp;&quot;c&quot;?\xef\xbf\xbd\n");
  const std::string page = schemes_page("<t>", kFacts, two_rows(), {small_timeline("<scheme>")});
  EXPECT_EQ(count(page, "<b>"), 0);
  EXPECT_EQ(count(page, "<conv>"), 0);
  EXPECT_EQ(count(page, "<scheme>"), 0);
  EXPECT_EQ(count(page, "forward &lt;conv&gt; &amp; &quot;co&quot;: 2.00 ms"), 4);
  EXPECT_NE(page.find("<title>&lt;t&gt;</title>"), std::string::npos);
}

TEST(SchemesPage, IsWellFormed) {
  if (std::system("python3 -c 'import xml.dom.minidom' >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "needs python3";
  const std::string file = testing::TempDir() + "/convoy_schemes.html";
  const std::string names = "\xff\x01<&>\"' --> ]]>";
  for (const auto& timelines : {std::vector<StepTimeline>{}, std::vector<StepTimeline>{{names, {}}},
                                std::vector<StepTimeline>{small_timeline(names)}}) {
    std::ofstream(file) << schemes_page(names, {{names, names}}, two_rows(), timelines);
    const std::string command =
        "python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' '" + file + "'";
    EXPECT_EQ(std::system(command.c_str()), 0) << timelines.size();
  }
}

}  // namespace
}  // namespace convoy
