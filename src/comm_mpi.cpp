#include "comm_mpi.h"

#include <mpi.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <thread>

#include "blocks.h"
#include "kernels/cpu_queue.h"
#include "mpi_heartbeats.h"
#include "mpi_requests.h"
#include "neighbours.h"

namespace convoy {
namespace {

constexpr int64_t kStagingBytes = int64_t{4} << 20;  // two slots of one piece from every other rank

// Distinct tags, so that pieces of the two halves of an all_reduce cannot be taken for each other.
enum Tag : int { kData, kSums };

// A part of something that is summed or handed on piece by piece.
RowRange piece_of(RowRange whole, int64_t piece, int64_t elements) {
  const int64_t first = std::min(piece * elements, whole.count);
  return {whole.first + first, std::min(elements, whole.count - first)};
}

[[noreturn]] void end_all_ranks(MpiCalls& calls, int rank, int status, const char* message) {
  char host[256] = "unknown host";
  gethostname(host, sizeof(host) - 1);
  std::fflush(stdout);
  std::fprintf(stderr, "convoy: rank %d (%s): error: %s\n", rank, host, message);
  std::fflush(stderr);
  calls.make([status] { MPI_Abort(MPI_COMM_WORLD, status); });
  _exit(status);
}

}  // namespace

void end_all_ranks(MpiCalls& calls, int rank) {
  try {
    if (std::current_exception() != nullptr) throw;
    end_all_ranks(calls, rank, 1, "the run was aborted");
  } catch (const InputError& error) {
    // What is wrong for one rank is wrong for all of them most of the time: the first one says it.
    if (rank != 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
    end_all_ranks(calls, rank, 2, error.what());
  } catch (const std::bad_alloc&) {
    end_all_ranks(calls, rank, 1, "out of memory");
  } catch (const std::exception& error) {
    end_all_ranks(calls, rank, 1, error.what());
  }
}

namespace {

// Messages, between any ranks.
class MpiCommunicator final : public Communicator {
 public:
  MpiCommunicator(MpiCalls& calls, MPI_Comm comm, int rank, int world)
      : Communicator(rank, world),
        calls_(calls),
        piece_(std::max<int64_t>(1, kStagingBytes / (int64_t{8} * std::max(1, world - 1)))),
        exchange_{MpiRequests(calls, comm), MpiRequests(calls, comm)},
        sums_(calls, comm) {}

  void abort() noexcept override { end_all_ranks(calls_, rank()); }

 protected:
  void do_all_reduce(Exec&, View inout) override {
    float* x = inout.f32();
    const auto block = [&](int r) { return part_of(inout.count(), r, world()); };
    const auto hand_on = [&](int64_t piece) {
      sums_.wait();
      const RowRange own = piece_of(block(rank()), piece, piece_);
      each_other([&](int r) {
        const RowRange theirs = piece_of(block(r), piece, piece_);
        sums_.receive(r, kSums, x + theirs.first, theirs.count * 4);
        sums_.send(r, kSums, x + own.first, own.count * 4);
      });
      sums_.post();
    };
    sum_blocks(x, block, x + block(rank()).first, hand_on);
    sums_.wait();
  }

  void do_reduce_scatter(Exec&, In everyone, View mine, const Blocks& blocks) override {
    const int64_t row = everyone.shape.row();
    const auto block = [&](int r) {
      return RowRange{rows_before(blocks, r) * row, blocks[static_cast<size_t>(r)] * row};
    };
    sum_blocks(everyone.f32(), block, mine.f32(), [](int64_t) {});
  }

  // Everything belongs to the root.
  void do_reduce(Exec&, In mine, View sum, int root) override {
    const auto block = [&](int r) { return RowRange{0, r == root ? mine.count() : 0}; };
    sum_blocks(mine.f32(), block, rank() == root ? sum.f32() : nullptr, [](int64_t) {});
  }

  void do_all_gather(Exec&, In mine, View everyone, const Blocks& blocks) override {
    const int64_t row_bytes = everyone.shape.row() * dtype_bytes(everyone.dtype);
    const auto rows = [&](int r) { return everyone.data + rows_before(blocks, r) * row_bytes; };
    const auto bytes = [&](int r) { return blocks[static_cast<size_t>(r)] * row_bytes; };
    MpiRequests& requests = exchange_[0];
    each_other([&](int r) {
      requests.receive(r, kData, rows(r), bytes(r));
      requests.send(r, kData, mine.data, bytes(rank()));
    });
    requests.post();
    if (mine.data != rows(rank()) && bytes(rank()) > 0)
      std::memcpy(rows(rank()), mine.data, static_cast<size_t>(bytes(rank())));
    requests.wait();
  }

  void do_broadcast(Exec&, View inout, int root) override {
    if (rank() == root)
      each_other([&](int r) { exchange_[0].send(r, kData, inout.data, inout.bytes()); });
    else
      exchange_[0].receive(root, kData, inout.data, inout.bytes());
    exchange_[0].post();
    exchange_[0].wait();
  }

  void do_send(Exec&, In view, int to) override {
    exchange_[0].send(to, kData, view.data, view.bytes());
    exchange_[0].post();
    exchange_[0].wait();
  }

  void do_recv(Exec&, View view, int from) override {
    exchange_[0].receive(from, kData, view.data, view.bytes());
    exchange_[0].post();
    exchange_[0].wait();
  }

  void do_barrier(Exec&) override {
    exchange_[0].barrier();
    exchange_[0].wait();
  }

 private:
  // f(every other rank), the next one first: not all ranks begin with the same one.
  template <class F>
  void each_other(const F& f) const {
    for (int i = 1; i < world(); ++i) f((rank() + i) % world());
  }

  // Every rank's elements block(r) of `x` go to rank r, which sums them to `to`. The pieces of the next sum travel
  // while one is added; summed(piece) is called after each. `to` may be the rank's own block of x.
  template <class Block, class Summed>
  void sum_blocks(const float* x, const Block& block, float* to, const Summed& summed) {
    int64_t most = 0;
    for (int r = 0; r < world(); ++r) most = std::max(most, block(r).count);
    const int64_t pieces = (most + piece_ - 1) / piece_;
    const RowRange own = block(rank());
    const int64_t staged = std::min(own.count, piece_);
    grow_staging(staged * (world() - 1) * std::min<int64_t>(pieces, 2));
    const auto exchange = [&](int64_t piece) {
      MpiRequests& requests = exchange_[static_cast<size_t>(piece % 2)];
      float* slot = staging_.get() + (piece % 2) * staged * (world() - 1);
      const RowRange wanted = piece_of(own, piece, piece_);
      each_other([&](int r) {
        const RowRange theirs = piece_of(block(r), piece, piece_);
        requests.receive(r, kData, slot + (r < rank() ? r : r - 1) * staged, wanted.count * 4);
        requests.send(r, kData, x + theirs.first, theirs.count * 4);
      });
      requests.post();
    };
    if (pieces > 0) exchange(0);
    for (int64_t piece = 0; piece < pieces; ++piece) {
      if (piece + 1 < pieces) exchange(piece + 1);
      exchange_[static_cast<size_t>(piece % 2)].wait();
      const RowRange part = piece_of(own, piece, piece_);
      const float* slot = staging_.get() + (piece % 2) * staged * (world() - 1);
      add_ranks(x + part.first, slot, staged, part.count, to + (part.first - own.first));
      summed(piece);
    }
  }

  // to = sum in rank order of `mine` and of what the others sent, `staged` elements apart in `slot`.
  void add_ranks(const float* mine, const float* slot, int64_t staged, int64_t count, float* to) const {
    constexpr int64_t kChunk = 2048;  // 8 KiB: stays in the L1 cache while the ranks are added
    alignas(64) float total[kChunk];
    for (int64_t at = 0; at < count; at += kChunk) {
      const int64_t n = std::min(kChunk, count - at);
      const auto chunk = [&](int r) {
        return (r == rank() ? mine : slot + (r < rank() ? r : r - 1) * staged) + at;
      };
      std::copy_n(chunk(0), n, total);
      for (int r = 1; r < world(); ++r) {
        const float* x = chunk(r);
        for (int64_t i = 0; i < n; ++i) total[i] += x[i];
      }
      std::copy_n(total, n, to + at);
    }
  }

  void grow_staging(int64_t elements) {
    if (elements <= staging_elements_) return;
    staging_.reset(new float[static_cast<size_t>(elements)]);
    staging_elements_ = elements;
  }

  MpiCalls& calls_;
  int64_t piece_;  // elements of one rank that are in flight at a time
  MpiRequests exchange_[2], sums_;
  std::unique_ptr<float[]> staging_;
  int64_t staging_elements_ = 0;
};

// The one MPI of this process; never destroyed: a rank that fails ends the process with transfers running.
MpiCalls& calls() {
  static MpiCalls& one = *new MpiCalls;
  return one;
}

MpiProcess process() {
  MpiProcess p;
  calls().make([&] {
    MPI_Comm_rank(MPI_COMM_WORLD, &p.rank);
    MPI_Comm_size(MPI_COMM_WORLD, &p.world);
    MPI_Comm machine = MPI_COMM_NULL;
    check_mpi(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, p.rank, MPI_INFO_NULL, &machine));
    int here = 0, neighbours = 1;
    MPI_Comm_rank(machine, &here);
    MPI_Comm_size(machine, &neighbours);
    const uint64_t mine = cpu_mask_hash();
    std::vector<uint64_t> masks(static_cast<size_t>(neighbours));
    check_mpi(MPI_Allgather(&mine, 1, MPI_UINT64_T, masks.data(), 1, MPI_UINT64_T, machine));
    p.sharer = static_cast<int>(std::count(masks.begin(), masks.begin() + here, mine));
    p.sharers = static_cast<int>(std::count(masks.begin(), masks.end(), mine));
    MPI_Comm_free(&machine);
  });
  return p;
}

std::string library_version() {
  char name[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(name, &length);
  const std::string all(name, static_cast<size_t>(length));
  return all.substr(0, all.find_first_of(",\n"));  // "Open MPI v4.1.4"; what follows is the builder's
}

// What ranks of one machine can read of each other; null otherwise.
std::shared_ptr<const Neighbours>& neighbours() {
  static auto& found = *new std::shared_ptr<const Neighbours>;
  return found;
}

MpiProcess init() {
  calls().init();
  calls().make([] { neighbours() = Neighbours::find(MPI_COMM_WORLD); });
  return process();
}

void finalize() {
  calls().make([] { MPI_Finalize(); });
}

struct Group {
  MPI_Comm comm = MPI_COMM_NULL;
  int rank = 0, world = 1;
};

Group group_of_all() {
  Group all;
  calls().make([&] {
    check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &all.comm));
    MPI_Comm_set_errhandler(all.comm, MPI_ERRORS_RETURN);
    MPI_Comm_rank(all.comm, &all.rank);
    MPI_Comm_size(all.comm, &all.world);
  });
  return all;
}

std::unique_ptr<Communicator> communicator() {
  const Group all = group_of_all();
  if (neighbours() != nullptr)
    if (auto group = machine_communicator(calls(), all.comm, all.rank, all.world, neighbours())) return group;
  return std::make_unique<MpiCommunicator>(calls(), all.comm, all.rank, all.world);
}

std::unique_ptr<Heartbeats> heartbeats(StatusBoard& board) {
  const Group all = group_of_all();
  return mpi_heartbeats(calls(), all.comm, all.rank, all.world, board);
}

}  // namespace

extern const Mpi kMpi;
const Mpi kMpi = {library_version, init, finalize, communicator, heartbeats};

}  // namespace convoy
