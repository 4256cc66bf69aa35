// Ranks that are processes, over MPI (Open MPI): one rank each, started by mpirun or srun --mpi=pmix.
//
// Sums are our own, in rank order: the same bits as thread_communicators gives. Whoever waits polls, and sleeps
// between polls: a blocking call of Open MPI would keep a core busy.
//
// Ranks of one machine read each other's memory where the kernel lets them (neighbours.h); others, and all where
// CONVOY_MPI_TRANSFERS=messages is set in the environment, send messages.
//
// abort() prints the error that is being handled as "convoy: rank 3 (host): error: ...", ends the processes of all
// ranks, with status 2 for InputError and 1 for any other, and does not return. Where a rank is killed, mpirun and
// srun --kill-on-bad-exit=1 end the others.
//
// MPI is initialised and finalised on a thread of its own, and MPI_THREAD_MULTIPLE is asked for. Where less is
// granted, or CONVOY_MPI_THREADS=single is set in the environment, that thread makes all calls for the others.
#pragma once
#include <memory>
#include <string>

#include "convoy/comm.h"
#include "status_board.h"

namespace convoy {

// This process among those of the run.
struct MpiProcess {
  int rank = 0, world = 1;
  // Among the processes of this machine that may use the same CPUs as this one (all that the launcher bound
  // nowhere, or to the same place).
  int sharer = 0, sharers = 1;
};

// Between making and destroying one (every rank does both, and destroying it waits for all), what a rank writes of itself
// on its board comes to the boards of all others. A thread of its own calls MPI for it: whoever reads the board does not
// depend on MPI.
class Heartbeats {
 public:
  virtual ~Heartbeats() = default;
};

struct Mpi {
  std::string (*version)();                         // of the library; may be asked before init()
  MpiProcess (*init)();                             // once a process
  void (*finalize)();                               // every rank calls it, once no communicator has work left
  std::unique_ptr<Communicator> (*communicator)();  // a group of all ranks, which all of them ask for
  std::unique_ptr<Heartbeats> (*heartbeats)(StatusBoard& board);
};

// Null: this build has no MPI.
const Mpi* mpi();

}  // namespace convoy
