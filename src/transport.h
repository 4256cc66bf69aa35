// How workers on CUDA devices exchange.
//
//   nccl    NCCL, each worker on a device of its own
//   local   workers are threads of this process, on one or more devices: their sums have the CPU's bits
//   staged  over MPI, through the host's memory
//   auto    nccl where every worker has a device and the library is found, else local (threads) or staged (processes)
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "comm_mpi.h"
#include "convoy/comm.h"

namespace convoy {

// Which of nccl and local K threads use. Throws InputError for a transport that cannot be.
std::string cuda_transport(const Cuda& cuda, const std::string& transport, int workers);

// One group of K threads, rank r at [r], on device r mod the number of devices. Throws InputError for a transport that
// cannot be.
std::vector<std::unique_ptr<Communicator>> cuda_communicators(const Cuda& cuda, const std::string& transport,
                                                              int workers);

// This process's end of a group of all processes; `host` is a group of the same processes over MPI.
std::unique_ptr<Communicator> cuda_communicator(const Cuda& cuda, const std::string& transport,
                                                std::unique_ptr<Communicator> host, const MpiProcess& self);

// Which device this process takes: the launcher numbers the processes of a machine.
int device_of_process(const Cuda& cuda);

}  // namespace convoy
