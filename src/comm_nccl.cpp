// Ranks that are GPUs, over NCCL. All calls of a rank hold its lock: an abort waits for them, but not for ever, as
// they may wait for a rank that has failed.
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "blocks.h"
#include "comm_cuda.h"
#include "kernels/comm.h"
#include "nccl_library.h"

namespace convoy {
namespace {

using nccl::library;
using nccl::Result;

constexpr std::chrono::seconds kPatience{1};  // of an abort with the calls that run
constexpr std::chrono::microseconds kPoll{50};

// Sentences of NCCL's about a failed call.
std::string words_for(Result result, nccl::Comm comm) {
  const char* more = library().last_error(comm);
  return text(library().error_string(result), more != nullptr && *more != 0 ? ": " : "",
              more == nullptr ? "" : more);
}

#define CONVOY_NCCL(comm, call)                                                                 \
  do {                                                                                          \
    const Result convoy_result = (call);                                                        \
    CONVOY_CHECK(convoy_result == nccl::kSuccess, #call, ": ", words_for(convoy_result, comm)); \
  } while (false)

// What happened first of several calls.
void add(Result& all, Result one) {
  if (all == nccl::kSuccess) all = one;
}

// Calls that NCCL carries out as one.
template <class Calls>
Result grouped(const Calls& calls) {
  Result all = library().group_start();
  if (all != nccl::kSuccess) return all;
  calls(all);
  add(all, library().group_end());
  return all;
}

// The ranks of this process.
struct NcclGroup {
  struct Rank {
    std::timed_mutex mutex;
    std::atomic<nccl::Comm> comm{nullptr};
  };
  explicit NcclGroup(size_t count) : ranks(count) {}
  std::vector<Rank> ranks;
  std::atomic<bool> aborted{false};

  void abort() noexcept {
    aborted = true;
    const auto until = std::chrono::steady_clock::now() + kPatience;
    for (Rank& rank : ranks) {
      const std::unique_lock<std::timed_mutex> lock(rank.mutex, until);
      if (const nccl::Comm comm = rank.comm.exchange(nullptr)) library().abort(comm);
    }
  }
  [[noreturn]] static void throw_aborted() { throw Aborted("another worker failed"); }
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(int rank, int world, std::shared_ptr<NcclGroup> group, NcclGroup::Rank& own,
                   std::unique_ptr<Communicator> host)
      : Communicator(rank, world), group_(std::move(group)), own_(own), host_(std::move(host)) {
    const Backend& backend = *find_cuda()->backend;
    word_ = {static_cast<float*>(backend.alloc_host(sizeof(float))), backend.release_host};
    *word_ = 0;
  }
  ~NcclCommunicator() override {
    const std::lock_guard<std::timed_mutex> lock(own_.mutex);
    if (const nccl::Comm comm = own_.comm.exchange(nullptr)) library().destroy(comm);
  }

  void abort() noexcept override {
    if (host_ != nullptr) host_->abort();  // of MPI: does not return
    group_->abort();
  }

  // ncclMemAlloc and ncclCommRegister; the backend's where this library does not have them, or they do not work here.
  std::shared_ptr<void> memory(const Backend& backend, int64_t bytes) override {
    const nccl::Library& nccl = library();
    void* memory = nullptr;
    if (bytes == 0 || nccl.mem_alloc == nullptr || nccl.mem_free == nullptr ||
        nccl.mem_alloc(&memory, static_cast<size_t>(bytes)) != nccl::kSuccess)
      return Communicator::memory(backend, bytes);
    void* handle = nullptr;
    if (nccl.comm_register != nullptr && nccl.comm_deregister != nullptr) {
      const std::lock_guard<std::timed_mutex> lock(own_.mutex);
      const nccl::Comm comm = own_.comm;
      if (comm == nullptr ||
          nccl.comm_register(comm, memory, static_cast<size_t>(bytes), &handle) != nccl::kSuccess)
        handle = nullptr;  // transfers work without
    }
    return {memory, [group = group_, &own = own_, handle](void* m) {
              if (handle != nullptr) {
                const std::lock_guard<std::timed_mutex> lock(own.mutex);
                if (const nccl::Comm comm = own.comm) library().comm_deregister(comm, handle);
              }
              library().mem_free(m);
            }};
  }

 protected:
  void do_all_reduce(Exec& ex, View inout) override {
    if (inout.count() == 0) return;
    check_device(inout);
    call(ex, "all_reduce", [&](nccl::Comm comm, nccl::Stream stream) {
      return library().all_reduce(inout.data, inout.data, elements(inout.count()), nccl::kFloat32, nccl::kSum,
                                  comm, stream);
    });
  }

  void do_all_gather(Exec& ex, In mine, View everyone, const Blocks& blocks) override {
    if (everyone.count() == 0) return;
    check_device(mine);
    check_device(everyone);
    const int64_t row_bytes = everyone.shape.row() * dtype_bytes(everyone.dtype);
    call(ex, "all_gather", [&](nccl::Comm comm, nccl::Stream stream) {
      if (even(blocks))
        return library().all_gather(mine.data, everyone.data, elements(mine.bytes()), nccl::kUint8, comm,
                                    stream);
      return grouped([&](Result& all) {
        for (int r = 0; r < world(); ++r) {
          const int64_t bytes = blocks[static_cast<size_t>(r)] * row_bytes;
          std::byte* rows = everyone.data + rows_before(blocks, r) * row_bytes;
          if (bytes > 0)
            add(all, library().broadcast(r == rank() ? mine.data : rows, rows, elements(bytes), nccl::kUint8,
                                         r, comm, stream));
        }
      });
    });
  }

  void do_reduce_scatter(Exec& ex, In everyone, View mine, const Blocks& blocks) override {
    if (everyone.count() == 0) return;
    check_device(everyone);
    check_device(mine);
    const int64_t row = everyone.shape.row();
    call(ex, "reduce_scatter", [&](nccl::Comm comm, nccl::Stream stream) {
      if (even(blocks))
        return library().reduce_scatter(everyone.data, mine.data, elements(mine.count()), nccl::kFloat32,
                                        nccl::kSum, comm, stream);
      return grouped([&](Result& all) {
        for (int r = 0; r < world(); ++r) {
          const int64_t count = blocks[static_cast<size_t>(r)] * row;
          const float* rows = everyone.f32() + rows_before(blocks, r) * row;
          if (count > 0)
            add(all, library().reduce(rows, r == rank() ? mine.data : nullptr, elements(count),
                                      nccl::kFloat32, nccl::kSum, r, comm, stream));
        }
      });
    });
  }

  void do_broadcast(Exec& ex, View inout, int root) override {
    if (inout.count() == 0) return;
    check_device(inout);
    call(ex, "broadcast", [&](nccl::Comm comm, nccl::Stream stream) {
      return library().broadcast(inout.data, inout.data, elements(inout.bytes()), nccl::kUint8, root, comm,
                                 stream);
    });
  }

  void do_reduce(Exec& ex, In mine, View sum, int root) override {
    if (mine.count() == 0) return;
    check_device(mine);
    if (rank() == root) check_device(sum);
    call(ex, "reduce", [&](nccl::Comm comm, nccl::Stream stream) {
      return library().reduce(mine.data, rank() == root ? sum.data : nullptr, elements(mine.count()),
                              nccl::kFloat32, nccl::kSum, root, comm, stream);
    });
  }

  void do_send(Exec& ex, In view, int to) override {
    if (view.count() == 0) return;
    check_device(view);
    call(ex, "send", [&](nccl::Comm comm, nccl::Stream stream) {
      return library().send(view.data, elements(view.bytes()), nccl::kUint8, to, comm, stream);
    });
  }

  void do_recv(Exec& ex, View view, int from) override {
    if (view.count() == 0) return;
    check_device(view);
    call(ex, "recv", [&](nccl::Comm comm, nccl::Stream stream) {
      return library().recv(view.data, elements(view.bytes()), nccl::kUint8, from, comm, stream);
    });
  }

  void do_barrier(Exec& ex) override {
    call(ex, "barrier", [&](nccl::Comm comm, nccl::Stream stream) {
      return library().all_reduce(word_.get(), word_.get(), 1, nccl::kFloat32, nccl::kSum, comm, stream);
    });
  }

 private:
  static size_t elements(int64_t count) { return static_cast<size_t>(count); }
  static bool even(const Blocks& blocks) {
    for (const int64_t block : blocks)
      if (block != blocks[0]) return false;
    return true;
  }

  template <class Call>
  void call(Exec& ex, const char* name, const Call& queue) {
    check_device(ex);
    const std::lock_guard<std::timed_mutex> lock(own_.mutex);
    const nccl::Comm comm = own_.comm;
    if (group_->aborted || comm == nullptr) NcclGroup::throw_aborted();
    Result result = nccl::kSuccess;  // of transfers that were queued before
    CONVOY_NCCL(comm, library().async_error(comm, &result));
    if (result == nccl::kSuccess) result = queue(comm, cuda_comm()->stream(ex));
    while (result == nccl::kInProgress && !group_->aborted) {  // NCCL_COMM_BLOCKING=0
      std::this_thread::sleep_for(kPoll);
      CONVOY_NCCL(comm, library().async_error(comm, &result));
    }
    if (group_->aborted) NcclGroup::throw_aborted();
    CONVOY_CHECK(result == nccl::kSuccess, "NCCL, ", name, ": ", words_for(result, comm));
  }

  std::shared_ptr<NcclGroup> group_;
  NcclGroup::Rank& own_;
  std::unique_ptr<Communicator> host_;
  std::unique_ptr<float, void (*)(void*)> word_{nullptr, nullptr};  // that barriers sum
};

// Waits until the ranks that are being made can be used.
void finish_init(NcclGroup& group, Result started) {
  Result state = started == nccl::kInProgress ? nccl::kSuccess : started;
  for (NcclGroup::Rank& rank : group.ranks)
    while (state == nccl::kSuccess) {
      add(state, library().async_error(rank.comm, &started));
      if (started != nccl::kInProgress) add(state, started);
      if (started == nccl::kSuccess) break;
      std::this_thread::sleep_for(kPoll);
    }
  if (state == nccl::kSuccess) return;
  const std::string words = words_for(state, nullptr);
  group.abort();
  throw Error("NCCL cannot start: " + words);
}

}  // namespace

std::string nccl_version() {
  return nccl::version_name(library().code);
}

std::vector<std::unique_ptr<Communicator>> nccl_communicators(const std::vector<int>& devices) {
  if (cuda_comm() == nullptr) input_error("this build has no CUDA");
  const int world = static_cast<int>(devices.size());
  const auto group = std::make_shared<NcclGroup>(devices.size());
  nccl::UniqueId id{};
  nccl::Config config;
  CONVOY_NCCL(nullptr, library().get_unique_id(&id));
  std::vector<nccl::Comm> comms(devices.size());
  const Result started = grouped([&](Result& all) {
    for (int rank = 0; rank < world; ++rank) {
      cuda_comm()->use_device(devices[static_cast<size_t>(rank)]);
      add(all, library().init_rank(&comms[static_cast<size_t>(rank)], world, id, rank, &config));
    }
  });
  for (size_t rank = 0; rank < comms.size(); ++rank) group->ranks[rank].comm = comms[rank];
  finish_init(*group, started);
  std::vector<std::unique_ptr<Communicator>> ranks;
  ranks.reserve(devices.size());
  for (int rank = 0; rank < world; ++rank)
    ranks.push_back(std::make_unique<NcclCommunicator>(rank, world, group,
                                                       group->ranks[static_cast<size_t>(rank)], nullptr));
  return ranks;
}

std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator> host, int device) {
  if (cuda_comm() == nullptr) input_error("this build has no CUDA");
  try {
    cuda_comm()->use_device(device);
    nccl::UniqueId id{};
    if (host->rank() == 0) CONVOY_NCCL(nullptr, library().get_unique_id(&id));
    Exec at_once;
    at_once.backend = cpu_backends().back();
    host->broadcast(at_once, {Traffic::kOther, "nccl"},
                    View(reinterpret_cast<uint8_t*>(id.internal), {int64_t{sizeof(id.internal)}}), 0);
    const int rank = host->rank(), world = host->world();
    const auto group = std::make_shared<NcclGroup>(1);
    nccl::Config config;
    nccl::Comm comm = nullptr;
    const Result started = library().init_rank(&comm, world, id, rank, &config);
    group->ranks[0].comm = comm;
    finish_init(*group, started);
    return std::make_unique<NcclCommunicator>(rank, world, group, group->ranks[0], std::move(host));
  } catch (...) {
    if (host != nullptr) host->abort();
    throw;
  }
}

}  // namespace convoy
