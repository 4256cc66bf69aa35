// Ranks that are threads of one process, on GPUs: they read each other's device memory. Threads meet as those of
// thread_communicators do; what they then queue on their streams is ordered by events.
//
// Every rank records `ready` before a collective's first meeting, and waits for all others' `ready` before it touches
// their memory; it records `done` after that, and waits for all others' `done` after the last meeting, so that nobody
// overwrites what others still read. An event is recorded anew only after a meeting later than all waits for it.
#include <algorithm>
#include <exception>

#include "blocks.h"
#include "comm_cuda.h"
#include "kernels/comm.h"
#include "thread_group.h"

namespace convoy {
namespace {

constexpr int64_t kPiece = int64_t{1} << 20;  // elements of one rank that are staged at a time

// What the ranks know of each other. A rank writes its own entry before it comes to a meeting.
struct LocalGroup {
  struct Rank {
    int device = 0;
    void* ready = nullptr;
    void* done = nullptr;
    std::vector<void*> taken;  // one a rank: this one has copied its message
  };
  explicit LocalGroup(int world) : meetings(world), ranks(static_cast<size_t>(world)) {}
  ~LocalGroup() {
    for (const Rank& rank : ranks) {
      for (void* event : rank.taken) end(event);
      end(rank.ready);
      end(rank.done);
    }
  }
  LocalGroup(const LocalGroup&) = delete;
  LocalGroup& operator=(const LocalGroup&) = delete;
  static void end(void* event) {
    if (event != nullptr) cuda_comm()->end_event(event);
  }

  ThreadGroup meetings;
  std::vector<Rank> ranks;
};

class LocalCommunicator final : public Communicator {
 public:
  LocalCommunicator(int rank, int world, std::shared_ptr<LocalGroup> group)
      : Communicator(rank, world), cuda_(*cuda_comm()), group_(std::move(group)) {}
  ~LocalCommunicator() override {
    if (staging_ != nullptr) find_cuda()->backend->release(staging_);
  }

  void abort() noexcept override { group_->meetings.abort(); }

 protected:
  void do_all_reduce(Exec& ex, View inout) override {
    check_device(inout);
    collective(ex, {"all_reduce", inout.bytes(), 0, inout.data, inout.data}, [&] {
      const RowRange own = part_of(inout.count(), rank(), world());
      targets_.clear();
      for (int r = 0; r < world(); ++r) targets_.push_back({r, at(group_->meetings.to(r), own.first)});
      sum(ex, own);
    });
  }

  void do_all_gather(Exec& ex, In mine, View everyone, const Blocks& blocks) override {
    check_device(mine);
    check_device(everyone);
    const int64_t row_bytes = everyone.shape.row() * dtype_bytes(everyone.dtype);
    collective(ex, {"all_gather", everyone.bytes(), 0, mine.data, nullptr}, [&] {
      for (int i = 0; i < world(); ++i) {
        const int r = (rank() + i) % world();  // not all of one rank at a time
        copy(ex, everyone.data + rows_before(blocks, r) * row_bytes, group_->meetings.from(r),
             blocks[static_cast<size_t>(r)] * row_bytes);
      }
    });
  }

  void do_reduce_scatter(Exec& ex, In everyone, View mine, const Blocks& blocks) override {
    check_device(everyone);
    check_device(mine);
    collective(ex, {"reduce_scatter", everyone.bytes(), 0, everyone.data, nullptr}, [&] {
      targets_.assign(1, {rank(), mine.f32()});
      sum(ex, {rows_before(blocks, rank()) * everyone.shape.row(), mine.count()});
    });
  }

  void do_broadcast(Exec& ex, View inout, int root) override {
    check_device(inout);
    collective(ex, {"broadcast", inout.bytes(), root, inout.data, nullptr},
               [&] { copy(ex, inout.data, group_->meetings.from(root), inout.bytes()); });
  }

  // Everyone sums a part, straight into the root's memory.
  void do_reduce(Exec& ex, In mine, View total, int root) override {
    check_device(mine);
    if (rank() == root) check_device(total);
    collective(ex, {"reduce", mine.bytes(), root, mine.data, total.data}, [&] {
      const RowRange own = part_of(mine.count(), rank(), world());
      targets_.assign(1, {root, at(group_->meetings.to(root), own.first)});
      sum(ex, own);
    });
  }

  void do_send(Exec& ex, In view, int to) override {
    check_device(view);
    cuda_.record(ex, self(ex).ready);
    group_->meetings.send(rank(), to, view.data, view.bytes());
    cuda_.wait(ex, group_->ranks[static_cast<size_t>(to)].taken[static_cast<size_t>(rank())]);
  }

  void do_recv(Exec& ex, View view, int from) override {
    check_device(view);
    void* taken = self(ex).taken[static_cast<size_t>(from)];
    group_->meetings.recv(from, rank(), view.bytes(), [&](const std::byte* data) {
      cuda_.wait(ex, group_->ranks[static_cast<size_t>(from)].ready);
      copy(ex, view.data, data, view.bytes());
      cuda_.record(ex, taken);
    });
  }

  void do_barrier(Exec& ex) override {
    collective(ex, {"barrier", 0, 0, nullptr, nullptr}, [] {});
  }

 private:
  struct Target {
    int rank;
    float* to;
  };
  static float* at(std::byte* memory, int64_t element) { return reinterpret_cast<float*>(memory) + element; }

  // This rank's entry, with its events.
  LocalGroup::Rank& self(Exec& ex) {
    check_device(ex);
    LocalGroup::Rank& own = group_->ranks[static_cast<size_t>(rank())];
    if (own.ready == nullptr) {
      own.device = cuda_.device(ex);
      own.ready = cuda_.make_event();
      own.done = cuda_.make_event();
      for (int r = 0; r < world(); ++r) own.taken.push_back(cuda_.make_event());
    }
    return own;
  }

  // An error of `work` is thrown when all meetings are over: the other ranks come to them.
  template <class Work>
  void collective(Exec& ex, const ThreadGroup::Call& call, const Work& work) {
    const LocalGroup::Rank& own = self(ex);
    cuda_.record(ex, own.ready);
    group_->meetings.open(rank(), call);
    std::exception_ptr error;
    try {
      find_reachable();
      wait_for_others(ex, &LocalGroup::Rank::ready);
      work();
      cuda_.record(ex, own.done);
    } catch (...) {
      error = std::current_exception();
    }
    group_->meetings.close();
    if (error) std::rethrow_exception(error);
    wait_for_others(ex, &LocalGroup::Rank::done);
  }

  void wait_for_others(Exec& ex, void* LocalGroup::Rank::*event) {
    for (int r = 0; r < world(); ++r)
      if (r != rank()) cuda_.wait(ex, group_->ranks[static_cast<size_t>(r)].*event);
  }

  // Whose memory this rank's kernels can touch. Once: all ranks have said where they are.
  void find_reachable() {
    if (!reachable_.empty()) return;
    const int own = group_->ranks[static_cast<size_t>(rank())].device;
    std::vector<bool> found;
    for (const LocalGroup::Rank& other : group_->ranks)
      found.push_back(other.device == own || cuda_.open_peer(own, other.device));
    reachable_ = std::move(found);
  }

  static void copy(Exec& ex, void* to, const void* from, int64_t bytes) {
    if (to != from) ex.backend->copy(ex, to, from, bytes);
  }

  // targets_ = sum over ranks, in rank order, of what each brought, from element part.first on. Memory of devices that
  // this one does not reach is copied to and from staging, piece by piece.
  void sum(Exec& ex, RowRange part) {
    const auto reached = [&](int r) { return bool{reachable_[static_cast<size_t>(r)]}; };
    const bool staged = std::count(reachable_.begin(), reachable_.end(), false) > 0;
    const int64_t piece = staged ? kPiece : std::max<int64_t>(part.count, 1);
    RankSums s;
    s.ranks = world();
    for (int64_t done = 0; done < part.count; done += piece) {
      s.count = std::min(piece, part.count - done);
      for (int r = 0; r < world(); ++r) {
        s.from[r] = reinterpret_cast<const float*>(group_->meetings.from(r)) + part.first + done;
        if (reached(r)) continue;
        copy(ex, slot(r), s.from[r], s.count * 4);
        s.from[r] = slot(r);
      }
      s.targets = 0;
      for (const Target& target : targets_)
        if (reached(target.rank)) s.to[s.targets++] = target.to + done;
      if (s.targets == 0) s.to[s.targets++] = slot(rank());
      if (world() > 1)
        cuda_.sum(ex, s);
      else
        copy(ex, s.to[0], s.from[0], s.count * 4);
      for (const Target& target : targets_)
        if (!reached(target.rank)) copy(ex, target.to + done, s.to[0], s.count * 4);
    }
  }

  float* slot(int r) {
    if (staging_ == nullptr)
      staging_ = static_cast<float*>(find_cuda()->backend->alloc(world() * kPiece * int64_t{sizeof(float)}));
    return staging_ + r * kPiece;
  }

  const CudaComm& cuda_;
  std::shared_ptr<LocalGroup> group_;
  std::vector<bool> reachable_;
  std::vector<Target> targets_;
  float* staging_ = nullptr;  // a piece of every rank
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> local_communicators(int world) {
  if (cuda_comm() == nullptr) input_error("this build has no CUDA");
  CONVOY_CHECK(world >= 1 && world <= RankSums::kMostRanks, world, " ranks of one process, at most ",
               RankSums::kMostRanks);
  const auto group = std::make_shared<LocalGroup>(world);
  std::vector<std::unique_ptr<Communicator>> ranks;
  ranks.reserve(static_cast<size_t>(world));
  for (int rank = 0; rank < world; ++rank)
    ranks.push_back(std::make_unique<LocalCommunicator>(rank, world, group));
  return ranks;
}

}  // namespace convoy
