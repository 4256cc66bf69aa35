// What a worker's two queues did, and when: recorded while it runs, written as a trace that Chrome (about:tracing)
// and Perfetto (ui.perfetto.dev) open.
//
// Recording takes no lock and no memory: a lane has its room beforehand and is written by one thread. A null
// Trace records nothing and costs a comparison.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "convoy/comm.h"

namespace convoy {

enum class Lane : uint8_t { kCompute, kTransfer };
constexpr size_t kLanes = 2;
const char* lane_name(Lane lane);  // "compute"

enum class SpanKind : uint8_t { kRows, kColumns, kGradients, kOther, kCompute };  // the first four as Traffic
constexpr size_t kSpanKinds = 5;
const char* span_kind_name(SpanKind kind);

// Times are CLOCK_MONOTONIC: the same on all processes of a machine.
int64_t now_nanoseconds();

struct SpanRecord {
  const char* name = "";  // its memory outlives the trace
  SpanKind kind = SpanKind::kCompute;
  int64_t start = 0, end = 0;  // nanoseconds
  int64_t bytes = 0;
  int32_t pass = -1;  // -1: of no pass
};

// One worker's lanes.
class Trace {
 public:
  static constexpr size_t kRoom = 4096;  // spans of a lane and step; what is beyond is counted and left out

  Trace() { make_room(); }
  // Between steps, while nothing records: room for another step in every lane.
  void make_room();
  void add(Lane lane, const SpanRecord& span) noexcept;
  const std::vector<SpanRecord>& spans(Lane lane) const { return lanes_[static_cast<size_t>(lane)].spans; }
  int64_t left_out() const { return lanes_[0].left_out + lanes_[1].left_out; }

 private:
  struct alignas(64) Spans {  // two threads write: a cache line each
    std::vector<SpanRecord> spans;
    int64_t left_out = 0;
  };
  std::array<Spans, kLanes> lanes_;
};

// Records its own life.
class Span {
 public:
  Span(Trace* trace, Lane lane, const char* name, SpanKind kind = SpanKind::kCompute, int32_t pass = -1)
      : trace_(trace), lane_(lane) {
    if (trace_ != nullptr) record_ = {name, kind, now_nanoseconds(), 0, 0, pass};
  }
  ~Span() {
    if (trace_ == nullptr) return;
    record_.end = now_nanoseconds();
    trace_->add(lane_, record_);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  Trace* trace_;
  Lane lane_;
  SpanRecord record_;
};

// A trace that owns its names: of another process, or of a model of the step (plan_model.h).
struct TracedSpan {
  std::string name;
  SpanKind kind = SpanKind::kCompute;
  int64_t start = 0, end = 0, bytes = 0;
  int32_t pass = -1;
};
struct TracedWorker {
  int rank = 0;
  std::array<std::vector<TracedSpan>, kLanes> lanes;
  int64_t left_out = 0;
};
TracedWorker traced_worker(int rank, const Trace& trace);

// Every rank's trace on rank 0, in rank order; nothing elsewhere. All ranks call it. Clocks of other machines are
// set to rank 0's by the moment at which each rank leaves one barrier: off by as much as the barrier lets ranks go
// apart, some tens of microseconds. Spans of one machine keep their times.
std::vector<TracedWorker> gather_traces(Communicator& comm, Exec& exec, const Trace& trace);

// Chrome's trace event format (JSON object): a process a rank, a thread a lane, times from the first span on.
std::string trace_json(const std::vector<TracedWorker>& workers);
// Throws Error naming the file when it cannot be written.
void write_trace(const std::string& file, const std::vector<TracedWorker>& workers);

}  // namespace convoy
