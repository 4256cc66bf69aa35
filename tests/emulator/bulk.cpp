// cp.async.bulk.tensor and cp.reduce.async.bulk.tensor (PTX ISA, "Data Movement and Conversion Instructions: Tensor
// copy"), without multicast.
#include "bulk.h"

#include <cstring>
#include <deque>
#include <limits>

#include "half_types.h"
#include "machine.h"

namespace emulator {
namespace {

constexpr size_t kChunk = 16;  // what swizzling moves about

struct Store {
  TensorMap map;
  BulkBox box;
  const void* from;
  size_t bytes;
  bool add;
  const void* code;
};
struct Stores {
  std::vector<Store> open;
  std::deque<std::vector<Store>> groups;
};
Stores stores[kMaxThreads];

size_t row_elements(const TensorMap& m) {
  return m.im2col ? m.channels : m.box[0];
}
size_t row_bytes(const TensorMap& m) {
  return row_elements(m) * m.element_bytes;
}

// f(row, in): the rows of the box in the order of shared memory, with the address of their first element; `in`
// is false where the whole row lies outside of the tensor.
template <class F>
void each_row(const TensorMap& m, const BulkBox& box, F f) {
  const int64_t first = int64_t{box.at[0]} * m.element_bytes;
  if (m.im2col) {
    int64_t at[3] = {box.at[1], box.at[2], box.at[3]};  // w, h, n of the filter's origin
    for (unsigned pixel = 0; pixel < m.pixels; ++pixel) {
      const int64_t w = at[0] + box.offsets[0], h = at[1] + box.offsets[1];
      const bool in =
          w >= 0 && w < m.extent(1) && h >= 0 && h < m.extent(2) && at[2] >= 0 && at[2] < m.extent(3);
      f(in, first + w * static_cast<int64_t>(m.strides[0]) + h * static_cast<int64_t>(m.strides[1]) +
                at[2] * static_cast<int64_t>(m.strides[2]));
      for (int i = 0;; ++i) {
        at[i] += m.steps[1 + i];
        if (i == 2 || at[i] <= m.extent(1 + i) - 1 + m.upper[i]) break;
        at[i] = m.lower[i];
      }
    }
    return;
  }
  unsigned counts[5] = {1, 1, 1, 1, 1}, at[5] = {};
  for (int i = 1; i < m.rank; ++i) counts[i] = (m.box[i] + m.steps[i] - 1u) / m.steps[i];
  for (;;) {
    bool in = true;
    int64_t address = first;
    for (int i = 1; i < m.rank; ++i) {
      const int64_t x = int64_t{box.at[i]} + int64_t{at[i]} * m.steps[i];
      in &= x >= 0 && x < m.extent(i);
      address += x * static_cast<int64_t>(m.strides[i - 1]);
    }
    f(in, address);
    int i = 1;
    while (i < m.rank && ++at[i] == counts[i]) at[i++] = 0;
    if (i >= m.rank) break;
  }
}

size_t box_bytes(const TensorMap& m) {
  size_t rows = m.im2col ? m.pixels : 1;
  for (int i = 1; i < m.rank && !m.im2col; ++i) rows *= (m.box[i] + m.steps[i] - 1u) / m.steps[i];
  return rows * row_bytes(m);
}

// The bytes of a row that lie inside: [first, last).
void inside(const TensorMap& m, const BulkBox& box, size_t* first, size_t* last) {
  const int64_t bytes = static_cast<int64_t>(row_bytes(m)), at = int64_t{box.at[0]} * m.element_bytes;
  const int64_t end = m.extent(0) * m.element_bytes - at;
  *first = static_cast<size_t>(at >= 0 ? 0 : -at < bytes ? -at : bytes);
  *last = static_cast<size_t>(end <= 0 ? 0 : end < bytes ? end : bytes);
  if (*last < *first) *last = *first;
}

// Where the chunk at this place of an unswizzled box lies: bits 4 and on are mixed with bits 7 and on of the address.
char* swizzled(char* at, unsigned span) {
  if (span == 0) return at;
  const size_t offset = shared_address(at);
  return at + static_cast<std::ptrdiff_t>((offset ^ ((offset >> 7 & (span / kChunk - 1)) << 4)) - offset);
}

void fill(const TensorMap& m, char* to, size_t bytes) {
  std::memset(to, 0, bytes);
  if (!m.nan_fill) return;
  // Every float's NaN; which one the device writes is not documented.
  std::memset(to, 0xff, bytes);
}

template <class T, class Add>
void add_elements(char* to, const char* from, size_t bytes, Add add) {
  for (size_t i = 0; i < bytes; i += sizeof(T)) {
    T a, b;
    std::memcpy(&a, to + i, sizeof(T));
    std::memcpy(&b, from + i, sizeof(T));
    a = add(a, b);
    std::memcpy(to + i, &a, sizeof(T));
  }
}
template <class Format>
uint16_t add_small(uint16_t a, uint16_t b) {
  return Format::round(add_to_odd(Format::value(a), Format::value(b)));
}
void add_into(const TensorMap& m, char* to, const char* from, size_t bytes) {
  switch (m.element) {
    case Element::kF32:
      return add_elements<float>(to, from, bytes, [](float a, float b) { return a + b; });
    case Element::kF64:
      return add_elements<double>(to, from, bytes, [](double a, double b) { return a + b; });
    case Element::kF16:
      return add_elements<uint16_t>(to, from, bytes, add_small<Small<5, 10>>);
    case Element::kBF16:
      return add_elements<uint16_t>(to, from, bytes, add_small<Small<8, 7>>);
    case Element::kSigned:
    case Element::kUnsigned:
      break;
  }
  if (m.element_bytes == 4)
    return add_elements<uint32_t>(to, from, bytes, [](uint32_t a, uint32_t b) { return a + b; });
  add_elements<uint64_t>(to, from, bytes, [](uint64_t a, uint64_t b) { return a + b; });
}

// What loads and stores ask alike; returns the map.
const TensorMap& checked(const char* what, const void* map, const void* shared, const BulkBox& box,
                         const void* code) {
  const std::string where =
      std::string(what) + " by " + name_of(*machine.current) + " at " + name_of_code(code);
  tensor_map_check(map, code);
  const TensorMap& m = *tensor_map_at(map);
  if (m.rank != box.rank) {
    fault(where + ": " + std::to_string(box.rank) + " coordinates for a tensor map of rank " +
          std::to_string(m.rank));
  }
  if (m.im2col != box.im2col) fault(where + ": tiled and im2col tensor maps are not the same");
  if (!shared_holds(shared)) fault(where + ": not an address of shared memory");
  // 128 bytes (PTX ISA); a swizzle's pattern begins where its rows repeat, which wgmma's descriptors take for granted.
  const size_t alignment = m.swizzle_bytes == 0 ? 128 : 8u * m.swizzle_bytes;
  if (shared_address(shared) % alignment) {
    fault(where + ": misaligned, " + shared_name(shared_address(shared), 1) + " is not a multiple of " +
          std::to_string(alignment) + " bytes");
  }
  if (row_bytes(m) % kChunk) fault(where + ": rows of " + std::to_string(row_bytes(m)) + " bytes");
  if (m.swizzle_bytes && row_bytes(m) != m.swizzle_bytes) {
    fault(where + ": rows of " + std::to_string(row_bytes(m)) + " bytes in a swizzle of " +
          std::to_string(m.swizzle_bytes) + ", whose layout the emulator does not know");
  }
  if (m.im2col) {
    for (int i = 0; i < 2; ++i) {
      if (box.offsets[i] < 0 || box.offsets[i] > 255) fault(where + ": im2col offsets are 0 to 255");
      const int at = box.at[1 + i];
      if (at < m.lower[i] || at > m.extent(1 + i) - 1 + m.upper[i]) {
        fault(where + ": the first pixel lies outside of the map's bounding box");
      }
    }
  }
  return m;
}

void move(const Store& s) {
  size_t first, last;
  inside(s.map, s.box, &first, &last);
  char* at = static_cast<char*>(const_cast<void*>(s.from));
  each_row(s.map, s.box, [&](bool in, int64_t address) {
    for (size_t chunk = 0; chunk < row_bytes(s.map); chunk += kChunk, at += kChunk) {
      const size_t begin = chunk < first ? first : chunk, end = chunk + kChunk < last ? chunk + kChunk : last;
      if (!in || begin >= end) continue;
      const char* source = swizzled(at, s.map.swizzle_bytes) + (begin - chunk);
      char* target = s.map.memory + address + begin;
      device_write(target, end - begin, s.code);
      if (s.add) {
        add_into(s.map, target, source, end - begin);
      } else {
        std::memcpy(target, source, end - begin);
      }
    }
  });
}

}  // namespace

void tensor_map_check(const void* map, const void* code) {
  const char* wrong = reinterpret_cast<uintptr_t>(map) % 64 ? ": a misaligned tensor map"
                      : !tensor_map_at(map)                 ? ": not a tensor map that the driver made"
                                                            : nullptr;
  if (wrong) fault(name_of(*machine.current) + " at " + name_of_code(code) + wrong);
}

void bulk_move(const BulkLoad& load) {
  const TensorMap& m = load.map;
  size_t first, last;
  inside(m, load.box, &first, &last);
  char* at = static_cast<char*>(load.to);
  each_row(m, load.box, [&](bool in, int64_t address) {
    for (size_t chunk = 0; chunk < row_bytes(m); chunk += kChunk, at += kChunk) {
      const size_t begin = chunk < first ? first : chunk, end = chunk + kChunk < last ? chunk + kChunk : last;
      char* target = swizzled(at, m.swizzle_bytes);
      if (!in || begin != chunk || end != chunk + kChunk) fill(m, target, kChunk);
      if (in && begin < end) std::memcpy(target + (begin - chunk), m.memory + address + begin, end - begin);
    }
  });
}

void bulk_load(void* to, const void* map, void* barrier, const BulkBox& box, const void* code) {
  BulkLoad load{checked("bulk load", map, to, box, code), box, to, 0, 0, code};
  load.bytes = box_bytes(load.map);
  size_t first, last;
  inside(load.map, box, &first, &last);
  each_row(load.map, box, [&](bool in, int64_t address) {
    if (!in || first >= last) return;
    const char* source = load.map.memory + address + first;
    if (!device_holds(source))
      fault("bulk load at " + name_of_code(code) + ": the tensor is not in device memory");
    device_read(source, last - first, code);
  });
  const Async by = mbarrier_claim(barrier, code);
  load.time = by.time;
  async_write_begin(*machine.current, to, load.bytes, by);
  mbarrier_copy(barrier, load);
}

void bulk_store(const void* map, const void* from, const BulkBox& box, bool add, const void* code) {
  Thread& me = *machine.current;
  const Store store{
      checked("bulk store", map, from, box, code), box, from, box_bytes(*tensor_map_at(map)), add, code};
  for (int i = 1; i < store.map.rank; ++i) {
    if (store.map.steps[i] != 1) fault("bulk store at " + name_of_code(code) + ": its map has steps");
  }
  if (!device_holds(store.map.memory)) {
    fault("bulk store at " + name_of_code(code) + ": the tensor is not in device memory");
  }
  const Async by{me.number, clocks_time(me.number), code};
  async_read_check(me, from, store.bytes, by);
  async_read_begin(from, store.bytes, by);
  if (!options().late) move(store);
  stores[me.number].open.push_back(store);
}

void bulk_commit() {
  Stores& mine = stores[machine.current->number];
  mine.groups.push_back(std::move(mine.open));
  mine.open.clear();
}

void bulk_wait(unsigned groups_left) {
  Thread& me = *machine.current;
  Stores& mine = stores[me.number];
  for (; mine.groups.size() > groups_left; mine.groups.pop_front()) {
    for (const Store& s : mine.groups.front()) {
      if (options().late) move(s);
      // On record as read now: who writes there next must come after this wait.
      const Async by{me.number, clocks_time(me.number), s.code};
      async_read_end(s.from, s.bytes);
      async_read_begin(s.from, s.bytes, by);
      async_read_end(s.from, s.bytes);
    }
  }
}

void bulk_begin_block() {
  for (unsigned i = 0; i < machine.count; ++i) stores[i] = {};
}

void bulk_leave() {
  Stores& mine = stores[machine.current->number];
  if (mine.open.empty()) {
    while (!mine.groups.empty() && mine.groups.front().empty()) mine.groups.pop_front();
    if (mine.groups.empty()) return;
  }
  const Store& s = mine.open.empty() ? mine.groups.front().front() : mine.open.front();
  fault(name_of(*machine.current) + " exits before its bulk store made at " + name_of_code(s.code) +
        " has read shared memory: it is not waited for");
}

unsigned elected_lane(const void*) {
  return static_cast<unsigned>(options().seed * 11 % 32);
}

}  // namespace emulator
