#include "delay_line.h"

#include <algorithm>
#include <cmath>
#include <thread>

namespace convoy {
namespace {

using Clock = std::chrono::steady_clock;
using Nanoseconds = std::chrono::nanoseconds;

int64_t now() {
  return std::chrono::duration_cast<Nanoseconds>(Clock::now().time_since_epoch()).count();
}
void sleep_until(int64_t time) {
  std::this_thread::sleep_until(
      Clock::time_point(std::chrono::duration_cast<Clock::duration>(Nanoseconds(time))));
}

// Times as a row of bytes: communicators know no wider number.
View as_bytes(int64_t* times, int64_t count) {
  return {reinterpret_cast<uint8_t*>(times), {count, static_cast<int64_t>(sizeof(int64_t))}};
}

}  // namespace

DelayLine::DelayLine(std::unique_ptr<Communicator> inner, const LinkSpeed& speed, std::shared_ptr<Link> link)
    : Communicator(inner->rank(), inner->world()),
      inner_(std::move(inner)),
      speed_(speed),
      link_(std::move(link)),
      one_each_(static_cast<size_t>(world()), 1),
      times_(static_cast<size_t>(world())) {
  CONVOY_CHECK(speed_.gb_per_second > 0 && speed_.us_per_message >= 0, speed_.gb_per_second, " GB/s, ",
               speed_.us_per_message, " us");
}

int64_t DelayLine::duration(int64_t bytes, int64_t messages) const {
  const double nanoseconds = static_cast<double>(bytes) / speed_.gb_per_second +  // GB/s are bytes/ns
                             static_cast<double>(messages) * speed_.us_per_message * 1e3;
  return std::llround(nanoseconds);
}

template <class BlockBytes>
int64_t DelayLine::gather_duration(const BlockBytes& block_bytes) const {
  int64_t total = 0, givers = 0, most_bytes = 0, most_messages = 0;
  for (int r = 0; r < world(); ++r) {
    total += block_bytes(r);
    givers += block_bytes(r) > 0;
  }
  for (int r = 0; r < world(); ++r) {
    const int64_t own = block_bytes(r), gives = own > 0;
    most_bytes = std::max({most_bytes, (world() - 1) * own, total - own});
    most_messages = std::max({most_messages, (world() - 1) * gives, givers - gives});
  }
  return world() == 1 ? 0 : duration(most_bytes, most_messages);
}

int64_t DelayLine::latest(Exec& exec, int64_t time) {
  const View all = as_bytes(times_.data(), world());
  times_[static_cast<size_t>(rank())] = time;
  inner_->do_all_gather(exec, all.slice_rows(rank(), 1), all, one_each_);
  return *std::max_element(times_.begin(), times_.end());
}

int64_t DelayLine::take_link(int64_t from, int64_t lasts) {
  const std::lock_guard<std::mutex> lock(link_->mutex);
  const int64_t start = std::max(from, link_->free_at);
  link_->free_at = start + lasts;
  return start;
}

void DelayLine::keep_link_until(int64_t end) {
  const std::lock_guard<std::mutex> lock(link_->mutex);
  link_->free_at = std::max(link_->free_at, end);
}

// The links are taken once everybody is here, and not before: a rank that comes early would hold its link for
// nothing. Two groups whose ranks take their links in different orders then both end at the end of the later.
int64_t DelayLine::end_of(Exec& exec, int64_t lasts) {
  const int64_t arrived = latest(exec, now());
  const int64_t end = latest(exec, take_link(arrived, lasts)) + lasts;
  keep_link_until(end);
  return end;
}

void DelayLine::do_all_reduce(Exec& exec, View inout) {
  const auto block = [&](int r) { return part_of(inout.count(), r, world()).count * 4; };
  const int64_t end = end_of(exec, 2 * gather_duration(block));
  inner_->do_all_reduce(exec, inout);
  sleep_until(end);
}

void DelayLine::do_all_gather(Exec& exec, In mine, View everyone, const Blocks& blocks) {
  const int64_t row_bytes = everyone.shape.row() * dtype_bytes(everyone.dtype);
  const auto block = [&](int r) { return blocks[static_cast<size_t>(r)] * row_bytes; };
  const int64_t end = end_of(exec, gather_duration(block));
  inner_->do_all_gather(exec, mine, everyone, blocks);
  sleep_until(end);
}

void DelayLine::do_reduce_scatter(Exec& exec, In everyone, View mine, const Blocks& blocks) {
  const int64_t row_bytes = everyone.shape.row() * 4;
  const auto block = [&](int r) { return blocks[static_cast<size_t>(r)] * row_bytes; };
  const int64_t end = end_of(exec, gather_duration(block));
  inner_->do_reduce_scatter(exec, everyone, mine, blocks);
  sleep_until(end);
}

void DelayLine::do_broadcast(Exec& exec, View inout, int root) {
  const int64_t end = end_of(exec, root_duration(inout.bytes()));
  inner_->do_broadcast(exec, inout, root);
  sleep_until(end);
}

void DelayLine::do_reduce(Exec& exec, In mine, View sum, int root) {
  const int64_t end = end_of(exec, root_duration(mine.bytes()));
  inner_->do_reduce(exec, mine, sum, root);
  sleep_until(end);
}

// The sender says when it was ready, the receiver when the transfer ends.
void DelayLine::do_send(Exec& exec, In view, int to) {
  const int64_t lasts = duration(view.bytes(), 1);
  int64_t time = take_link(now(), lasts);
  inner_->do_send(exec, as_bytes(&time, 1), to);
  inner_->do_recv(exec, as_bytes(&time, 1), to);
  keep_link_until(time);
  inner_->do_send(exec, view, to);
  sleep_until(time);
}

void DelayLine::do_recv(Exec& exec, View view, int from) {
  const int64_t lasts = duration(view.bytes(), 1);
  int64_t time = 0;
  const int64_t came = now();
  inner_->do_recv(exec, as_bytes(&time, 1), from);
  time = take_link(std::max(came, time), lasts) + lasts;
  inner_->do_send(exec, as_bytes(&time, 1), from);
  inner_->do_recv(exec, view, from);
  sleep_until(time);
}

}  // namespace convoy
