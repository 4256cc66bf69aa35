// wgmma (PTX ISA, "Asynchronous Warpgroup Level Matrix Multiply-Accumulate Instructions"): m64nNk16 of bf16 or f16
// with f32 accumulators. A product is done when its four warps have issued it; what it gives is put into the
// accumulators when their threads have waited.
#include <algorithm>
#include <cstring>
#include <deque>

#include "bulk.h"
#include "half_types.h"
#include "machine.h"
#include "sync.h"

namespace emulator {
namespace {

constexpr int kM = 64, kK = 16, kMaxN = 256;
constexpr uint32_t kInFlight = 0x7fffabcd;  // a NaN: what accumulators hold meanwhile

// Shared memory that an operand occupies, in chunks of 8 elements; `major` is what its chunks run along.
struct Matrix {
  size_t start, leading, stride;
  unsigned span;  // chunks of a swizzle's row: 1 without
  bool mn_major;

  // The chunk that holds element (mn, k), and the element's place in it.
  size_t chunk(int mn, int k, int* place) const {
    const size_t along = static_cast<size_t>(mn_major ? mn : k), row = static_cast<size_t>(mn_major ? k : mn);
    *place = static_cast<int>(along % 8);
    const size_t c = along / 8, width = 16 * span;
    size_t at = start + row % 8 * width;
    // PTX ISA, "Strides", and CUTLASS's mma_traits_sm90_gmma.hpp, "make_gmma_desc".
    if (span == 1) {
      at += mn_major ? c * stride + row / 8 * leading : c * leading + row / 8 * stride;
    } else {
      at += c % span * 16 + c / span * leading + row / 8 * stride;
    }
    return at ^ ((at >> 7 & (span - 1)) << 4);
  }
};

struct Product {
  Wgmma call;  // of the first warp; registers and accumulators are each thread's
  const void* code;
  unsigned issued = 0;  // warps
  bool landed = false, seen = false;
  std::vector<size_t> chunks;  // of shared memory, both operands'
  uint32_t a[128][4];
  float* d[128];
};

// Accumulators that unfinished products use, with their values.
struct Accumulators {
  float* d;
  std::vector<float> values;
  int products;
};

struct Lane {
  std::vector<Accumulators> accumulators;
  std::vector<size_t> groups;  // products issued when each was committed
  size_t delivered = 0;
  bool fenced = false;
};
struct Warpgroup {
  std::deque<Product> products;
  size_t first = 0;  // the number of products.front()
  size_t issued[4] = {};
  size_t landed = 0;
  Lane lanes[128];
  Product& product(size_t number) { return products[number - first]; }
};
Warpgroup groups[kWarpgroups];

float f16_value(uint16_t bits) {
  static const std::vector<float> table = [] {
    std::vector<float> all(1 << 16);
    for (unsigned i = 0; i < all.size(); ++i) all[i] = Small<5, 10>::value(static_cast<uint16_t>(i));
    return all;
  }();
  return table[bits];
}
float value(bool bf16, uint32_t bits) {
  bits &= 0xffff;
  if (!bf16) return f16_value(static_cast<uint16_t>(bits));
  bits <<= 16;
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}

Matrix decode(uint64_t d, bool mn_major, const char* which, const void* code) {
  const auto field = [d](int at) { return static_cast<size_t>(d >> at & 0x3fff) << 4; };
  static constexpr unsigned kSpans[] = {1, 8, 4, 2};  // by the code of the swizzle
  const Matrix m{field(0), field(16), field(32), kSpans[d >> 62], mn_major};
  const auto bad = [&](const char* why) {
    fault(std::string("wgmma's descriptor of ") + which + ": " + why + ", " + name_of(*machine.current) +
          " at " + name_of_code(code));
  };
  if (d & 0x3ff1c000c000c000) bad("bits that mean nothing are set");
  if (d >> 49 & 7) bad("the emulator knows no base offset");
  if (m.start >> 7 & (m.span - 1)) bad("the start is not where the swizzle's pattern begins");
  return m;
}

// The chunks of rows [first, last), each once.
void add_chunks(const Matrix& m, int first, int last, std::vector<size_t>* chunks) {
  int place;
  for (int mn = first; mn < last; mn += m.mn_major ? 8 : 1) {
    for (int k = 0; k < kK; k += m.mn_major ? 1 : 8) chunks->push_back(m.chunk(mn, k, &place));
  }
}

Accumulators* find(Lane& lane, const float* d) {
  for (Accumulators& a : lane.accumulators) {
    if (a.d == d) return &a;
  }
  return nullptr;
}

// The warp of the current thread, whose lanes have met, issues its part.
void issue(const Wgmma* const* in, const void* code) {
  Thread& me = *machine.current;
  const unsigned warp = me.warp() % 4, number = me.warp() / 4;
  const auto who = [&] { return name_of(me) + " at " + name_of_code(code); };
  if ((number + 1) * 128 > machine.count) fault("wgmma needs four warps: " + who());
  const Wgmma& call = *in[0];
  if (call.n < 8 || call.n > kMaxN || call.n % 8)
    fault("wgmma of n " + std::to_string(call.n) + ": " + who());
  clocks_use_slots();
  Warpgroup& g = groups[number];
  const size_t at = g.issued[warp]++;
  if (at == g.first + g.products.size()) {
    g.products.emplace_back();
    g.products.back().call = call;
    g.products.back().code = code;
  }
  Product& p = g.product(at);
  const auto same = [&](const Wgmma& c) {
    return c.n == p.call.n && c.bf16 == p.call.bf16 && c.a_in_registers == p.call.a_in_registers &&
           c.a_mn_major == p.call.a_mn_major && c.b_mn_major == p.call.b_mn_major && c.keep == p.call.keep &&
           (c.a_in_registers || c.a == p.call.a) && c.b == p.call.b;
  };
  for (unsigned i = 0; i < 32; ++i) {
    if (!same(*in[i]))
      fault("wgmma's threads disagree: lane " + std::to_string(i) + " of the warp of " + who());
  }

  const Async by{kWarpgroupSlot + number, static_cast<uint32_t>(at + 1), code};
  const Matrix b = decode(call.b, call.b_mn_major, "b", code);
  std::vector<size_t> chunks;
  add_chunks(b, 0, call.n, &chunks);
  if (!call.a_in_registers) {
    const Matrix a = decode(call.a, call.a_mn_major, "a", code);
    const int row = static_cast<int>(warp) * 16;
    add_chunks(a, row, row + 16, &chunks);
    if (p.issued == 0) add_chunks(a, 0, kM, &p.chunks);
  }
  for (const size_t chunk : chunks) async_read_check(me, shared_at(chunk), 16, by);
  if (p.issued++ == 0) {
    add_chunks(b, 0, call.n, &p.chunks);
    for (const size_t chunk : p.chunks) async_read_begin(shared_at(chunk), 16, by);
  }

  for (unsigned i = 0; i < 32; ++i) {
    const unsigned t = warp * 32 + i;
    Lane& lane = g.lanes[t];
    p.d[t] = in[i]->d;
    std::memcpy(p.a[t], in[i]->r, sizeof p.a[t]);
    Accumulators* mine = find(lane, in[i]->d);
    if (!mine) {
      if (!lane.fenced)
        fault("missing wgmma_fence between the use of registers and a wgmma on them: " + who());
      lane.accumulators.push_back({in[i]->d, std::vector<float>(in[i]->d, in[i]->d + call.n / 2), 0});
      mine = &lane.accumulators.back();
      ++machine.thread(number * 128 + t).registers_out;
      for (int j = 0; j < call.n / 2; ++j) std::memcpy(&in[i]->d[j], &kInFlight, 4);
    }
    if (mine->values.size() != static_cast<size_t>(call.n) / 2) {
      fault("wgmma on accumulators of an unfinished wgmma of another shape: " + who());
    }
    ++mine->products;
  }
  if (p.issued == 4 && !options().late) {
    while (wgmma_land(number)) {
    }
  }
}

void multiply(Warpgroup& g, Product& p) {
  static float a[kM][kK], b[kK][kMaxN], d[kMaxN];
  const int n = p.call.n;
  const bool bf16 = p.call.bf16;
  const auto element = [&](const Matrix& m, int mn, int k) {
    int place;
    const size_t chunk = m.chunk(mn, k, &place);
    uint16_t bits;
    std::memcpy(&bits, static_cast<const char*>(shared_at(chunk)) + 2 * place, 2);
    return value(bf16, bits);
  };
  const Matrix mb = decode(p.call.b, p.call.b_mn_major, "b", p.code);
  for (int j = 0; j < n; ++j) {
    for (int k = 0; k < kK; ++k) b[k][j] = element(mb, j, k);
  }
  if (p.call.a_in_registers) {
    for (int t = 0; t < 128; ++t) {
      for (int i = 0; i < 8; ++i) {  // as in mma.m16n8k16, a warp's 16 rows each
        const int row = t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8, k = t % 4 * 2 + i % 2 + i / 4 * 8;
        a[row][k] = value(bf16, p.a[t][i / 2] >> 16 * (i % 2));
      }
    }
  } else {
    const Matrix ma = decode(p.call.a, p.call.a_mn_major, "a", p.code);
    for (int row = 0; row < kM; ++row) {
      for (int k = 0; k < kK; ++k) a[row][k] = element(ma, row, k);
    }
  }
  std::vector<float>* values[128];
  for (unsigned t = 0; t < 128; ++t) values[t] = &find(g.lanes[t], p.d[t])->values;
  // Thread t of a warp's 16 rows holds columns 8j + 2(t % 4) and the next of rows t / 4 and t / 4 + 8.
  for (int row = 0; row < kM; ++row) {
    const auto at = [&](int column) -> float& {
      const int t = row / 16 * 32 + row % 8 * 4 + column % 8 / 2;
      return (*values[t])[static_cast<size_t>(column / 8 * 4 + row % 16 / 8 * 2 + column % 2)];
    };
    for (int j = 0; j < n; ++j) d[j] = p.call.keep ? at(j) : 0;
    for (int k = 0; k < kK; ++k) {
      const float x = a[row][k];
      for (int j = 0; j < n; ++j) d[j] += x * b[k][j];
    }
    for (int j = 0; j < n; ++j) at(j) = d[j];
  }
}

// The current thread has waited for this product.
void deliver(Warpgroup& g, size_t number) {
  Thread& me = *machine.current;
  const unsigned t = me.number % 128;
  Product& p = g.product(number);
  if (!p.seen) {
    p.seen = true;
    for (const size_t chunk : p.chunks) async_read_end(shared_at(chunk), 16);
  }
  clocks_learn(me.number, kWarpgroupSlot + me.warp() / 4, static_cast<uint32_t>(number + 1));
  Lane& lane = g.lanes[t];
  Accumulators* mine = find(lane, p.d[t]);
  if (--mine->products > 0) return;
  for (size_t j = 0; j < mine->values.size(); ++j) {
    uint32_t held;
    std::memcpy(&held, &mine->d[j], 4);
    if (held != kInFlight) {
      fault("accumulators of an unfinished wgmma written: " + name_of(me) + ", element " + std::to_string(j) +
            ", of the wgmma at " + name_of_code(p.code));
    }
  }
  std::memcpy(mine->d, mine->values.data(), mine->values.size() * 4);
  lane.accumulators.erase(lane.accumulators.begin() + (mine - lane.accumulators.data()));
  lane.fenced = false;
  --me.registers_out;
}

}  // namespace

bool wgmma_land(unsigned warpgroup) {
  Warpgroup& g = groups[warpgroup];
  if (g.landed == g.first + g.products.size()) return false;
  Product& p = g.product(g.landed);
  if (p.issued < 4) return false;
  multiply(g, p);
  p.landed = true;
  ++g.landed;
  for (unsigned i = warpgroup * 128; i < warpgroup * 128 + 128; ++i) {
    Thread& t = machine.thread(i);
    if (t.state == State::kAsync && t.mbarrier < 0) t.state = State::kReady;
  }
  return true;
}

void wgmma(const Wgmma& call, const void* code) {
  struct Nothing {};
  warp_exchange<Nothing>(~0u, "wgmma", Place{nullptr, 0, code}, call,
                         [code](const Wgmma* const* in, Nothing* const*, uint32_t) { issue(in, code); });
}

void wgmma_fence() {
  const Thread& me = *machine.current;
  groups[me.warp() / 4].lanes[me.number % 128].fenced = true;
}

void wgmma_commit() {
  const Thread& me = *machine.current;
  Warpgroup& g = groups[me.warp() / 4];
  g.lanes[me.number % 128].groups.push_back(g.issued[me.warp() % 4]);
}

void wgmma_wait(unsigned groups_left, const void* code) {
  Thread& me = *machine.current;
  Warpgroup& g = groups[me.warp() / 4];
  Lane& lane = g.lanes[me.number % 128];
  if (lane.groups.size() <= groups_left) return;
  const size_t until = lane.groups[lane.groups.size() - 1 - groups_left];
  while (g.landed < until) {
    me.mbarrier = -1;
    wait(State::kAsync, "wgmma_wait", Place{nullptr, 0, code});
  }
  for (; lane.delivered < until; ++lane.delivered) deliver(g, lane.delivered);
  lane.groups.erase(lane.groups.begin(), lane.groups.end() - groups_left);
  // Products that everybody has.
  size_t all = lane.delivered;
  for (const Lane& l : g.lanes) all = std::min(all, l.delivered);
  for (; g.first < all; ++g.first) g.products.pop_front();
}

uint32_t shared_address_of(const void* address, const void* code) {
  if (!shared_holds(address) || shared_address(address) >= 1 << 18) {
    fault("wgmma's descriptor: not an address of shared memory, " + name_of(*machine.current) + " at " +
          name_of_code(code));
  }
  return static_cast<uint32_t>(shared_address(address));
}

void wgmma_check_registers(const void* address, size_t bytes, bool write, const void* code) {
  const Thread& me = *machine.current;
  const char* at = static_cast<const char*>(address);
  for (const Accumulators& a : groups[me.warp() / 4].lanes[me.number % 128].accumulators) {
    const char* first = reinterpret_cast<const char*>(a.d);
    if (at + bytes <= first || at >= first + 4 * a.values.size()) continue;
    fault("accumulators of an unfinished wgmma " + std::string(write ? "written" : "read") + ": " +
          name_of(me) + " at " + name_of_code(code));
  }
}

void wgmma_begin_block() {
  for (unsigned i = 0; i * 128 < machine.count; ++i) groups[i] = {};
}

void wgmma_leave() {
  const Thread& me = *machine.current;
  if (me.registers_out > 0) fault(name_of(me) + " exits without waiting for its wgmma");
}

}  // namespace emulator
