// How a program becomes K workers: threads of this process, or the processes that mpirun or srun started.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "convoy/comm.h"

namespace convoy {

struct WorkersOptions {
  int64_t workers = 0;             // 0: the launcher's processes; otherwise 1, or on CUDA one a device
  std::string device = "cpu";      // cpu, cuda, or auto: CUDA where there is a device
  std::string transport = "auto";  // of workers on CUDA: nccl, local, staged; auto: which fits (transport.h)
  int64_t threads = 0;  // of each worker; 0: the CPUs that this process may use, shared among its workers
  std::string isa = "auto";
  double link_gbps = 0, link_us = 0;  // a simulated link (delay_line.h); 0 GB/s: none
};

// Runs the body once a worker, and gives the highest status that a body of this process returned. Under MPI
// (which the launcher's variables tell; otherwise MPI is never touched) this process is one worker. Workers of one
// machine compute on CPUs of their own, as far as there are enough. A worker alone has an empty team.
//
// Worker r of a machine computes on its CUDA device r mod their number.
//
// Throws InputError when there is no such device, when `workers` contradicts the launcher, and when several processes were started that would
// not know of each other.
//
// When a body throws, its team is ended (end_team). Threads: all end, and the error that came first is thrown here.
// Under MPI this process does not return: comm_mpi.h says how it ends.
int run_workers(const WorkersOptions& options, const std::function<int(Team&, const Exec& compute)>& body);

// Whether run_workers makes this process one of several workers of MPI. It can then run once.
bool workers_are_processes();

// For a handler of errors: the transfers of all workers throw Aborted from now on, and this worker's queue is idle on
// return. A body that owns memory which transfers use calls it before that memory goes; run_workers calls it anyway.
void end_team(Team& team) noexcept;

inline bool leader(const Team& team) {
  return team.rank() == 0;
}

// What all workers must agree on: names, in the same order on every rank, and values. Where one differs, every rank
// throws the same InputError with the name, two ranks and their values.
using Facts = std::vector<std::pair<std::string, std::string>>;
void check_agreement(Team& team, const Facts& facts);

}  // namespace convoy
