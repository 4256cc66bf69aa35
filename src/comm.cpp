// What every communicator does alike: checks, bytes, and the queue.
#include "convoy/comm.h"

#include <numeric>

#include "activity.h"
#include "trace.h"

namespace convoy {
namespace {

int64_t sum(const Blocks& blocks) {
  return std::accumulate(blocks.begin(), blocks.end(), int64_t{0});
}

void check_f32(const In& view) {
  CONVOY_CHECK(view.dtype == DType::kF32 && view.contiguous(), "sums are of contiguous f32, not ",
               dtype_name(view.dtype));
}

}  // namespace

const char* traffic_name(Traffic traffic) {
  switch (traffic) {
    case Traffic::kRows:
      return "rows";
    case Traffic::kColumns:
      return "columns";
    case Traffic::kGradients:
      return "gradients";
    case Traffic::kOther:
      break;
  }
  return "other";
}

void Communicator::all_reduce(Exec& exec, Label label, View inout) {
  check_f32(inout);
  const int64_t own = part_of(inout.count(), rank_, world_).count;
  queue(exec, label, 2 * (inout.count() - own) * 4,
        [=](Communicator& c, Exec& e) { c.do_all_reduce(e, inout); });
}

void Communicator::all_gather(Exec& exec, Label label, In mine, View everyone, const Blocks& blocks) {
  check_blocks(mine, everyone, blocks);
  const int64_t own = blocks[static_cast<size_t>(rank_)];
  const int64_t row_bytes = everyone.shape.row() * dtype_bytes(everyone.dtype);
  queue(exec, label, (everyone.rows() - own) * row_bytes,
        [=, &blocks](Communicator& c, Exec& e) { c.do_all_gather(e, mine, everyone, blocks); });
}

void Communicator::reduce_scatter(Exec& exec, Label label, In everyone, View mine, const Blocks& blocks) {
  check_f32(everyone);
  check_blocks(mine, everyone, blocks);
  const int64_t own = blocks[static_cast<size_t>(rank_)];
  queue(exec, label, (everyone.rows() - own) * everyone.shape.row() * 4,
        [=, &blocks](Communicator& c, Exec& e) { c.do_reduce_scatter(e, everyone, mine, blocks); });
}

void Communicator::broadcast(Exec& exec, Label label, View inout, int root) {
  CONVOY_CHECK(root >= 0 && root < world_ && inout.contiguous(), "root ", root, " of ", world_);
  queue(exec, label, rank_ == root ? 0 : inout.bytes(),
        [=](Communicator& c, Exec& e) { c.do_broadcast(e, inout, root); });
}

void Communicator::reduce(Exec& exec, Label label, In mine, View total, int root) {
  check_f32(mine);
  CONVOY_CHECK(root >= 0 && root < world_, "root ", root, " of ", world_);
  CONVOY_CHECK(rank_ != root || total.count() == mine.count(), total.shape, " for ", mine.shape);
  queue(exec, label, rank_ == root ? 0 : mine.bytes(),
        [=](Communicator& c, Exec& e) { c.do_reduce(e, mine, total, root); });
}

void Communicator::send(Exec& exec, Label label, In view, int to) {
  CONVOY_CHECK(to >= 0 && to < world_ && to != rank_ && view.contiguous(), "from ", rank_, " to ", to, " of ",
               world_);
  queue(exec, label, view.bytes(), [=](Communicator& c, Exec& e) { c.do_send(e, view, to); });
}

void Communicator::recv(Exec& exec, Label label, View view, int from) {
  CONVOY_CHECK(from >= 0 && from < world_ && from != rank_ && view.contiguous(), "to ", rank_, " from ", from,
               " of ", world_);
  queue(exec, label, view.bytes(), [=](Communicator& c, Exec& e) { c.do_recv(e, view, from); });
}

void Communicator::barrier(Exec& exec) {
  queue(exec, {Traffic::kOther, "barrier"}, 0, [=](Communicator& c, Exec& e) { c.do_barrier(e); });
}

std::shared_ptr<void> Communicator::memory(const Backend& backend, int64_t bytes) {
  return {backend.alloc(bytes), backend.release};
}

int64_t Communicator::span_start(const Label& label) {
  note(activity_, lane_, label.name, label.pass);
  return trace_ == nullptr ? 0 : now_nanoseconds();
}

void Communicator::span_end(const Label& label, int64_t start, int64_t bytes) {
  note(activity_, lane_, nullptr);
  if (trace_ == nullptr) return;
  trace_->add(
      lane_, {label.name, static_cast<SpanKind>(label.traffic), start, now_nanoseconds(), bytes, label.pass});
}

void Communicator::check_blocks(const In& mine, const In& everyone, const Blocks& blocks) const {
  CONVOY_CHECK(blocks.size() == static_cast<size_t>(world_) && sum(blocks) == everyone.rows(), blocks.size(),
               " blocks of ", sum(blocks), " rows for ", everyone.shape, " and ", world_, " ranks");
  const int64_t own = blocks[static_cast<size_t>(rank_)];
  CONVOY_CHECK(mine.contiguous() && everyone.contiguous() && mine.dtype == everyone.dtype &&
                   mine.count() == own * everyone.shape.row(),
               mine.shape, " is not ", own, " rows of ", everyone.shape);
}

}  // namespace convoy
