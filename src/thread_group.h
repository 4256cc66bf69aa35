// Where ranks that are threads meet. A collective opens with a meeting to which every rank brings
// the memory that the others may touch, and is then carried out to its end: only a meeting that opens one
// throws, so that nobody unwinds, and frees memory, while others read it.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "convoy/comm.h"

namespace convoy {

class ThreadGroup {
 public:
  // What all ranks must agree on, and what this one brings.
  struct Call {
    const char* name;
    int64_t bytes;
    int root;
    const std::byte* from;
    std::byte* to;
  };

  explicit ThreadGroup(int world);

  int world() const { return static_cast<int>(calls_.size()); }

  // Returns when all ranks have opened the same call. Throws Error when this one differs, Aborted after abort().
  void open(int rank, const Call& call);
  // Returns when all ranks are here; what they brought is theirs again after the last close().
  void close();
  // What rank r brought; between open() and the last close().
  const std::byte* from(int r) const { return calls_[static_cast<size_t>(r)].from; }
  std::byte* to(int r) const { return calls_[static_cast<size_t>(r)].to; }

  // A message from one rank to another, which the receiver copies once both are here. send() returns after that.
  using Copy = std::function<void(const std::byte* from)>;
  void send(int from, int to, const std::byte* data, int64_t bytes);
  void recv(int from, int to, int64_t bytes, const Copy& copy);

  void abort() noexcept;

 private:
  enum class Stage : uint8_t { kEmpty, kOffered, kTaken, kCopied };
  struct Message {
    Stage stage = Stage::kEmpty;
    const std::byte* data = nullptr;
    int64_t bytes = 0;
    std::condition_variable changed;
  };

  // `lock` holds mutex_. Gives false when the group has aborted before all ranks came.
  bool meet(std::unique_lock<std::mutex> lock, bool may_abort);
  Message& message(int from, int to) {
    return messages_[static_cast<size_t>(from) * static_cast<size_t>(world()) + static_cast<size_t>(to)];
  }

  std::mutex mutex_;
  std::condition_variable met_;
  std::vector<Call> calls_;  // one a rank
  int first_ = 0;            // who came first to this meeting
  int present_ = 0;          // how many have come
  std::atomic<uint64_t> meetings_{0};
  bool aborted_ = false;
  bool spins_;  // a core for every rank: waits a little before it sleeps
  std::vector<Message> messages_;
};

}  // namespace convoy
