#include "mpi_requests.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <string>
#include <thread>

#include "kernels/cpu_queue.h"

namespace convoy {

void check_mpi(int result) {
  if (result == MPI_SUCCESS) return;
  char words[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  MPI_Error_string(result, words, &length);
  throw Error(text("MPI: ", std::string(words, static_cast<size_t>(length))));
}

void MpiCalls::init() {
  const char* setting = std::getenv("CONVOY_MPI_THREADS");
  const bool single = setting != nullptr && std::string(setting) == "single";
  int granted = MPI_THREAD_SINGLE;
  make([&] {
    check_mpi(
        MPI_Init_thread(nullptr, nullptr, single ? MPI_THREAD_FUNNELED : MPI_THREAD_MULTIPLE, &granted));
  });
  any_thread_ = !single && granted == MPI_THREAD_MULTIPLE;
}

void MpiCalls::make_there(Exec& exec, void (*call)(const void*), const void* what) {
  std::exception_ptr error;
  cpu_submit(exec, [call, what, &error] {
    try {
      call(what);
    } catch (...) {  // the thread goes on: others need it
      error = std::current_exception();
    }
  });
  cpu_synchronize(exec);
  if (error) std::rethrow_exception(error);
}

void MpiRequests::add(bool receive, int peer, int tag, void* data, int64_t bytes) {
  constexpr int64_t kMost = int64_t{1} << 30;  // MPI counts in int
  for (int64_t at = 0; at < bytes; at += kMost)
    messages_.push_back({receive, peer, tag, static_cast<int>(std::min(kMost, bytes - at)),
                         static_cast<std::byte*>(data) + at});
}

void MpiRequests::post() {
  requests_.resize(messages_.size(), MPI_REQUEST_NULL);
  statuses_.resize(messages_.size());
  if (messages_.empty()) return;
  calls_.make([this] {
    // All receives first: a message that finds one waiting is not copied twice.
    for (const bool receive : {true, false})
      for (size_t i = 0; i < messages_.size(); ++i) {
        const Message& m = messages_[i];
        if (m.receive != receive) continue;
        check_mpi(receive ? MPI_Irecv(m.data, m.bytes, MPI_BYTE, m.peer, m.tag, comm_, &requests_[i])
                          : MPI_Isend(m.data, m.bytes, MPI_BYTE, m.peer, m.tag, comm_, &requests_[i]));
      }
  });
}

void MpiRequests::barrier() {
  requests_.resize(1);
  statuses_.resize(1);
  calls_.make([this] { check_mpi(MPI_Ibarrier(comm_, requests_.data())); });
}

bool MpiRequests::done() {
  int all = 0;
  calls_.make([&] {
    const int result =
        MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &all, statuses_.data());
    if (result == MPI_ERR_IN_STATUS)
      for (const MPI_Status& status : statuses_)
        check_mpi(status.MPI_ERROR == MPI_ERR_PENDING ? MPI_SUCCESS : status.MPI_ERROR);
    check_mpi(result);
  });
  return all != 0;
}

void MpiRequests::wait() {
  using Clock = std::chrono::steady_clock;
  using std::chrono::microseconds;
  constexpr microseconds kSpin{20}, kFirst{5}, kLongest{100};
  if (requests_.empty()) return;
  try {
    const auto start = Clock::now();
    for (microseconds pause = kFirst; !done();) {
      if (Clock::now() - start < kSpin) continue;
      if (pause == kFirst) cpu_wake_on_time();
      std::this_thread::sleep_for(pause);
      pause = std::min(2 * pause, kLongest);
    }
    check_lengths();
  } catch (...) {
    clear();
    throw;
  }
  clear();
}

void MpiRequests::clear() {
  requests_.clear();
  messages_.clear();
}

void MpiRequests::check_lengths() const {
  for (size_t i = 0; i < messages_.size(); ++i) {
    const Message& m = messages_[i];
    int bytes = m.bytes;
    if (m.receive) MPI_Get_count(&statuses_[i], MPI_BYTE, &bytes);
    CONVOY_CHECK(bytes == m.bytes, "rank ", m.peer, " sent ", bytes, " bytes where ", m.bytes,
                 " were wanted");
  }
}

}  // namespace convoy
