// Simulated links: a communicator over another one, whose transfers take as long as the links that a run on
// several machines would have. Waiting costs no processor time.
//
// Every worker has one outgoing and one incoming link of `gb_per_second` (10^9 bytes), and every message costs
// `us_per_message`. Rank s of K sends, in messages to each of the others that wants some of it:
//
//   all_gather      its block, K-1 times            reduce_scatter  the transpose
//   broadcast       everything, K-1 times (root)    reduce          the transpose
//   all_reduce      reduce_scatter, then all_gather, of blocks of N/K
//   send            its view                        barrier         nothing: it is free
//
// A collective lasts (the most bytes that any link carries) / speed + (the most messages that any worker sends
// or receives) · their cost. It starts when the last rank has called it and the links of all ranks are free,
// and ends at that time + its duration, on every rank: what the transfer itself takes is within that time, as
// long as it is shorter. Ranks tell each other their times, so their clocks must be one: one machine.
// A send or recv is such a transfer of its two ranks. A wait that has begun is not cut short by abort().
#pragma once
#include <chrono>
#include <mutex>

#include "convoy/comm.h"

namespace convoy {

struct LinkSpeed {
  double gb_per_second = 1;
  double us_per_message = 0;
};

// A worker's links, shared by its communicators: one transfer at a time.
struct Link {
  std::mutex mutex;
  int64_t free_at = 0;  // steady clock, nanoseconds
};

class DelayLine final : public Communicator {
 public:
  DelayLine(std::unique_ptr<Communicator> inner, const LinkSpeed& speed, std::shared_ptr<Link> link);

  void abort() noexcept override { inner_->abort(); }
  std::shared_ptr<void> memory(const Backend& backend, int64_t bytes) override {
    return inner_->memory(backend, bytes);
  }

 protected:
  void do_all_reduce(Exec& exec, View inout) override;
  void do_all_gather(Exec& exec, In mine, View everyone, const Blocks& blocks) override;
  void do_reduce_scatter(Exec& exec, In everyone, View mine, const Blocks& blocks) override;
  void do_broadcast(Exec& exec, View inout, int root) override;
  void do_reduce(Exec& exec, In mine, View sum, int root) override;
  void do_send(Exec& exec, In view, int to) override;
  void do_recv(Exec& exec, View view, int from) override;
  void do_barrier(Exec& exec) override { inner_->do_barrier(exec); }

 private:
  int64_t duration(int64_t bytes, int64_t messages) const;  // nanoseconds
  // Of an all_gather (and of its transpose) of blocks of block_bytes(r); of everything from one rank.
  template <class BlockBytes>
  int64_t gather_duration(const BlockBytes& block_bytes) const;
  int64_t root_duration(int64_t bytes) const {
    return duration((world() - 1) * bytes, bytes > 0 ? world() - 1 : 0);
  }

  // When the collective that this rank calls now ends; the links are taken until then.
  int64_t end_of(Exec& exec, int64_t lasts);
  int64_t latest(Exec& exec, int64_t time);        // over ranks
  int64_t take_link(int64_t from, int64_t lasts);  // when it starts
  void keep_link_until(int64_t end);

  std::unique_ptr<Communicator> inner_;
  LinkSpeed speed_;
  std::shared_ptr<Link> link_;
  Blocks one_each_;
  std::vector<int64_t> times_;
};

}  // namespace convoy
