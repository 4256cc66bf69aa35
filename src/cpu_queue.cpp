// The CPU's queue for transfers: tasks run in order, one at a time, on a thread of the queue or on one that waits for
// them and finds them not begun: who has nothing else to do needs nobody to be woken.
#include "kernels/cpu_queue.h"

#include <array>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "convoy/backend.h"

namespace convoy {

class CpuQueue {
 public:
  CpuQueue() : thread_([this] { run(); }) {}
  ~CpuQueue() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    work_.notify_one();
    thread_.join();
  }
  CpuQueue(const CpuQueue&) = delete;
  CpuQueue& operator=(const CpuQueue&) = delete;

  void submit(const Task& task) {
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [&] { return submitted_ - finished_ < kPlaces; });
    tasks_[static_cast<size_t>(submitted_ % kPlaces)] = task;
    ++submitted_;
    lock.unlock();
    work_.notify_one();
  }
  int64_t submitted() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return submitted_;
  }
  void wait_for(int64_t ticket) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (finished_ < ticket) {
      if (running_)
        done_.wait(lock, [&] { return finished_ >= ticket || !running_; });
      else
        run_next(lock);
    }
    if (error_) std::rethrow_exception(error_);
  }

 private:
  static constexpr int64_t kPlaces = 64;

  void run() {
    cpu_unpin();
    cpu_flush_denormals();
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      work_.wait(lock, [&] { return !running_ && (stopping_ || finished_ < submitted_); });
      if (finished_ == submitted_) return;
      run_next(lock);
    }
  }

  void run_next(std::unique_lock<std::mutex>& lock) {
    Task& task = tasks_[static_cast<size_t>(finished_ % kPlaces)];
    const bool failed = error_ != nullptr;
    running_ = true;
    lock.unlock();
    std::exception_ptr error;
    try {
      if (!failed) task();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    running_ = false;
    if (error) error_ = error;
    ++finished_;
    done_.notify_all();
    if (finished_ < submitted_ || stopping_) work_.notify_one();
  }

  std::mutex mutex_;
  std::condition_variable work_, done_;
  std::array<Task, kPlaces> tasks_;
  int64_t submitted_ = 0, finished_ = 0;
  bool stopping_ = false, running_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // last: it starts when everything else is there
};

namespace {
CpuQueue* queue_of(const Exec& exec) {
  return static_cast<CpuQueue*>(exec.queue);
}
}  // namespace

void CpuQueueDelete::operator()(CpuQueue* queue) const {
  delete queue;
}

CpuQueuePointer cpu_queue() {
  return CpuQueuePointer(new CpuQueue);
}

Exec cpu_queue_exec(const Backend& backend, const CpuQueuePointer& queue) {
  Exec exec;
  exec.backend = &backend;
  exec.queue = queue.get();
  return exec;
}

void cpu_submit(Exec& exec, const Task& task) {
  if (exec.queue != nullptr) return queue_of(exec)->submit(task);
  Task now = task;
  now();
}

Event cpu_record(Exec& exec) {
  if (exec.queue == nullptr) return {};
  return {exec.queue, queue_of(exec)->submitted()};
}

void cpu_wait(Exec& exec, Event event) {
  // A queue that waits for itself is in order already; the other queue's tasks have been waited for or run.
  if (event.handle == nullptr || event.handle == exec.queue) return;
  static_cast<CpuQueue*>(event.handle)->wait_for(event.ticket);
}

void cpu_synchronize(Exec& exec) {
  if (exec.queue != nullptr) queue_of(exec)->wait_for(queue_of(exec)->submitted());
}

}  // namespace convoy
