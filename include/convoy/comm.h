// Communicators: what workers say to each other. One Communicator is one rank's end of a group; all ranks call
// the same collectives in the same order, each queued on an Exec. A worker has one group a queue.
//
// Views are contiguous. Sums are f32, added in rank order: a run on the same number of workers has the same
// bits every time, on threads and on MPI alike. (NCCL has an order of its own, comm_cuda.h.) Gathering takes any dtype.
//
//   all_reduce      inout = sum over ranks of inout. Rank r adds up block r (elements [rN/K, (r+1)N/K)) and
//                   hands it to everyone: 2(K-1)/K of the bytes a rank (nccl-tests, PERFORMANCE.md)
//   all_gather      everyone = the ranks' rows, one behind the other; rank r gives blocks[r] rows (maybe none).
//                   `mine` may be those rows of `everyone` themselves
//   reduce_scatter  mine = sum over ranks of their rows that belong to this rank; the transpose of all_gather
//   broadcast       inout of `root`, on every rank
//   reduce          sum, on `root` alone, over ranks of mine; `sum` may be mine, and is not looked at elsewhere
//   send, recv      to and from one other rank; both name the same number of bytes
//
// Errors: throw Error when shapes do not fit. When another rank has failed, every call on every rank throws
// Aborted, also those that are waiting: the run ends with the message of the rank that failed first. Who waits for a
// device where NCCL's transfers are queued is released, and the next call throws.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "convoy/backend.h"

namespace convoy {

// Another rank has failed; its message is the one to show.
class Aborted : public Error {
 public:
  using Error::Error;
};

// What a transfer is for: bytes and waiting are counted for each apart.
enum class Traffic : uint8_t { kRows, kColumns, kGradients, kOther };
constexpr int kTrafficKinds = 4;
const char* traffic_name(Traffic traffic);  // "rows", ...

// A transfer's kind, and its name and pass in traces; the name's memory outlives the run.
struct Label {
  Traffic traffic = Traffic::kOther;
  const char* name = "";
  int32_t pass = -1;  // -1: of no pass
};

class Activity;     // activity.h
class StatusBoard;  // status_board.h
class Trace;        // trace.h
enum class Lane : uint8_t;

// Rows that each rank gives or gets, one entry a rank. It outlives the transfer.
using Blocks = std::vector<int64_t>;

class Communicator {
 public:
  virtual ~Communicator() = default;
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int world() const { return world_; }

  void all_reduce(Exec& exec, Label label, View inout);
  void all_gather(Exec& exec, Label label, In mine, View everyone, const Blocks& blocks);
  void reduce_scatter(Exec& exec, Label label, In everyone, View mine, const Blocks& blocks);
  void broadcast(Exec& exec, Label label, View inout, int root);
  void reduce(Exec& exec, Label label, In mine, View sum, int root);
  void send(Exec& exec, Label label, In view, int to);
  void recv(Exec& exec, Label label, View view, int from);
  void barrier(Exec& exec);

  // Payload of this rank's transfers so far: what it received of others in all_gather, broadcast and recv,
  // what it gave to others in reduce_scatter, reduce and send, and both halves of an all_reduce.
  int64_t bytes(Traffic traffic) const { return bytes_[static_cast<size_t>(traffic)].load(); }

  // From now on every transfer is a span of the trace; its lane belongs to the thread that runs the transfers.
  // Null: no more. To be called while none is queued.
  void trace_to(Trace* trace, Lane lane) {
    trace_ = trace;
    lane_ = lane;
  }

  // From now on the activity says which transfer runs; otherwise as trace_to.
  void note_to(Activity* activity, Lane lane) {
    activity_ = activity;
    lane_ = lane;
  }

  // Memory for what this group carries most, the gradients: the backend's, or such as makes the transfers cheaper. All
  // ranks ask for it in the same order, each for as much as it wants, and release it once no transfer uses it.
  virtual std::shared_ptr<void> memory(const Backend& backend, int64_t bytes);

  // Ends the run for everyone: all calls, running and to come, on all ranks, throw Aborted. Never throws.
  virtual void abort() noexcept = 0;

 protected:
  Communicator(int rank, int world) : rank_(rank), world_(world) {}

  // The transfers themselves, called when their turn in the queue comes; arguments are checked.
  friend class DelayLine;
  friend class StagedCommunicator;
  virtual void do_all_reduce(Exec& exec, View inout) = 0;
  virtual void do_all_gather(Exec& exec, In mine, View everyone, const Blocks& blocks) = 0;
  virtual void do_reduce_scatter(Exec& exec, In everyone, View mine, const Blocks& blocks) = 0;
  virtual void do_broadcast(Exec& exec, View inout, int root) = 0;
  virtual void do_reduce(Exec& exec, In mine, View sum, int root) = 0;
  virtual void do_send(Exec& exec, In view, int to) = 0;
  virtual void do_recv(Exec& exec, View view, int from) = 0;
  virtual void do_barrier(Exec& exec) = 0;

 private:
  // Counts the bytes and hands the transfer to the queue, as a span of the trace.
  template <class Transfer>
  void queue(Exec& exec, Label label, int64_t bytes, const Transfer& transfer) {
    bytes_[static_cast<size_t>(label.traffic)] += bytes;
    exec.backend->submit(exec, [this, transfer, e = exec, name = label.name, bytes, pass = label.pass,
                                traffic = label.traffic]() mutable {
      const int64_t start = span_start({traffic, name, pass});
      transfer(*this, e);
      span_end({traffic, name, pass}, start, bytes);
    });
  }
  int64_t span_start(const Label& label);
  void span_end(const Label& label, int64_t start, int64_t bytes);
  void check_blocks(const In& mine, const In& everyone, const Blocks& blocks) const;

  int rank_, world_;
  std::array<std::atomic<int64_t>, kTrafficKinds> bytes_{};
  Trace* trace_ = nullptr;
  Activity* activity_ = nullptr;
  Lane lane_{};
};

// Rank r's part [r·count/world, (r+1)·count/world) of anything that is divided: rows, outputs, blocks.
struct RowRange {
  int64_t first = 0, count = 0;
  int64_t end() const { return first + count; }
};
constexpr RowRange part_of(int64_t count, int rank, int world) {
  const int64_t first = rank * count / world;
  return {first, (rank + 1) * count / world - first};
}

// One worker's ends of its two groups, and the queue of its transfers. Empty: a worker alone.
struct Team {
  Communicator* compute = nullptr;   // on the critical path: columns, batch norm's statistics
  Communicator* transfer = nullptr;  // beside it: rows, gradients, reports
  Exec queue;                        // of `transfer`
  Trace* trace = nullptr;            // of the compute queue's operations; the communicators have their own
  Activity* activity = nullptr;      // likewise
  StatusBoard* board = nullptr;      // what the workers' watchdogs know of each other
  // Where the backend's memory is not the host's: a group for host memory, and its Exec. See host().
  Communicator* host_group = nullptr;
  Exec host_queue{};
  int rank() const { return compute == nullptr ? 0 : compute->rank(); }
  int world() const { return compute == nullptr ? 1 : compute->world(); }
  // For what the host has to tell: reports, votes, checkpoints. On the CPU the compute group says it, on its queue.
  Communicator* host() const { return host_group != nullptr ? host_group : compute; }
  Exec& host_exec(Exec& exec) { return host_group != nullptr ? host_queue : exec; }
};

// K ranks as threads of this process; one group, rank r at [r].
std::vector<std::unique_ptr<Communicator>> thread_communicators(int world);

}  // namespace convoy
