#include "thread_group.h"

#include <chrono>
#include <cstring>
#include <exception>
#include <thread>

namespace convoy {
namespace {

// About what it takes to put a thread to sleep and to wake it: spinning for longer only steals the core.
constexpr std::chrono::microseconds kSpin{5};

[[noreturn]] void throw_aborted() {
  throw Aborted("another worker failed");
}

}  // namespace

ThreadGroup::ThreadGroup(int world)
    : calls_(static_cast<size_t>(world)),
      spins_(static_cast<unsigned>(world) <= std::thread::hardware_concurrency()),
      messages_(static_cast<size_t>(world) * static_cast<size_t>(world)) {}

bool ThreadGroup::meet(std::unique_lock<std::mutex> lock, bool may_abort) {
  const uint64_t meeting = meetings_.load(std::memory_order_relaxed);
  if (++present_ == world()) {
    present_ = 0;
    meetings_.store(meeting + 1, std::memory_order_release);
    lock.unlock();
    met_.notify_all();
    return true;
  }
  const auto done = [&] { return meetings_.load(std::memory_order_acquire) != meeting; };
  if (spins_) {
    lock.unlock();
    const auto until = std::chrono::steady_clock::now() + kSpin;
    while (!done() && std::chrono::steady_clock::now() < until) {
    }
    if (done()) return true;
    lock.lock();
  }
  met_.wait(lock, [&] { return done() || (may_abort && aborted_); });
  return done();
}

void ThreadGroup::open(int rank, const Call& call) {
  std::unique_lock<std::mutex> lock(mutex_);
  if (aborted_) throw_aborted();
  if (present_ == 0) first_ = rank;
  const Call& first = calls_[static_cast<size_t>(first_)];
  CONVOY_CHECK(present_ == 0 || (std::strcmp(call.name, first.name) == 0 && call.bytes == first.bytes &&
                                 call.root == first.root),
               "rank ", rank, " calls ", call.name, " of ", call.bytes, " bytes, root ", call.root, "; rank ",
               first_, " calls ", first.name, " of ", first.bytes, " bytes, root ", first.root);
  calls_[static_cast<size_t>(rank)] = call;
  if (!meet(std::move(lock), true)) throw_aborted();
}

void ThreadGroup::close() {
  meet(std::unique_lock<std::mutex>(mutex_), false);
}

void ThreadGroup::send(int from, int to, const std::byte* data, int64_t bytes) {
  Message& m = message(from, to);
  std::unique_lock<std::mutex> lock(mutex_);
  if (aborted_) throw_aborted();
  m.data = data;
  m.bytes = bytes;
  m.stage = Stage::kOffered;
  m.changed.notify_all();
  m.changed.wait(lock, [&] { return m.stage == Stage::kCopied || (aborted_ && m.stage == Stage::kOffered); });
  const bool copied = m.stage == Stage::kCopied;
  m.stage = Stage::kEmpty;
  if (!copied) throw_aborted();
}

void ThreadGroup::recv(int from, int to, int64_t bytes, const Copy& copy) {
  Message& m = message(from, to);
  std::unique_lock<std::mutex> lock(mutex_);
  m.changed.wait(lock, [&] { return m.stage == Stage::kOffered || aborted_; });
  if (aborted_) throw_aborted();
  CONVOY_CHECK(m.bytes == bytes, "rank ", to, " wants ", bytes, " bytes of rank ", from, ", which sends ",
               m.bytes);
  m.stage = Stage::kTaken;
  lock.unlock();
  std::exception_ptr error;
  try {
    copy(m.data);
  } catch (...) {  // the sender waits
    error = std::current_exception();
  }
  lock.lock();
  m.stage = Stage::kCopied;
  m.changed.notify_all();
  if (error) std::rethrow_exception(error);
}

void ThreadGroup::abort() noexcept {
  const std::lock_guard<std::mutex> lock(mutex_);
  aborted_ = true;
  met_.notify_all();
  for (Message& m : messages_) m.changed.notify_all();
}

}  // namespace convoy
