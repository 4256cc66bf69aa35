// Communicators whose views are device memory: kinds of links between GPUs.
//
//   local    ranks are threads of this process, on one GPU or several; sums in rank order, the same bits as
//            thread_communicators gives
//   nccl     one GPU a rank, threads or processes; NCCL adds in an order of its own, the same every time on the
//            same machine
//   staged   another communicator, of the host, with copies through pinned memory around it: MPI without NCCL
//
// Graphs can hold the transfers of nccl alone: those of local are ordered anew, between threads, by every call.
//
// The Exec of every call is a CUDA queue of the rank's device, made by the thread that calls. A transfer is queued
// on its stream: local and nccl never wait for the device. local waits for the threads of the other ranks, so all
// ranks make the calls of all groups in one order. Pinned memory counts as the device's; other memory of the host
// is an Error (staged takes it).
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "convoy/comm.h"

namespace convoy {

// One group of K ranks, rank r at [r]; at most 64. Throws InputError where the build has no CUDA.
std::vector<std::unique_ptr<Communicator>> local_communicators(int world);

// Over NCCL (whose memory() is ncclMemAlloc's, registered with the communicator, where the library can), which is loaded when one of these is called first: the library that CONVOY_NCCL names, else libnccl.so.2.
// They throw InputError when there is none, when it is older than 2.14, and where the build has no CUDA.
std::string nccl_version();  // "2.28.9"
// Threads: one group, rank r on devices[r], all different. Makes them all, on this thread, whose device changes.
std::vector<std::unique_ptr<Communicator>> nccl_communicators(const std::vector<int>& devices);
// Processes: every rank of `host` calls it with a device of its own machine. The host's communicator says where the
// ranks meet, and ends them all when one fails; it is kept for that.
std::unique_ptr<Communicator> nccl_communicator(std::unique_ptr<Communicator> host, int device);

// Copies through pinned memory around a communicator of the host.
std::unique_ptr<Communicator> staged_communicator(std::unique_ptr<Communicator> inner);

}  // namespace convoy
