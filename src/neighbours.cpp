#include "neighbours.h"

#include <mpi.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>

#include "process_memory.h"

namespace convoy {
namespace {

// A process and a place in its memory that holds a number nobody else has.
struct Proof {
  int64_t process;
  const uint64_t* place;
  uint64_t number;
};

}  // namespace

std::shared_ptr<const Neighbours> Neighbours::find(MPI_Comm comm) {
  int rank = 0, world = 1, here = 0;
  auto neighbours = std::make_shared<Neighbours>();
  check_mpi(MPI_Comm_dup(comm, &neighbours->comm_));
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &world);
  neighbours->rank_ = rank;
  MPI_Comm machine = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(comm, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &machine));
  MPI_Comm_size(machine, &here);
  MPI_Comm_free(&machine);
  let_processes_read();
  std::random_device random;
  const uint64_t number = (uint64_t{random()} << 32) | random();
  const Proof own{getpid(), &number, number};
  std::vector<Proof> proofs(static_cast<size_t>(world));
  check_mpi(MPI_Allgather(&own, sizeof own, MPI_BYTE, proofs.data(), sizeof own, MPI_BYTE, comm));

  const char* setting = std::getenv("CONVOY_MPI_TRANSFERS");
  int readable = here == world && (setting == nullptr || std::strcmp(setting, "messages") != 0) ? 1 : 0;
  for (int r = 0; r < world && readable != 0; ++r) {
    const Proof& proof = proofs[static_cast<size_t>(r)];
    uint64_t there = 0;
    const int error =
        read_process(static_cast<int>(proof.process), reinterpret_cast<const std::byte*>(proof.place),
                     reinterpret_cast<std::byte*>(&there), sizeof there);
    readable =
        error == 0 && there == proof.number ? 1 : 0;  // in another container the process is another one
    neighbours->processes_.push_back(static_cast<int>(proof.process));
  }
  int all = 0;  // also keeps `number` in its place until the others have read it
  check_mpi(MPI_Allreduce(&readable, &all, 1, MPI_INT, MPI_MIN, comm));
  return all != 0 ? neighbours : nullptr;
}

SharedMemory::~SharedMemory() {
  for (const Part& part : ranks_)
    if (part.here != nullptr) unmap_memory(part.here, part.bytes);
}

const std::byte* SharedMemory::at(int r, const std::byte* there, int64_t bytes) const {
  const Part& part = ranks_[static_cast<size_t>(r)];
  if (there < part.there || there + bytes > part.there + part.bytes) return nullptr;
  return part.here + (there - part.there);
}

std::shared_ptr<const SharedMemory> Neighbours::share(MpiCalls& calls, int64_t bytes) const {
  struct Offer {
    std::byte* there;
    int64_t bytes, file;
  };
  std::shared_ptr<SharedMemory> memory(new SharedMemory(rank_));
  memory->ranks_.resize(processes_.size());
  // One page more than asked for: kernels may read, never use, up to 63 bytes past the end.
  const int64_t page = 4096;
  Offer own{nullptr, (bytes + page - 1) / page * page + page, -1};
  own.file = make_memory_file(own.bytes, &own.there);
  memory->ranks_[static_cast<size_t>(rank_)] = {own.there, own.there, own.there != nullptr ? own.bytes : 0};
  std::vector<Offer> offers(processes_.size());
  int mapped = own.file >= 0 ? 1 : 0, all = 0;
  calls.make([&] {
    check_mpi(MPI_Allgather(&own, sizeof own, MPI_BYTE, offers.data(), sizeof own, MPI_BYTE, comm_));
    for (size_t r = 0; r < offers.size() && mapped != 0; ++r) {
      SharedMemory::Part& part = memory->ranks_[r];
      if (part.here == nullptr && offers[r].file >= 0)
        part = {map_memory_file(processes_[r], static_cast<int>(offers[r].file), offers[r].bytes),
                offers[r].there, offers[r].bytes};
      mapped = part.here != nullptr ? 1 : 0;
    }
    check_mpi(MPI_Allreduce(&mapped, &all, 1, MPI_INT, MPI_MIN, comm_));
  });
  if (own.file >= 0) close(static_cast<int>(own.file));
  return all != 0 ? memory : nullptr;
}

void Neighbours::read(int rank, const std::byte* from, std::byte* to, int64_t bytes) const {
  const int error = read_process(processes_[static_cast<size_t>(rank)], from, to, bytes);
  if (error == 0) return;
  // A rank that is gone has said why, or its launcher does, and ends this one.
  if (error == ESRCH) std::this_thread::sleep_for(std::chrono::seconds(5));
  throw Error(text("rank ", rank, ": its memory can't be read: ", std::strerror(error),
                   "; CONVOY_MPI_TRANSFERS=messages does without"));
}

}  // namespace convoy
