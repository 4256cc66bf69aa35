// What every communicator must do. A body takes one rank's communicator and an Exec, and checks what this rank
// gets: it runs on threads of one program and on ranks of several, on the memory of CPUs and GPUs alike. Everybody's
// inputs follow from a formula, so that each rank knows what to expect; sums must have the bits of a sum in rank order.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "convoy/comm.h"

namespace convoy::comm_tests {

// Element i of rank r's input: floats of several magnitudes, so that another order of summation shows.
inline uint32_t bits(int rank, int64_t i, int salt) {
  uint64_t h = static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15u + static_cast<uint64_t>(rank * 1021 + salt);
  h = (h ^ (h >> 31)) * 0xBF58476D1CE4E5B9u;
  return static_cast<uint32_t>(h >> 32);
}
template <class T>
T value(int rank, int64_t i, int salt) {
  return static_cast<T>(bits(rank, i, salt));
}
template <>
inline float value<float>(int rank, int64_t i, int salt) {
  const uint32_t b = bits(rank, i, salt);
  return (static_cast<float>(b >> 8) * 0x1p-23f - 1.0f) * static_cast<float>(1 << (b & 15));
}
inline float sum_in_rank_order(int world, int64_t i, int salt) {
  float sum = value<float>(0, i, salt);
  for (int r = 1; r < world; ++r) sum += value<float>(r, i, salt);
  return sum;
}

template <class T>
std::vector<T> values(int rank, int64_t first, int64_t count, int salt) {
  std::vector<T> all(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) all[static_cast<size_t>(i)] = value<T>(rank, first + i, salt);
  return all;
}

// got[i] has the bits of want(i).
template <class T, class Want>
void expect_all(const std::vector<T>& got, const Want& want, const std::string& what) {
  int64_t wrong = 0;
  std::string first;
  for (size_t i = 0; i < got.size(); ++i) {
    const T w = want(static_cast<int64_t>(i));
    if (std::memcmp(&got[i], &w, sizeof(T)) != 0 && wrong++ == 0)
      first = text("[", i, "] = ", +got[i], ", want ", +w);
  }
  EXPECT_EQ(wrong, 0) << what << first;
}

inline void synchronize(Exec& exec) {
  exec.backend->synchronize(exec);
}

// Memory of the Exec's backend, which the host writes once, before, and reads after the transfers that use it.
template <class T>
class Buffer {
 public:
  Buffer(Exec& exec, const std::vector<T>& values) : Buffer(exec, static_cast<int64_t>(values.size())) {
    exec_.backend->copy(exec_, data_, values.data(), bytes());
  }
  Buffer(Exec& exec, int64_t count)
      : exec_(exec), count_(count), data_(static_cast<T*>(exec.backend->alloc(bytes()))) {}
  ~Buffer() { exec_.backend->release(data_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  std::vector<T> read() {
    std::vector<T> values(static_cast<size_t>(count_));
    synchronize(exec_);
    exec_.backend->copy(exec_, values.data(), data_, bytes());
    synchronize(exec_);
    return values;
  }

 private:
  int64_t bytes() const { return count_ * static_cast<int64_t>(sizeof(T)); }

  Exec exec_;
  int64_t count_;
  T* data_;
};

inline int64_t rows_before(const Blocks& blocks, int rank) {
  int64_t rows = 0;
  for (int r = 0; r < rank; ++r) rows += blocks[static_cast<size_t>(r)];
  return rows;
}
// Who has row `row`.
inline int owner_of(const Blocks& blocks, int64_t row) {
  int r = 0;
  for (int64_t end = blocks[0]; end <= row; end += blocks[static_cast<size_t>(r)]) ++r;
  return r;
}

// Equal, growing, none for the first rank, everything at the last, and nothing at all.
inline std::vector<Blocks> block_lists(int world) {
  const auto places = static_cast<size_t>(world);
  Blocks equal(places, 5), growing(places), one(places, 0), none(places, 0);
  for (int r = 0; r < world; ++r) growing[static_cast<size_t>(r)] = 3 * r;
  one.back() = 11;
  return {equal, growing, one, none};
}

inline void all_reduce(Communicator& comm, Exec& exec, int64_t count, int salt) {
  Buffer<float> x(exec, values<float>(comm.rank(), 0, count, salt));
  comm.all_reduce(exec, {Traffic::kGradients, "all_reduce"}, View(x.data(), {count}));
  expect_all(
      x.read(), [&](int64_t i) { return sum_in_rank_order(comm.world(), i, salt); },
      text("all_reduce of ", count, " on ", comm.world(), " ranks "));
}

template <class T>
void all_gather(Communicator& comm, Exec& exec, const Blocks& blocks, int64_t columns, bool in_place,
                int salt) {
  const int64_t first = rows_before(blocks, comm.rank()) * columns,
                own = blocks[static_cast<size_t>(comm.rank())] * columns;
  const int64_t rows = rows_before(blocks, comm.world());
  const auto given_values = values<T>(comm.rank(), first, own, salt);
  Buffer<T> mine(exec, given_values), everyone(exec, rows * columns);
  if (in_place)
    exec.backend->copy(exec, everyone.data() + first, given_values.data(),
                       own * static_cast<int64_t>(sizeof(T)));
  const View all(everyone.data(), {rows, columns});
  const In given = in_place ? In(all.slice_rows(first / columns, own / columns))
                            : In(mine.data(), Shape{own / columns, columns});
  comm.all_gather(exec, {Traffic::kRows, "all_gather"}, given, all, blocks);
  expect_all(
      everyone.read(), [&](int64_t i) { return value<T>(owner_of(blocks, i / columns), i, salt); },
      text("all_gather of ", rows, " rows", in_place ? " in place " : " "));
}

inline void reduce_scatter(Communicator& comm, Exec& exec, const Blocks& blocks, int64_t columns,
                           bool in_place, int salt) {
  const int64_t first = rows_before(blocks, comm.rank()) * columns,
                own = blocks[static_cast<size_t>(comm.rank())] * columns;
  const int64_t rows = rows_before(blocks, comm.world());
  Buffer<float> given(exec, values<float>(comm.rank(), 0, rows * columns, salt)), got(exec, own);
  const View all(given.data(), {rows, columns});
  const View mine = in_place ? all.slice_rows(first / columns, own / columns)
                             : View(got.data(), Shape{own / columns, columns});
  comm.reduce_scatter(exec, {Traffic::kRows, "reduce_scatter"}, all, mine, blocks);
  const std::vector<float> everyone = given.read();
  const std::vector<float> sums =
      in_place ? std::vector<float>(everyone.begin() + first, everyone.begin() + first + own) : got.read();
  expect_all(
      sums, [&](int64_t i) { return sum_in_rank_order(comm.world(), first + i, salt); },
      text("reduce_scatter of ", rows, " rows", in_place ? " in place " : " "));
  const int64_t last = in_place ? first + own : first;  // the rest is read only
  for (int64_t i = 0; i < rows * columns; ++i)
    if (i < first || i >= last) {
      if (everyone[static_cast<size_t>(i)] != value<float>(comm.rank(), i, salt)) {
        ADD_FAILURE() << "reduce_scatter wrote to its input at " << i;
        break;
      }
    }
}

template <class T>
void broadcast(Communicator& comm, Exec& exec, int64_t count, int root, int salt) {
  Buffer<T> x(exec, values<T>(comm.rank(), 0, count, salt));
  comm.broadcast(exec, {Traffic::kRows, "broadcast"}, View(x.data(), {count}), root);
  expect_all(
      x.read(), [&](int64_t i) { return value<T>(root, i, salt); },
      text("broadcast of ", count, " from ", root, " "));
}

inline void reduce(Communicator& comm, Exec& exec, int64_t count, int root, bool in_place, int salt) {
  Buffer<float> mine(exec, values<float>(comm.rank(), 0, count, salt));
  const bool is_root = comm.rank() == root;
  Buffer<float> other(exec, is_root ? count : 0);
  Buffer<float>& sum = in_place ? mine : other;
  comm.reduce(exec, {Traffic::kRows, "reduce"}, In(mine.data(), Shape{count}),
              is_root ? View(sum.data(), {count}) : View(), root);
  const std::string what = text("reduce of ", count, " to ", root, in_place ? " in place " : " ");
  if (is_root)
    expect_all(
        sum.read(), [&](int64_t i) { return sum_in_rank_order(comm.world(), i, salt); }, what);
  if (!is_root || !in_place)
    expect_all(
        mine.read(), [&](int64_t i) { return value<float>(comm.rank(), i, salt); },
        what + "wrote to its input ");
}

// Everyone gives its numbers to the next one. Rank 0 receives first: all others can send.
template <class T>
void ring(Communicator& comm, Exec& exec, int64_t count, int salt) {
  const int world = comm.world(), next = (comm.rank() + 1) % world,
            before = (comm.rank() + world - 1) % world;
  if (world == 1) return;
  Buffer<T> mine(exec, values<T>(comm.rank(), 0, count, salt)), got(exec, count);
  const Label label{Traffic::kOther, "ring"};
  for (const bool sends : {comm.rank() != 0, comm.rank() == 0}) {
    if (sends)
      comm.send(exec, label, In(mine.data(), Shape{count}), next);
    else
      comm.recv(exec, label, View(got.data(), {count}), before);
  }
  expect_all(
      got.read(), [&](int64_t i) { return value<T>(before, i, salt); }, text("ring of ", count, " "));
}

// ---- The bodies.

inline void all_reduces(Communicator& comm, Exec& exec) {
  for (const int64_t count : {0, 1, 2, 7, 1000, 4099, 40000}) all_reduce(comm, exec, count, 1);
}
inline void all_gathers(Communicator& comm, Exec& exec) {
  for (const Blocks& blocks : block_lists(comm.world()))
    for (const bool in_place : {false, true})
      for (const int64_t columns : {1, 3, 500}) {
        all_gather<float>(comm, exec, blocks, columns, in_place, 2);
        all_gather<int32_t>(comm, exec, blocks, columns, in_place, 3);
        all_gather<uint8_t>(comm, exec, blocks, columns, in_place, 4);
      }
}
inline void reduce_scatters(Communicator& comm, Exec& exec) {
  for (const Blocks& blocks : block_lists(comm.world()))
    for (const bool in_place : {false, true})
      for (const int64_t columns : {1, 3, 500}) reduce_scatter(comm, exec, blocks, columns, in_place, 5);
}
inline void broadcasts(Communicator& comm, Exec& exec) {
  for (int root = 0; root < comm.world(); ++root)
    for (const int64_t count : {0, 1, 1000, 5001}) {
      broadcast<float>(comm, exec, count, root, 6);
      broadcast<int32_t>(comm, exec, count, root, 7);
      broadcast<uint8_t>(comm, exec, count, root, 8);
    }
}
inline void reduces(Communicator& comm, Exec& exec) {
  for (int root = 0; root < comm.world(); ++root)
    for (const int64_t count : {0, 1, 1000, 5001})
      for (const bool in_place : {false, true}) reduce(comm, exec, count, root, in_place, 9);
}
inline void rings(Communicator& comm, Exec& exec) {
  for (const int64_t count : {0, 1, 1000, 5001}) {
    ring<float>(comm, exec, count, 10);
    ring<uint8_t>(comm, exec, count, 11);
  }
}
inline void big(Communicator& comm, Exec& exec) {
  constexpr int64_t kCount = 1 << 20;
  all_reduce(comm, exec, kCount + 3, 12);
  Blocks blocks;
  for (int r = 0; r < comm.world(); ++r) blocks.push_back(part_of(1025, r, comm.world()).count);
  all_gather<float>(comm, exec, blocks, 1024, false, 13);
  reduce_scatter(comm, exec, blocks, 128, false, 14);
  broadcast<float>(comm, exec, kCount / 8, comm.world() - 1, 15);
  reduce(comm, exec, kCount / 8, 0, false, 16);
  ring<float>(comm, exec, kCount / 8, 17);
}

// Nobody leaves a barrier before the last one has come (clocks of one machine).
inline void barriers(Communicator& comm, Exec& exec) {
  using Clock = std::chrono::steady_clock;
  for (int late = 0; late < comm.world(); ++late) {
    if (comm.rank() == late) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    const Clock::rep came = Clock::now().time_since_epoch().count();
    comm.barrier(exec);
    synchronize(exec);
    const Clock::rep left = Clock::now().time_since_epoch().count();
    Buffer<Clock::rep> mine(exec, std::vector<Clock::rep>{came}), all(exec, comm.world());
    const Blocks one(static_cast<size_t>(comm.world()), 1);
    comm.all_gather(exec, {}, In(reinterpret_cast<const uint8_t*>(mine.data()), Shape{1, sizeof(came)}),
                    View(reinterpret_cast<uint8_t*>(all.data()), {comm.world(), sizeof(came)}), one);
    for (const Clock::rep other : all.read()) EXPECT_GE(left, other);
  }
}

// The payloads that comm.h promises, each under its own kind.
inline void bytes(Communicator& comm, Exec& exec) {
  const int world = comm.world(), rank = comm.rank();
  const auto spent = [&](Traffic traffic, const auto& transfer) {
    const int64_t before = comm.bytes(traffic);
    transfer();
    return comm.bytes(traffic) - before;
  };
  const int64_t part = part_of(1000, rank, world).count;
  EXPECT_EQ(spent(Traffic::kGradients, [&] { all_reduce(comm, exec, 1000, 1); }), 2 * (1000 - part) * 4);
  const Blocks blocks = block_lists(world)[1];
  const int64_t others = rows_before(blocks, world) - 3 * rank;
  EXPECT_EQ(spent(Traffic::kRows, [&] { all_gather<uint8_t>(comm, exec, blocks, 7, false, 1); }), others * 7);
  EXPECT_EQ(spent(Traffic::kRows, [&] { reduce_scatter(comm, exec, blocks, 7, false, 1); }), others * 28);
  const int root = world - 1;
  const int64_t given = rank == root ? 0 : 4000;
  EXPECT_EQ(spent(Traffic::kRows, [&] { broadcast<int32_t>(comm, exec, 1000, root, 1); }), given);
  EXPECT_EQ(spent(Traffic::kRows, [&] { reduce(comm, exec, 1000, root, false, 1); }), given);
  EXPECT_EQ(spent(Traffic::kOther, [&] { ring<float>(comm, exec, 1000, 1); }), world == 1 ? 0 : 8000);
  EXPECT_EQ(comm.bytes(Traffic::kColumns), 0);
}

// Memory that the group gives: of another size on each rank, and used at another place of it.
inline void own_memory(Communicator& comm, Exec& exec) {
  const Backend& backend = *exec.backend;
  constexpr int64_t kCount = 40000;
  for (int round = 0; round < 2; ++round) {
    const int64_t first = 16 * (comm.rank() + round);
    const auto memory = comm.memory(backend, 4 * (first + kCount)), other = comm.memory(backend, 4);
    auto* const x = static_cast<float*>(memory.get()) + first;
    const auto given = values<float>(comm.rank(), 0, kCount, round);
    backend.copy(exec, x, given.data(), 4 * kCount);
    comm.all_reduce(exec, {}, View(x, {kCount}));
    comm.all_reduce(exec, {}, View(x, {100}));  // sums of sums
    comm.broadcast(exec, {}, View(x + 100, {50}), comm.world() - 1);
    std::vector<float> sums(kCount);
    synchronize(exec);
    backend.copy(exec, sums.data(), x, 4 * kCount);
    synchronize(exec);
    const auto want = [&](int64_t i) {
      const float sum = sum_in_rank_order(comm.world(), i, round);
      float again = sum;
      for (int r = 1; i < 100 && r < comm.world(); ++r) again += sum;
      return again;
    };
    expect_all(sums, want, text("memory of the group, round ", round, " "));
    comm.barrier(exec);  // the others may be reading
    synchronize(exec);
  }
}

// A hundred schedules: collectives drawn by chance, ranks that come at different times.
inline void schedules(Communicator& comm, Exec& exec) {
  for (int schedule = 0; schedule < 100; ++schedule) {
    std::mt19937 all(static_cast<unsigned>(schedule));  // the same numbers on every rank
    std::mt19937 own(static_cast<unsigned>(1000 * (comm.rank() + 1) + schedule));
    for (int i = 0; i < 5; ++i) {
      const auto what = all() % 6;
      const int64_t count = all() % 3000;
      const int root = static_cast<int>(all()) & 0xffff, salt = schedule;
      const Blocks blocks = block_lists(comm.world())[all() % 4];
      if (own() % 2 == 0) std::this_thread::sleep_for(std::chrono::microseconds(own() % 300));
      if (what == 0) all_reduce(comm, exec, count, salt);
      if (what == 1) all_gather<float>(comm, exec, blocks, 1 + count % 40, false, salt);
      if (what == 2) reduce_scatter(comm, exec, blocks, 1 + count % 40, false, salt);
      if (what == 3) broadcast<float>(comm, exec, count, root % comm.world(), salt);
      if (what == 4) reduce(comm, exec, count, root % comm.world(), false, salt);
      if (what == 5) ring<float>(comm, exec, count, salt);
    }
  }
}

struct Case {
  const char* name;
  void (*body)(Communicator&, Exec&);
};
inline const std::vector<Case>& cases() {
  static const std::vector<Case> all{{"AllReduce", all_reduces},
                                     {"OwnMemory", own_memory},
                                     {"AllGather", all_gathers},
                                     {"ReduceScatter", reduce_scatters},
                                     {"Broadcast", broadcasts},
                                     {"Reduce", reduces},
                                     {"SendRecv", rings},
                                     {"Barrier", barriers},
                                     {"Bytes", bytes},
                                     {"Schedules", schedules},
                                     {"Big", big}};
  return all;
}

// Transfers of two groups of the same ranks, under way at once on two queues.
inline void two_in_flight(Communicator& a, Exec& on_a, Communicator& b, Exec& on_b) {
  const Blocks blocks = block_lists(a.world())[1];
  const int64_t first = rows_before(blocks, a.rank()), own = blocks[static_cast<size_t>(a.rank())],
                rows = rows_before(blocks, a.world()), count = 30000, columns = 300;
  for (int round = 0; round < 10; ++round) {
    const auto given = values<float>(a.rank(), 0, count, round);
    Buffer<float> x(on_a, given), y(on_b, given);
    const auto rows_of_mine = values<float>(b.rank(), first * columns, own * columns, round);
    Buffer<float> mine_a(on_a, rows_of_mine), mine_b(on_b, rows_of_mine), z(on_a, rows * columns),
        everyone(on_b, rows * columns);
    a.all_reduce(on_a, {}, View(x.data(), {count}));
    b.all_gather(on_b, {}, In(mine_b.data(), Shape{own, columns}), View(everyone.data(), {rows, columns}),
                 blocks);
    b.all_reduce(on_b, {}, View(y.data(), {count}));
    a.all_gather(on_a, {}, In(mine_a.data(), Shape{own, columns}), View(z.data(), {rows, columns}), blocks);
    const auto sum = [&](int64_t i) { return sum_in_rank_order(a.world(), i, round); };
    const auto row = [&](int64_t i) { return value<float>(owner_of(blocks, i / columns), i, round); };
    expect_all(x.read(), sum, "a.all_reduce ");
    expect_all(y.read(), sum, "b.all_reduce ");
    expect_all(everyone.read(), row, "b.all_gather ");
    expect_all(z.read(), row, "a.all_gather ");
  }
}

}  // namespace convoy::comm_tests
