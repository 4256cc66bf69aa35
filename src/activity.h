// What a worker is doing at this moment: noted by its training loop and its two queues, read by its watchdog
// (watchdog.h).
//
// A note is a few relaxed stores, so that every operation and transfer can make one. Nothing orders them: the reader may
// see a name with the pass of the note before.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>

#include "trace.h"

namespace convoy {

// Names outlive the run; null: nothing. A lane is written by one thread.
class Activity {
 public:
  // The loop begins another kind of work: a training step, an evaluation, a save.
  void phase(const char* name, int64_t step) noexcept {
    phase_.store(name, std::memory_order_relaxed);
    step_.store(step, std::memory_order_relaxed);
    note(Lane::kCompute, nullptr);
  }
  // The lane begins an operation or a transfer; null: it has nothing to do.
  void note(Lane lane, const char* name, int32_t pass = -1) noexcept {
    Note& n = notes_[static_cast<size_t>(lane)];
    n.pass.store(pass, std::memory_order_relaxed);
    n.name.store(name, std::memory_order_relaxed);
    n.count.store(n.count.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }

  const char* phase() const { return phase_.load(std::memory_order_relaxed); }
  int64_t step() const { return step_.load(std::memory_order_relaxed); }
  const char* name(Lane lane) const { return of(lane).name.load(std::memory_order_relaxed); }
  int32_t pass(Lane lane) const { return of(lane).pass.load(std::memory_order_relaxed); }
  uint64_t count(Lane lane) const { return of(lane).count.load(std::memory_order_relaxed); }  // of notes

 private:
  struct alignas(64) Note {  // two threads write: a cache line each
    std::atomic<const char*> name{nullptr};
    std::atomic<int32_t> pass{-1};
    std::atomic<uint64_t> count{0};
  };
  const Note& of(Lane lane) const { return notes_[static_cast<size_t>(lane)]; }

  std::array<Note, kLanes> notes_;
  std::atomic<const char*> phase_{nullptr};
  std::atomic<int64_t> step_{0};
};

// Null: nothing is noted.
inline void note(Activity* activity, Lane lane, const char* name, int32_t pass = -1) noexcept {
  if (activity != nullptr) activity->note(lane, name, pass);
}

}  // namespace convoy
