// Ranks of MPI on one machine that read each other's memory: the transfers of comm_threads.cpp between processes. They
// meet in shared memory too: whoever waits sleeps until the last one wakes all, where waiting for messages is polling.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>

#include "blocks.h"
#include "neighbours.h"
#include "process_memory.h"

namespace convoy {
namespace {

constexpr int kTag = 0;

// What all ranks must agree on, and the memory that a rank brings.
struct Call {
  char name[16];
  int64_t bytes, root;
  const std::byte* memory;
};

// In memory that all ranks map: where they meet, and what each calls.
struct MeetingPlace {
  std::atomic<uint32_t> present, meetings;
  Call calls[1];  // as many as there are ranks

  static int64_t bytes(int world) {
    return static_cast<int64_t>(sizeof(MeetingPlace) + static_cast<size_t>(world) * sizeof(Call));
  }
};
static_assert(std::atomic<uint32_t>::is_always_lock_free, "processes share them");

class MachineCommunicator final : public Communicator {
 public:
  MachineCommunicator(MpiCalls& calls, MPI_Comm comm, int rank, int world,
                      std::shared_ptr<const Neighbours> neighbours, std::shared_ptr<const SharedMemory> place)
      : Communicator(rank, world),
        calls_(calls),
        requests_(calls, comm),
        neighbours_(std::move(neighbours)),
        place_memory_(std::move(place)),
        place_(*reinterpret_cast<MeetingPlace*>(place_memory_->of(0))),
        spins_(static_cast<unsigned>(world) <= std::thread::hardware_concurrency()) {}

  void abort() noexcept override { end_all_ranks(calls_, rank()); }

  std::shared_ptr<void> memory(const Backend& backend, int64_t bytes) override {
    std::shared_ptr<const SharedMemory> memory;
    if (backend.host_memory) memory = neighbours_->share(calls_, bytes);
    if (memory == nullptr) return Communicator::memory(backend, bytes);
    const std::lock_guard<std::mutex> lock(mutex_);
    shared_.erase(std::remove_if(shared_.begin(), shared_.end(), [](const auto& s) { return s.expired(); }),
                  shared_.end());
    shared_.push_back(memory);
    return {memory, memory->own()};
  }

 protected:
  void do_all_reduce(Exec&, View inout) override {
    open("all_reduce", inout.bytes(), 0, inout.data);
    const RowRange own = part_of(inout.count(), rank(), world());
    sum_ranks(own.first, own.count, inout.f32() + own.first);
    meet();
    each_other([&](int r) {
      const RowRange part = part_of(inout.count(), r, world());
      copy(r, part.first * 4, inout.data + part.first * 4, part.count * 4);
    });
    meet();
  }

  void do_all_gather(Exec&, In mine, View everyone, const Blocks& blocks) override {
    open("all_gather", everyone.bytes(), 0, mine.data);
    const int64_t row_bytes = everyone.shape.row() * dtype_bytes(everyone.dtype);
    const auto gather = [&](int r) {
      copy(r, 0, everyone.data + rows_before(blocks, r) * row_bytes,
           blocks[static_cast<size_t>(r)] * row_bytes);
    };
    gather(rank());
    each_other(gather);
    meet();
  }

  void do_reduce_scatter(Exec&, In everyone, View mine, const Blocks& blocks) override {
    open("reduce_scatter", everyone.bytes(), 0, everyone.data);
    sum_ranks(rows_before(blocks, rank()) * everyone.shape.row(), mine.count(), mine.f32());
    meet();
  }

  void do_broadcast(Exec&, View inout, int root) override {
    open("broadcast", inout.bytes(), root, inout.data);
    copy(root, 0, inout.data, inout.bytes());
    meet();
  }

  // The root sums alone: nobody can write to its memory.
  void do_reduce(Exec&, In mine, View sum, int root) override {
    open("reduce", mine.bytes(), root, mine.data);
    if (rank() == root) sum_ranks(0, mine.count(), sum.f32());
    meet();
  }

  void do_send(Exec&, In view, int to) override {
    requests_.send(to, kTag, view.data, view.bytes());
    requests_.post();
    requests_.wait();
  }
  void do_recv(Exec&, View view, int from) override {
    requests_.receive(from, kTag, view.data, view.bytes());
    requests_.post();
    requests_.wait();
  }
  void do_barrier(Exec&) override { meet(); }

 private:
  // Returns when all ranks have opened the same call.
  void open(const char* name, int64_t bytes, int root, const void* memory) {
    Call& own = place_.calls[rank()];
    std::strncpy(own.name, name, sizeof(own.name) - 1);
    own.bytes = bytes;
    own.root = root;
    own.memory = static_cast<const std::byte*>(memory);
    meet();
    for (int r = 0; r < world(); ++r) {
      const Call& other = place_.calls[r];
      CONVOY_CHECK(std::strcmp(other.name, name) == 0 && other.bytes == bytes && other.root == root, "rank ",
                   rank(), " calls ", name, " of ", bytes, " bytes, root ", root, "; rank ", r, " calls ",
                   other.name, " of ", other.bytes, " bytes, root ", other.root);
    }
  }
  const std::byte* brought(int r) const { return place_.calls[r].memory; }

  // Returns when all ranks are here.
  void meet() {
    constexpr std::chrono::microseconds kSpin{5};  // about what it takes to sleep and to be woken
    const uint32_t meeting = place_.meetings.load();
    if (place_.present.fetch_add(1) + 1 == static_cast<uint32_t>(world())) {
      place_.present = 0;
      place_.meetings = meeting + 1;
      return wake_all(place_.meetings);
    }
    const auto until = std::chrono::steady_clock::now() + kSpin;
    while (spins_ && place_.meetings == meeting && std::chrono::steady_clock::now() < until) {
    }
    while (place_.meetings == meeting) wait_while(place_.meetings, meeting);
  }

  // f(every other rank), the next one first: not all ranks read from the same one.
  template <class F>
  void each_other(const F& f) const {
    for (int i = 1; i < world(); ++i) f((rank() + i) % world());
  }

  // to = `bytes` of what rank r brought, from byte `first` on.
  void copy(int r, int64_t first, std::byte* to, int64_t bytes) const {
    const std::byte* from = brought(r) + first;
    if (bytes == 0) return;
    if (r != rank() && (from = mapped(r, from, bytes)) == nullptr)
      return neighbours_->read(r, brought(r) + first, to, bytes);
    if (to != from) std::memcpy(to, from, static_cast<size_t>(bytes));
  }

  // Where this process has that memory of rank r; null: nowhere.
  const std::byte* mapped(int r, const std::byte* there, int64_t bytes) const {
    if (r == rank()) return there;
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const std::weak_ptr<const SharedMemory>& one : shared_)
      if (const auto memory = one.lock())
        if (const std::byte* const here = memory->at(r, there, bytes)) return here;
    return nullptr;
  }

  // to[0, count) = sum over ranks, in rank order, of what each brought, from element `first` on. `to` may be this
  // rank's own: a chunk is read whole before it is written.
  void sum_ranks(int64_t first, int64_t count, float* to) const {
    constexpr int64_t kChunk = 8192;  // two of them stay in the L2 cache
    alignas(64) float total[kChunk], other[kChunk];
    // Rank r's elements [at, at + n): in place, or copied to `other`.
    const auto read = [&](int r, int64_t at, int64_t n) {
      const std::byte* const there = brought(r) + (first + at) * 4;
      const std::byte* here = mapped(r, there, n * 4);
      if (here == nullptr) {
        neighbours_->read(r, there, reinterpret_cast<std::byte*>(other), n * 4);
        here = reinterpret_cast<const std::byte*>(other);
      }
      return reinterpret_cast<const float*>(here);
    };
    for (int64_t at = 0; at < count; at += kChunk) {
      const int64_t n = std::min(kChunk, count - at);
      std::copy_n(read(0, at, n), n, total);
      for (int r = 1; r < world(); ++r) {
        const float* const x = read(r, at, n);
        for (int64_t i = 0; i < n; ++i) total[i] += x[i];
      }
      std::copy_n(total, n, to + at);
    }
  }

  MpiCalls& calls_;
  MpiRequests requests_;
  std::shared_ptr<const Neighbours> neighbours_;
  std::shared_ptr<const SharedMemory> place_memory_;
  MeetingPlace& place_;
  bool spins_;                // a core for every rank: waits a little before it sleeps
  mutable std::mutex mutex_;  // of shared_
  std::vector<std::weak_ptr<const SharedMemory>> shared_;
};

}  // namespace

std::unique_ptr<Communicator> machine_communicator(MpiCalls& calls, MPI_Comm comm, int rank, int world,
                                                   std::shared_ptr<const Neighbours> neighbours) {
  auto place = neighbours->share(calls, MeetingPlace::bytes(world));
  if (place == nullptr) return nullptr;
  return std::make_unique<MachineCommunicator>(calls, comm, rank, world, std::move(neighbours),
                                               std::move(place));
}

}  // namespace convoy
