// NCCL among threads of one process, for tests: the functions that src/nccl_library.h declares, on the emulator's
// streams. As a library of its own, found by CONVOY_NCCL as the real one is.
//
// Calls queue; a call that has all its partners' streams at its place is carried out, once, for all of them; until then
// it holds up its stream, not the host. Sums are in rank order (NCCL promises none). Ranks of a group whose calls
// differ break the device with a report, and so do operands that nobody wrote.
#include <atomic>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "../runtime/runtime.h"
#include "nccl_library.h"

namespace {

using namespace convoy::nccl;
using emulator::Guard;
using emulator::runtime_lock;

constexpr Result kInvalidArgument = static_cast<Result>(4), kInvalidUsage = static_cast<Result>(5),
                 kRemoteError = static_cast<Result>(6);

struct Call {
  const char* name;
  size_t count;  // elements; of one block in all_gather and reduce_scatter
  Type type;
  int root;  // or the partner
  const void* from;
  void* to;
  size_t bytes() const { return count * (type == kFloat32 ? 4 : 1); }
};

// Where the partners of one call meet.
struct Place {
  std::vector<std::optional<Call>> calls;  // one a rank
  int missing = 0;
  bool done = false;
};

struct Group;
struct Rank {
  std::shared_ptr<Group> group;
  int rank = 0, device = 0;
  cudaStream_t stream = nullptr;  // that it used last
  uint64_t collectives = 0;       // that its stream has come to
  bool aborted = false;
};
struct Group {
  int world = 0;
  std::vector<std::shared_ptr<Rank>> ranks;  // those that have come
  std::map<uint64_t, std::shared_ptr<Place>> collectives;
  std::map<std::pair<int, int>, std::deque<std::shared_ptr<Place>>> sends,
      recvs;  // from, to: without a partner
};

std::map<std::string, std::weak_ptr<Group>> groups;  // by unique id

thread_local int depth = 0;  // of ncclGroupStart
struct Batch {
  std::shared_ptr<Rank> rank;
  cudaStream_t stream;
  std::vector<Call> calls;
};
thread_local std::vector<Batch> batches;
thread_local std::vector<std::shared_ptr<Rank>> starting;

std::shared_ptr<Rank>& rank_of(Comm comm) {
  return *static_cast<std::shared_ptr<Rank>*>(comm);
}

bool is_message(const Call& call) {
  return std::strcmp(call.name, "message") == 0;
}

bool same(const Call& a, const Call& b) {
  return std::strcmp(a.name, b.name) == 0 && a.count == b.count && a.type == b.type && a.root == b.root;
}

void move_bytes(void* to, const void* from, size_t bytes) {
  if (to == from) return;
  std::memmove(to, from, bytes);
  emulator::copy_marks(to, from, bytes);
}

void report(const std::string& what) {
  emulator::break_device("emulator: NCCL: " + what);
}

void carry_out_message(const Place& place) {
  const Call *send = nullptr, *recv = nullptr;
  for (const auto& call : place.calls) {
    if (call && call->from != nullptr) send = &*call;
    if (call && call->to != nullptr) recv = &*call;
  }
  if (send->count != recv->count)
    return report(std::to_string(send->count) + " bytes sent, " + std::to_string(recv->count) + " wanted");
  move_bytes(recv->to, send->from, send->bytes());
}

void carry_out(const Place& place) {
  const size_t world = place.calls.size();
  const Call& first = *place.calls[0];
  for (const auto& call : place.calls)
    if (!same(*call, first))
      return report(std::string("ranks differ: ") + first.name + " of " + std::to_string(first.count) +
                    " and " + call->name + " of " + std::to_string(call->count));
  const std::string name = first.name;
  if (name == "broadcast") {
    const void* from = place.calls[static_cast<size_t>(first.root)]->from;
    for (const auto& call : place.calls) move_bytes(call->to, from, call->bytes());
    return;
  }
  if (name == "all_gather") {
    for (size_t giver = 0; giver < world; ++giver)
      for (const auto& call : place.calls)
        move_bytes(static_cast<char*>(call->to) + giver * call->bytes(), place.calls[giver]->from,
                   call->bytes());
    return;
  }
  std::vector<float> total(name == "reduce_scatter" ? first.count * world : first.count);
  for (size_t r = 0; r < world; ++r) {
    const float* x = static_cast<const float*>(place.calls[r]->from);
    if (emulator::unwritten_bytes(x, total.size() * 4) > 0)
      return report(name + " of elements that nobody wrote");
    for (size_t i = 0; i < total.size(); ++i) total[i] = r == 0 ? x[i] : total[i] + x[i];
  }
  for (size_t r = 0; r < world; ++r) {
    const Call& call = *place.calls[r];
    if (name == "reduce" && static_cast<int>(r) != call.root) continue;
    std::memcpy(call.to, total.data() + (name == "reduce_scatter" ? r * call.count : 0), call.bytes());
    emulator::mark_written(call.to, call.bytes());
  }
}

// One or several calls at their place in a stream. Replayed graphs come here again.
struct Step {
  std::shared_ptr<Rank> rank;
  std::vector<Call> calls;
  std::vector<std::shared_ptr<Place>> places;

  void join(const std::shared_ptr<Place>& place, const Call& call) {
    place->calls[static_cast<size_t>(rank->rank)] = call;
    places.push_back(place);
    if (--place->missing > 0) return;
    for (const auto& other : rank->group->ranks)
      if (other->aborted) return;  // its memory may be gone
    is_message(call) ? carry_out_message(*place) : carry_out(*place);
    place->done = true;
  }
  std::shared_ptr<Place> new_place(int partners) const {
    auto place = std::make_shared<Place>();
    place->calls.resize(static_cast<size_t>(rank->group->world));
    place->missing = partners;
    return place;
  }
  void arrive() {
    Group& group = *rank->group;
    for (const Call& call : calls) {
      if (!is_message(call)) {
        auto& place = group.collectives[rank->collectives];
        if (place == nullptr) place = new_place(group.world);
        join(place, call);
        if (place->missing == 0) group.collectives.erase(rank->collectives);
        ++rank->collectives;
        continue;
      }
      const bool sends = call.from != nullptr;
      const std::pair<int, int> pair =
          sends ? std::pair(rank->rank, call.root) : std::pair(call.root, rank->rank);
      auto& waiting = sends ? group.recvs[pair] : group.sends[pair];
      if (waiting.empty()) {
        const auto place = new_place(2);
        (sends ? group.sends[pair] : group.recvs[pair]).push_back(place);
        join(place, call);
      } else {
        const auto place = waiting.front();
        waiting.pop_front();
        join(place, call);
      }
    }
    emulator::wake();
  }
  bool all_done() const {
    for (const auto& place : places)
      if (!place->done) return false;
    return true;
  }
  bool ready() {
    if (rank->aborted) return true;
    if (places.empty()) arrive();
    if (all_done()) return true;
    const auto ranks = rank->group->ranks;
    for (const auto& other : ranks)
      if (other != rank && other->stream != nullptr && !all_done()) emulator::run_ready(other->stream);
    return all_done();
  }
};

Result flush() {
  Result result = kSuccess;
  for (Batch& batch : batches) {
    batch.rank->stream = batch.stream;
    auto step = std::make_shared<Step>(Step{batch.rank, std::move(batch.calls), {}});
    const cudaError_t error = emulator::submit(
        batch.stream, [step] { step->places.clear(); }, [step] { return step->ready(); });
    if (error != cudaSuccess) result = static_cast<Result>(1);
  }
  batches.clear();
  return result;
}

// Waits until all ranks of the group have come.
Result start_all() {
  Result result = kSuccess;
  for (const auto& rank : starting) {
    Group& group = *rank->group;
    for (const auto& other : group.ranks)
      if (other->device == rank->device || other->rank == rank->rank)
        result = kInvalidUsage;  // "Duplicate GPU"
    group.ranks.push_back(rank);
  }
  emulator::wake();
  if (result == kSuccess)
    for (const auto& rank : starting)
      emulator::wait_for(
          [&] { return rank->group->ranks.size() == static_cast<size_t>(rank->group->world); });
  starting.clear();
  return result;
}

Result queue(const Call& call, size_t from_bytes, size_t to_bytes, Comm comm, Stream stream) {
  const Guard guard(runtime_lock());
  if (comm == nullptr || rank_of(comm)->aborted) return kInvalidArgument;
  if ((from_bytes > 0 && !emulator::device_range(call.from, from_bytes)) ||
      (to_bytes > 0 && !emulator::device_range(call.to, to_bytes)))
    return kInvalidArgument;
  const auto on = static_cast<cudaStream_t>(stream);
  if (emulator::device_of(on) != rank_of(comm)->device) return kInvalidUsage;
  if (batches.empty() || batches.back().rank != rank_of(comm) || batches.back().stream != on)
    batches.push_back({rank_of(comm), on, {}});
  batches.back().calls.push_back(call);
  return depth > 0 ? kSuccess : flush();
}

}  // namespace

extern "C" {

Result ncclGetVersion(int* version) {
  *version = 22809;
  return kSuccess;
}
Result ncclGetUniqueId(UniqueId* id) {
  static std::atomic<int> next{0};
  *id = {};
  std::strcpy(id->internal, std::to_string(next++).c_str());
  return kSuccess;
}
Result ncclCommInitRankConfig(Comm* comm, int world, UniqueId id, int rank, Config* config) {
  const Guard guard(runtime_lock());
  if (world < 1 || rank < 0 || rank >= world || config->magic != Config().magic) return kInvalidArgument;
  auto group = groups[id.internal].lock();
  if (group == nullptr) groups[id.internal] = group = std::make_shared<Group>();
  group->world = world;
  auto own = std::make_shared<Rank>();
  own->group = group;
  own->rank = rank;
  own->device = emulator::current_device();
  starting.push_back(own);
  *comm = new std::shared_ptr<Rank>(own);
  return depth > 0 ? kSuccess : start_all();
}
Result ncclCommDestroy(Comm comm) {
  const Guard guard(runtime_lock());
  auto* rank = static_cast<std::shared_ptr<Rank>*>(comm);
  auto& ranks = (*rank)->group->ranks;
  for (size_t i = 0; i < ranks.size(); ++i)
    if (ranks[i] == *rank) {  // its place in the group: whether it was aborted
      ranks[i] = std::make_shared<Rank>();
      ranks[i]->aborted = (*rank)->aborted;
    }
  delete rank;
  return kSuccess;
}
Result ncclCommAbort(Comm comm) {
  const Guard guard(runtime_lock());
  rank_of(comm)->aborted = true;
  emulator::wake();
  return ncclCommDestroy(comm);
}
// As over a network: who lost a partner is told.
Result ncclCommGetAsyncError(Comm comm, Result* error) {
  const Guard guard(runtime_lock());
  *error = kSuccess;
  for (const auto& rank : rank_of(comm)->group->ranks)
    if (rank->aborted) *error = kRemoteError;
  return kSuccess;
}
const char* ncclGetErrorString(Result result) {
  if (result == kSuccess) return "no error";
  if (result == kInvalidArgument) return "invalid argument";
  if (result == kInvalidUsage) return "invalid usage";
  if (result == kRemoteError) return "remote process exited or there was a network error";
  return "unhandled cuda error";
}
const char* ncclGetLastError(Comm) {
  return "";
}
Result ncclGroupStart() {
  ++depth;
  return kSuccess;
}
Result ncclGroupEnd() {
  const Guard guard(runtime_lock());
  if (depth == 0) return kInvalidUsage;
  if (--depth > 0) return kSuccess;
  const Result started = start_all(), queued = flush();
  return started != kSuccess ? started : queued;
}

Result ncclAllReduce(const void* from, void* to, size_t count, Type type, Operation, Comm comm,
                     Stream stream) {
  return queue({"all_reduce", count, type, 0, from, to}, count * 4, count * 4, comm, stream);
}
Result ncclBroadcast(const void* from, void* to, size_t count, Type type, int root, Comm comm,
                     Stream stream) {
  const Call call{"broadcast", count, type, root, from, to};
  return queue(call, comm != nullptr && rank_of(comm)->rank == root ? call.bytes() : 0, call.bytes(), comm,
               stream);
}
Result ncclReduce(const void* from, void* to, size_t count, Type type, Operation, int root, Comm comm,
                  Stream stream) {
  const Call call{"reduce", count, type, root, from, to};
  return queue(call, call.bytes(), comm != nullptr && rank_of(comm)->rank == root ? call.bytes() : 0, comm,
               stream);
}
Result ncclAllGather(const void* from, void* to, size_t count, Type type, Comm comm, Stream stream) {
  const Call call{"all_gather", count, type, 0, from, to};
  const auto world = comm == nullptr ? 1 : static_cast<size_t>(rank_of(comm)->group->world);
  return queue(call, call.bytes(), world * call.bytes(), comm, stream);
}
Result ncclReduceScatter(const void* from, void* to, size_t count, Type type, Operation, Comm comm,
                         Stream stream) {
  const Call call{"reduce_scatter", count, type, 0, from, to};
  const auto world = comm == nullptr ? 1 : static_cast<size_t>(rank_of(comm)->group->world);
  return queue(call, world * call.bytes(), call.bytes(), comm, stream);
}
Result ncclSend(const void* from, size_t count, Type type, int to, Comm comm, Stream stream) {
  return queue({"message", count, type, to, from, nullptr}, count, 0, comm, stream);
}
Result ncclRecv(void* to, size_t count, Type type, int from, Comm comm, Stream stream) {
  return queue({"message", count, type, from, nullptr, to}, 0, count, comm, stream);
}

Result ncclMemAlloc(void** memory, size_t bytes) {
  return cudaMalloc(memory, bytes) == cudaSuccess ? kSuccess : static_cast<Result>(1);
}
Result ncclMemFree(void* memory) {
  return cudaFree(memory) == cudaSuccess ? kSuccess : static_cast<Result>(1);
}
Result ncclCommRegister(Comm comm, void* memory, size_t bytes, void** handle) {
  const Guard guard(runtime_lock());
  if (comm == nullptr || !emulator::device_range(memory, bytes)) return kInvalidArgument;
  *handle = memory;
  return kSuccess;
}
Result ncclCommDeregister(Comm, void* handle) {
  return handle != nullptr ? kSuccess : kInvalidArgument;
}

}  // extern "C"
