// Traces of all ranks, brought together on rank 0.
#include <cstring>
#include <fstream>

#include "trace.h"

namespace convoy {
namespace {

// What goes before a rank's spans.
struct Header {
  char machine[40] = {};      // ranks with the same one have the same clock
  int64_t after_barrier = 0;  // on this rank's clock
  int64_t bytes = 0;          // of the spans
};

template <class T>
void put(std::vector<std::byte>& to, const T& value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  to.insert(to.end(), bytes, bytes + sizeof value);
}

template <class T>
T take(const std::vector<std::byte>& from, size_t& at) {
  T value;
  CONVOY_CHECK(at + sizeof value <= from.size(), "spans end at ", from.size());
  std::memcpy(&value, from.data() + at, sizeof value);
  at += sizeof value;
  return value;
}

std::vector<std::byte> packed(const Trace& trace) {
  std::vector<std::byte> out;
  put(out, trace.left_out());
  for (const Lane lane : {Lane::kCompute, Lane::kTransfer}) {
    put(out, static_cast<int64_t>(trace.spans(lane).size()));
    for (const SpanRecord& span : trace.spans(lane)) {
      const size_t letters = std::strlen(span.name);
      put(out, span);  // the pointer in it means nothing elsewhere: the name follows
      put(out, static_cast<int64_t>(letters));
      const auto* name = reinterpret_cast<const std::byte*>(span.name);
      out.insert(out.end(), name, name + letters);
    }
  }
  return out;
}

TracedWorker unpacked(int rank, const std::vector<std::byte>& from, int64_t shift) {
  TracedWorker worker;
  worker.rank = rank;
  size_t at = 0;
  worker.left_out = take<int64_t>(from, at);
  for (auto& lane : worker.lanes) {
    for (auto left = take<int64_t>(from, at); left > 0; --left) {
      const auto span = take<SpanRecord>(from, at);
      const auto letters = static_cast<size_t>(take<int64_t>(from, at));
      CONVOY_CHECK(letters <= from.size() - at, "a name of ", letters, " bytes");
      const std::string name(reinterpret_cast<const char*>(from.data() + at), letters);
      at += letters;
      lane.push_back({name, span.kind, span.start + shift, span.end + shift, span.bytes, span.pass});
    }
  }
  return worker;
}

// Linux gives a machine another one at every start, as it does its clock.
void read_machine(char (&machine)[40]) {
  std::ifstream("/proc/sys/kernel/random/boot_id").read(machine, sizeof machine - 1);
}

}  // namespace

std::vector<TracedWorker> gather_traces(Communicator& comm, Exec& exec, const Trace& trace) {
  const auto bytes_of = [](void* data, size_t bytes) {
    return View(static_cast<std::byte*>(data), DType::kU8, {static_cast<int64_t>(bytes)});
  };
  Header own;
  read_machine(own.machine);
  comm.barrier(exec);
  exec.backend->synchronize(exec);
  own.after_barrier = now_nanoseconds();
  if (comm.rank() != 0) {
    std::vector<std::byte> spans = packed(trace);
    own.bytes = static_cast<int64_t>(spans.size());
    comm.send(exec, {Traffic::kOther, "trace"}, bytes_of(&own, sizeof own), 0);
    comm.send(exec, {Traffic::kOther, "trace"}, bytes_of(spans.data(), spans.size()), 0);
    exec.backend->synchronize(exec);
    return {};
  }
  std::vector<TracedWorker> workers = {traced_worker(0, trace)};
  for (int from = 1; from < comm.world(); ++from) {
    Header header;
    comm.recv(exec, {Traffic::kOther, "trace"}, bytes_of(&header, sizeof header), from);
    exec.backend->synchronize(exec);
    std::vector<std::byte> spans(static_cast<size_t>(header.bytes));
    comm.recv(exec, {Traffic::kOther, "trace"}, bytes_of(spans.data(), spans.size()), from);
    exec.backend->synchronize(exec);
    const bool same_clock = std::memcmp(header.machine, own.machine, sizeof own.machine) == 0;
    workers.push_back(unpacked(from, spans, same_clock ? 0 : own.after_barrier - header.after_barrier));
  }
  return workers;
}

}  // namespace convoy
