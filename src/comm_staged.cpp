// A communicator of the host for memory of a device: what a rank gives is copied to pinned memory first, what it gets
// is copied back behind the transfer. The stream is synchronized in between, also before a transfer that only writes
// pinned memory: the copies of the one before read it.
#include <algorithm>

#include "comm_cuda.h"

namespace convoy {

class StagedCommunicator final : public Communicator {
 public:
  explicit StagedCommunicator(std::unique_ptr<Communicator> inner)
      : Communicator(inner->rank(), inner->world()), inner_(std::move(inner)) {}
  ~StagedCommunicator() override {
    if (backend_ != nullptr) backend_->release_host(memory_);
  }

  void abort() noexcept override { inner_->abort(); }

 protected:
  void do_all_reduce(Exec& ex, View inout) override {
    const View all = stage(ex, inout);
    give(ex, inout, all);
    inner_->do_all_reduce(host_, all);
    take(ex, all, inout);
  }

  void do_all_gather(Exec& ex, In mine, View everyone, const Blocks& blocks) override {
    const View all = stage(ex, everyone), own = rows_of(all, blocks);
    give(ex, mine, own);
    inner_->do_all_gather(host_, own, all, blocks);
    take(ex, all, everyone);
  }

  void do_reduce_scatter(Exec& ex, In everyone, View mine, const Blocks& blocks) override {
    const View all = stage(ex, everyone), own = rows_of(all, blocks);
    give(ex, everyone, all);
    inner_->do_reduce_scatter(host_, all, own, blocks);
    take(ex, own, mine);
  }

  void do_broadcast(Exec& ex, View inout, int root) override {
    const View all = stage(ex, inout);
    give(ex, rank() == root ? In(inout) : In(), all);
    inner_->do_broadcast(host_, all, root);
    if (rank() != root) take(ex, all, inout);
  }

  void do_reduce(Exec& ex, In mine, View sum, int root) override {
    const View all = stage(ex, mine);
    give(ex, mine, all);
    inner_->do_reduce(host_, all, rank() == root ? all : View(), root);
    if (rank() == root) take(ex, all, sum);
  }

  void do_send(Exec& ex, In view, int to) override {
    const View all = stage(ex, view);
    give(ex, view, all);
    inner_->do_send(host_, all, to);
  }

  void do_recv(Exec& ex, View view, int from) override {
    const View all = stage(ex, view);
    give(ex, In(), all);
    inner_->do_recv(host_, all, from);
    take(ex, all, view);
  }

  void do_barrier(Exec& ex) override {
    ex.backend->synchronize(ex);
    inner_->do_barrier(host_);
  }

 private:
  // Pinned memory of the view's dtype and shape.
  View stage(Exec& ex, const In& view) {
    if (view.bytes() > bytes_ || backend_ == nullptr) {
      ex.backend->synchronize(ex);
      if (backend_ != nullptr) backend_->release_host(memory_);
      backend_ = nullptr;
      bytes_ = std::max(view.bytes(), 2 * bytes_);
      memory_ = ex.backend->alloc_host(bytes_);
      backend_ = ex.backend;
    }
    return View(static_cast<std::byte*>(memory_), view.dtype, view.shape);
  }

  View rows_of(const View& all, const Blocks& blocks) const {
    int64_t first = 0;
    for (int r = 0; r < rank(); ++r) first += blocks[static_cast<size_t>(r)];
    return all.slice_rows(first, blocks[static_cast<size_t>(rank())]);
  }

  static void give(Exec& ex, const In& from, const View& to) {
    if (!from.empty()) ex.backend->copy(ex, to.data, from.data, from.bytes());
    ex.backend->synchronize(ex);
  }
  static void take(Exec& ex, const View& from, const View& to) {
    ex.backend->copy(ex, to.data, from.data, to.bytes());
  }

  std::unique_ptr<Communicator> inner_;
  Exec host_;                         // of no queue: the inner transfer runs at once
  const Backend* backend_ = nullptr;  // that the memory is of
  void* memory_ = nullptr;
  int64_t bytes_ = 0;
};

std::unique_ptr<Communicator> staged_communicator(std::unique_ptr<Communicator> inner) {
  return std::make_unique<StagedCommunicator>(std::move(inner));
}

}  // namespace convoy
