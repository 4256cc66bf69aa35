// Results of `convoy bench-schemes` as one page: the table, and the timeline of a step for each scheme.
#pragma once
#include <string>
#include <vector>

#include "schemes_table.h"
#include "trace.h"

namespace convoy {

struct StepTimeline {
  std::string title;                  // "hybrid, scheme B, 4 workers"
  std::vector<TracedWorker> workers;  // one step; names of spans are shown
};

// Self-contained XHTML: no scripts, nothing is fetched; light or dark as the reader's system is. All timelines have
// the same scale, and so have the enlarged parts in which rows travel.
std::string schemes_page(const std::string& title, const Facts& facts, const std::vector<SchemeRow>& rows,
                         const std::vector<StepTimeline>& timelines);

// `text` for XML, inside elements and attributes; what XML cannot hold becomes '?'.
std::string escaped(const std::string& text);

}  // namespace convoy
