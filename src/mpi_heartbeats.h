// Status lines between ranks (comm_mpi.h: Heartbeats).
#pragma once
#include <memory>

#include "comm_mpi.h"
#include "mpi_requests.h"

namespace convoy {

// Over a communicator of its own.
std::unique_ptr<Heartbeats> mpi_heartbeats(MpiCalls& calls, MPI_Comm comm, int rank, int world,
                                           StatusBoard& board);

}  // namespace convoy
