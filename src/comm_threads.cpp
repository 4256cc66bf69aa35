// Ranks that are threads of one process: they read each other's memory.
#include <algorithm>
#include <cstring>

#include "blocks.h"
#include "convoy/comm.h"
#include "thread_group.h"

namespace convoy {
namespace {

void copy_bytes(std::byte* to, const std::byte* from, int64_t bytes) {
  if (bytes > 0 && to != from) std::memcpy(to, from, static_cast<size_t>(bytes));
}

// to[0, count) = sum over ranks, in rank order, of what each brought, from element `first` on. `to` may be any
// of these: a chunk is read whole before it is written.
void sum_ranks(const ThreadGroup& group, int64_t first, int64_t count, float* to) {
  constexpr int64_t kChunk = 2048;  // 8 KiB: stays in the L1 cache while the ranks are added
  alignas(64) float total[kChunk];
  for (int64_t at = 0; at < count; at += kChunk) {
    const int64_t n = std::min(kChunk, count - at);
    const auto chunk = [&](int rank) {
      return reinterpret_cast<const float*>(group.from(rank)) + first + at;
    };
    std::copy_n(chunk(0), n, total);
    for (int rank = 1; rank < group.world(); ++rank) {
      const float* x = chunk(rank);
      for (int64_t i = 0; i < n; ++i) total[i] += x[i];
    }
    std::copy_n(total, n, to + at);
  }
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(int rank, std::shared_ptr<ThreadGroup> group)
      : Communicator(rank, group->world()), group_(std::move(group)) {}

  void abort() noexcept override { group_->abort(); }

 protected:
  void do_all_reduce(Exec&, View inout) override {
    group_->open(rank(), {"all_reduce", inout.bytes(), 0, inout.data, inout.data});
    const RowRange own = part_of(inout.count(), rank(), world());
    sum_ranks(*group_, own.first, own.count, inout.f32() + own.first);
    group_->close();
    for (int i = 1; i < world(); ++i) {
      const int r = (rank() + i) % world();  // not all of one rank at a time
      const RowRange part = part_of(inout.count(), r, world());
      copy_bytes(inout.data + part.first * 4, group_->from(r) + part.first * 4, part.count * 4);
    }
    group_->close();
  }

  void do_all_gather(Exec&, In mine, View everyone, const Blocks& blocks) override {
    group_->open(rank(), {"all_gather", everyone.bytes(), 0, mine.data, nullptr});
    const int64_t row_bytes = everyone.shape.row() * dtype_bytes(everyone.dtype);
    for (int i = 0; i < world(); ++i) {
      const int r = (rank() + i) % world();
      copy_bytes(everyone.data + rows_before(blocks, r) * row_bytes, group_->from(r),
                 blocks[static_cast<size_t>(r)] * row_bytes);
    }
    group_->close();
  }

  void do_reduce_scatter(Exec&, In everyone, View mine, const Blocks& blocks) override {
    group_->open(rank(), {"reduce_scatter", everyone.bytes(), 0, everyone.data, nullptr});
    sum_ranks(*group_, rows_before(blocks, rank()) * everyone.shape.row(), mine.count(), mine.f32());
    group_->close();
  }

  void do_broadcast(Exec&, View inout, int root) override {
    group_->open(rank(), {"broadcast", inout.bytes(), root, inout.data, nullptr});
    copy_bytes(inout.data, group_->from(root), inout.bytes());
    group_->close();
  }

  // Everyone sums a part, straight into the root's memory.
  void do_reduce(Exec&, In mine, View sum, int root) override {
    group_->open(rank(), {"reduce", mine.bytes(), root, mine.data, sum.data});
    const RowRange part = part_of(mine.count(), rank(), world());
    sum_ranks(*group_, part.first, part.count, reinterpret_cast<float*>(group_->to(root)) + part.first);
    group_->close();
  }

  void do_send(Exec&, In view, int to) override { group_->send(rank(), to, view.data, view.bytes()); }
  void do_recv(Exec&, View view, int from) override {
    const int64_t bytes = view.bytes();
    std::byte* const to = view.data;
    group_->recv(from, rank(), bytes, [to, bytes](const std::byte* data) { copy_bytes(to, data, bytes); });
  }
  void do_barrier(Exec&) override { group_->open(rank(), {"barrier", 0, 0, nullptr, nullptr}); }

 private:
  std::shared_ptr<ThreadGroup> group_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> thread_communicators(int world) {
  CONVOY_CHECK(world >= 1, world, " ranks");
  const auto group = std::make_shared<ThreadGroup>(world);
  std::vector<std::unique_ptr<Communicator>> ranks;
  ranks.reserve(static_cast<size_t>(world));
  for (int rank = 0; rank < world; ++rank) ranks.push_back(std::make_unique<ThreadCommunicator>(rank, group));
  return ranks;
}

}  // namespace convoy
