// How comm_mpi.cpp calls MPI: from any thread, without blocking, and with any number of bytes.
#pragma once
#include <mpi.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "convoy/backend.h"

namespace convoy {

// Throws Error with MPI's own words.
void check_mpi(int result);

// Makes the calls of all threads: at once where MPI takes calls of several threads, else on the one thread that
// initialised it. Each must be short. Throws what the call throws.
class MpiCalls {
 public:
  void init();
  template <class F>
  void make(const F& call) {
    if (any_thread_) return call();
    Exec exec;
    exec.queue = thread_.get();
    make_there(
        exec, [](const void* f) { (*static_cast<const F*>(f))(); }, &call);
  }

 private:
  static void make_there(Exec& exec, void (*call)(const void*), const void* what);

  CpuQueuePointer thread_ = cpu_queue();
  bool any_thread_ = false;
};

// Messages in flight between this rank and others of one communicator. No allocation once it has held as many.
class MpiRequests {
 public:
  MpiRequests(MpiCalls& calls, MPI_Comm comm) : calls_(calls), comm_(comm) {}

  // Messages to be posted. Of any length, 0 bytes are no message.
  void send(int to, int tag, const void* data, int64_t bytes) {
    add(false, to, tag, const_cast<void*>(data), bytes);
  }
  void receive(int from, int tag, void* data, int64_t bytes) { add(true, from, tag, data, bytes); }
  void post();
  void barrier();

  // Returns when all are done. Throws Error when one failed or had another length than was named.
  void wait();

 private:
  struct Message {
    bool receive;
    int peer, tag, bytes;
    void* data;
  };
  void add(bool receive, int peer, int tag, void* data, int64_t bytes);
  bool done();
  void check_lengths() const;
  void clear();

  MpiCalls& calls_;
  MPI_Comm comm_;
  std::vector<Message> messages_;
  std::vector<MPI_Request> requests_;
  std::vector<MPI_Status> statuses_;
};

}  // namespace convoy
