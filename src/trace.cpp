#include "trace.h"

#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <system_error>

namespace convoy {
namespace {

// Text as JSON, quotes included; bytes that are not UTF-8 are replaced.
std::string quoted_json(const std::string& value) {
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Nanoseconds as the format's microseconds, to the last digit: a double would lose them after some days.
std::string microseconds(int64_t nanoseconds) {
  char out[40];
  std::snprintf(out, sizeof out, "%lld.%03d", static_cast<long long>(nanoseconds / 1000),
                static_cast<int>(nanoseconds % 1000));
  return out;
}

int64_t first_start(const std::vector<TracedWorker>& workers) {
  int64_t first = std::numeric_limits<int64_t>::max();
  for (const TracedWorker& worker : workers)
    for (const auto& lane : worker.lanes)
      for (const TracedSpan& span : lane) first = std::min(first, span.start);
  return first;
}

}  // namespace

const char* lane_name(Lane lane) {
  return lane == Lane::kCompute ? "compute" : "transfer";
}

const char* span_kind_name(SpanKind kind) {
  return kind == SpanKind::kCompute ? "compute" : traffic_name(static_cast<Traffic>(kind));
}

int64_t now_nanoseconds() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return int64_t{now.tv_sec} * 1000000000 + now.tv_nsec;
}

void Trace::make_room() {
  for (Spans& lane : lanes_)
    if (lane.spans.capacity() - lane.spans.size() < kRoom)
      lane.spans.reserve(std::max(2 * lane.spans.capacity(), lane.spans.size() + kRoom));
}

void Trace::add(Lane lane, const SpanRecord& span) noexcept {
  Spans& to = lanes_[static_cast<size_t>(lane)];
  if (to.spans.size() < to.spans.capacity())
    to.spans.push_back(span);
  else
    ++to.left_out;
}

TracedWorker traced_worker(int rank, const Trace& trace) {
  TracedWorker worker;
  worker.rank = rank;
  worker.left_out = trace.left_out();
  for (size_t lane = 0; lane < kLanes; ++lane)
    for (const SpanRecord& span : trace.spans(static_cast<Lane>(lane)))
      worker.lanes[lane].push_back({span.name, span.kind, span.start, span.end, span.bytes, span.pass});
  return worker;
}

std::string trace_json(const std::vector<TracedWorker>& workers) {
  const int64_t first = first_start(workers);
  int64_t left_out = 0;
  std::string out = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const char* separator = "\n";
  const auto event = [&](const std::string& fields) {
    out += separator + ("{" + fields + "}");
    separator = ",\n";
  };
  for (const TracedWorker& worker : workers) {
    left_out += worker.left_out;
    const std::string pid = text("\"pid\":", worker.rank);
    event(text("\"ph\":\"M\",\"name\":\"process_name\",", pid, ",\"args\":{\"name\":\"rank ", worker.rank,
               "\"}"));
    event(text("\"ph\":\"M\",\"name\":\"process_sort_index\",", pid,
               ",\"args\":{\"sort_index\":", worker.rank, "}"));
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const std::string place = text(pid, ",\"tid\":", lane);
      event(text("\"ph\":\"M\",\"name\":\"thread_name\",", place, ",\"args\":{\"name\":\"",
                 lane_name(static_cast<Lane>(lane)), "\"}"));
      for (const TracedSpan& span : worker.lanes[lane]) {
        std::string args = text("\"bytes\":", span.bytes);
        if (span.pass >= 0) args += text(",\"pass\":", span.pass);
        event(text("\"ph\":\"X\",\"name\":", quoted_json(span.name), ",\"cat\":\"", span_kind_name(span.kind),
                   "\",", place, ",\"ts\":", microseconds(span.start - first),
                   ",\"dur\":", microseconds(span.end - span.start), ",\"args\":{", args, "}"));
      }
    }
  }
  return out + text("\n],\"otherData\":{\"spans_left_out\":", left_out, "}}\n");
}

void write_trace(const std::string& file, const std::vector<TracedWorker>& workers) {
  errno = 0;
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << trace_json(workers);
  out.close();
  if (!out) throw Error(file + ": cannot write the trace: " + std::generic_category().message(errno));
}

}  // namespace convoy
