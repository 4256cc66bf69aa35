// Ranks of MPI on one machine, and each other's memory: what was allocated to be shared is read like one's own; anything
// else through the kernel (process_vm_readv), which copies it once, where a message takes two copies and many polls.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "convoy/comm.h"
#include "mpi_requests.h"

namespace convoy {

// Memory of every rank, mapped by all of them. It has no name and is gone with the last process that maps it.
class SharedMemory {
 public:
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();
  void* own() const { return ranks_[static_cast<size_t>(rank_)].here; }
  // Where this process has the first byte of rank r's memory.
  std::byte* of(int r) const { return ranks_[static_cast<size_t>(r)].here; }
  // Where this process has rank r's memory from `there`, an address of that rank's, on; null: it is not in here.
  const std::byte* at(int r, const std::byte* there, int64_t bytes) const;

 private:
  friend class Neighbours;
  struct Part {
    std::byte *here = nullptr, *there = nullptr;
    int64_t bytes = 0;
  };
  explicit SharedMemory(int rank) : rank_(rank) {}

  int rank_;
  std::vector<Part> ranks_;
};

class Neighbours {
 public:
  // All ranks of the communicator call it. Null, on all of them, when they are not all on this machine, when the kernel
  // or a container keeps them apart, or when CONVOY_MPI_TRANSFERS=messages is set for one of them.
  static std::shared_ptr<const Neighbours> find(MPI_Comm comm);

  // Memory of each rank, `bytes` of this one, zero; all ranks call it. Null, on all of them, where it can't be had.
  std::shared_ptr<const SharedMemory> share(MpiCalls& calls, int64_t bytes) const;

  // to[0, bytes) = what `rank` has at `from`. Throws Error when that process has gone.
  void read(int rank, const std::byte* from, std::byte* to, int64_t bytes) const;

 private:
  int rank_ = 0;
  MPI_Comm comm_ = MPI_COMM_NULL;  // of its own: other threads may be in collectives
  std::vector<int> processes_;     // of each rank
};

// A group of such ranks, which `comm` has; send and recv are messages of MPI. Null, on all of them, where they can't
// share memory.
std::unique_ptr<Communicator> machine_communicator(MpiCalls& calls, MPI_Comm comm, int rank, int world,
                                                   std::shared_ptr<const Neighbours> neighbours);

// Prints the error that is being handled and ends the processes of all ranks (comm_mpi.h).
[[noreturn]] void end_all_ranks(MpiCalls& calls, int rank);

}  // namespace convoy
