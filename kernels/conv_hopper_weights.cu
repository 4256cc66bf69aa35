// Backward weights on Hopper: dw[filter, (tap, channel)] = sum over pixels of dy[pixel, filter] · x[its window, ...].
// Both operands lie in memory pixel by pixel, which is how wgmma takes them (MN-major): dy by tiled copies of 64
// filters, x by im2col copies of 64 channels at one tap, which fill in the padding. In patches of 8x8 pixels both are
// tiled copies; the tap a row further down begins 8 pixels later in the copy of x, where the swizzle begins again.
#include "kernels/conv_geometry.cuh"
#include "kernels/conv_hopper_weights.h"
#include "kernels/each.cuh"
#include "kernels/hopper_ring.cuh"
#include "kernels/tensor_map.cuh"

namespace convoy::cuda {
namespace {

constexpr int kRun = 64;  // filters or channels of a copy: 128 bytes, the swizzle's row

struct Parts {
  Divide by_image, by_width;
  int width = 0, image = 0;    // outputs, or patches, of a row and of an image
  int step_h = 1, step_w = 1,  // from one to the next in x
      pad_h = 0, pad_w = 0;
  int channels = 0, runs = 0, taps_w = 0;  // runs: of a tap
  int across = 0, steps = 0;
  int64_t share = 0, work = 0;  // steps of all tiles
  float* sums = nullptr;        // [places, filters, columns] of tiles
  float* bias_sums = nullptr;   // [places, filters], or null
};

// The steps of one tile that a block does one after another.
struct Part {
  int tile, first, steps;
  __device__ Part(const Parts& p, int64_t at, int64_t end) : tile(static_cast<int>(at / p.steps)) {
    first = static_cast<int>(at - int64_t{tile} * p.steps);
    const int64_t left = end - at;
    steps = left < p.steps - first ? static_cast<int>(left) : p.steps - first;
  }
};

template <int kTile>
struct Sizes {
  static constexpr HopperWeightsTile kShape = kHopperWeightsTiles[kTile];
  static constexpr int kDepth = kShape.depth(), kColumns = kShape.columns(), kFilters = kShape.filters();
  static constexpr bool kPatches = kShape.patches;
  static constexpr uint32_t kRowBytes = kRun * 2, kFilterBytes = kDepth * kRowBytes,
                            kBoxBytes = kShape.box_bytes();
  static constexpr int kFilterBoxes = kFilters / kRun, kBoxes = kShape.boxes();
  // From a run of a warpgroup to the next, and all of them.
  static constexpr uint32_t kRunBytes = kPatches ? HopperWeightsTile::kSide * kRowBytes : kBoxBytes,
                            kGroupBytes = kBoxes / kShape.groups_across * kBoxBytes;
  using R = Ring<kShape.stages(), kShape.stage_bytes(), kShape.groups()>;
  static_assert(!kPatches || kShape.group_columns == kRun * HopperWeightsTile::kRows, "a box each");
};
// Behind the ring: a matrix of ones, 16 x 16 in chunks of 8 x 8, whose product with dy is the bias's gradient.
constexpr int kOnes = 16 * 16, kOnesBytes = kOnes * 2;

template <int kTile>
__device__ void copy_part(typename Sizes<kTile>::R& ring, const CUtensorMap& dy, const CUtensorMap& x,
                          const Parts& p, const Part& part) {
  using S = Sizes<kTile>;
  const int down = part.tile / p.across, run = (part.tile - down * p.across) * S::kBoxes;
  const int first_tap = run / p.runs, first_channel = (run - first_tap * p.runs) * kRun;
  const int first_row = first_tap / p.taps_w, first_column = first_tap - first_row * p.taps_w;
  for (int step = part.first; step < part.first + part.steps; ++step) {
    const int number = S::kPatches ? step : step * S::kDepth;
    const int image = p.by_image(number), rest = number - image * p.image;
    const int i = p.by_width(rest), j = rest - i * p.width;
    const int h = i * p.step_h - p.pad_h, w = j * p.step_w - p.pad_w;
    unsigned char* to = ring.fill();
    CONVOY_UNROLL
    for (int box = 0; box < S::kFilterBoxes; ++box, to += S::kFilterBytes) {
      const int filter = down * S::kFilters + box * kRun;
      if constexpr (S::kPatches) {
        tma_load(to, dy, ring.landed(), filter, j * p.step_w, i * p.step_h, image);
      } else {
        tma_load(to, dy, ring.landed(), filter, number);
      }
    }
    int channel = first_channel, row = first_row, column = first_column;
    CONVOY_UNROLL
    for (int box = 0; box < S::kBoxes; ++box, to += S::kBoxBytes) {
      if constexpr (S::kPatches) {
        tma_load(to, x, ring.landed(), channel, w + column, h, image);
      } else {
        tma_load_im2col(to, x, ring.landed(), channel, w, h, image, column, row);
      }
      channel += kRun;
      if (channel < p.channels) continue;
      channel = 0;
      if (++column < p.taps_w) continue;
      column = 0;
      ++row;
    }
    ring.next();
  }
}

template <class T, int kTile>
__global__ void __launch_bounds__(Sizes<kTile>::R::kThreads, 1)
    gradient_kernel(const __grid_constant__ CUtensorMap dy, const __grid_constant__ CUtensorMap x,
                    const Parts p) {
  using S = Sizes<kTile>;
  using R = typename S::R;
  CONVOY_DYNAMIC_SHARED(unsigned char, memory);
  CONVOY_SHARED(uint64_t, full, [R::kStages]);
  CONVOY_SHARED(uint64_t, empty, [R::kStages]);
  R ring(memory, full, empty);
  T* const ones = reinterpret_cast<T*>(ring.after());
  if (threadIdx.x < kOnes) ones[threadIdx.x] = T(1.0f);
  fence_proxy_async();
  ring.start();

  int64_t at = int64_t{blockIdx.x} * p.share;
  const int64_t end = at + p.share < p.work ? at + p.share : p.work;
  if (R::producer()) {
    if (!R::elect_producer()) return;
    prefetch_tensor_map(dy);
    prefetch_tensor_map(x);
    while (at < end) {
      const Part part(p, at, end);
      copy_part<kTile>(ring, dy, x, p, part);
      at += part.steps;
    }
    return;
  }

  R::become_consumer();
  constexpr int kN = S::kShape.group_columns, kAcross = S::kShape.groups_across;
  const int down = R::group() / kAcross, across = R::group() % kAcross;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int row = down * 64 + static_cast<int>(threadIdx.x) / 32 % 4 * 16 + lane / 4;
  const uint64_t all_ones = wgmma_matrix(ones, 128, 256, Swizzle::kNone);
  while (at < end) {
    const Part part(p, at, end);
    float d[kN / 2], b[8] = {};
    // The tiles of a row take turns with the bias.
    const int column = part.tile % p.across;
    int turn = p.bias_sums == nullptr || across > 0 ? 1 << 30
               : column >= part.first % p.across    ? column - part.first % p.across
                                                    : column - part.first % p.across + p.across;
    ring.consume(part.steps, [&](const unsigned char* stage, int step) {
      const unsigned char* const a = stage + down * S::kFilterBytes;
      const unsigned char* const columns =
          stage + S::kFilterBoxes * S::kFilterBytes + across * S::kGroupBytes;
      CONVOY_UNROLL
      for (int k = 0; k < S::kDepth / 16; ++k) {
        wgmma<kN, T, Major::kMN, Major::kMN>(
            d, wgmma_matrix(a + k * 16 * S::kRowBytes, S::kFilterBytes, 8 * S::kRowBytes, Swizzle::k128),
            wgmma_matrix(columns + k * 16 * S::kRowBytes, S::kRunBytes, 8 * S::kRowBytes, Swizzle::k128),
            step > 0 || k > 0);
      }
      if (turn-- > 0) return;
      turn = p.across - 1;
      CONVOY_UNROLL
      for (int k = 0; k < S::kDepth / 16; ++k) {
        wgmma<16, T, Major::kMN, Major::kK>(
            b, wgmma_matrix(a + k * 16 * S::kRowBytes, S::kFilterBytes, 8 * S::kRowBytes, Swizzle::k128),
            all_ones, true);
      }
    });
    wgmma_hold(d);
    wgmma_hold(b);

    const int64_t place = int64_t{part.tile} + blockIdx.x;
    float* const sums = p.sums + (place * S::kFilters + row) * S::kColumns + across * kN + lane % 4 * 2;
    CONVOY_UNROLL
    for (int j = 0; j < kN / 8; ++j) {
      CONVOY_UNROLL
      for (int half = 0; half < 2; ++half)
        store(sums + half * 8 * S::kColumns + j * 8,
              Pack<float, 2>{{d[4 * j + 2 * half], d[4 * j + 2 * half + 1]}});
    }
    if (p.bias_sums != nullptr && across == 0 && lane % 4 == 0) {
      float* const bias = p.bias_sums + place * S::kFilters + row;
      bias[0] = b[0];
      bias[8] = b[2];
    }
    at += part.steps;
  }
}

// Adds the parts up, always in the same order: lanes of a warp take those of `quads` x 4 weights in turn.
struct Sum {
  Divide by_row, by_tap;  // of quads
  Divide by_taps_w;
  int taps_w = 1, box_runs = 1;  // box_runs > 1: those of a column of taps
  int row = 0, tap = 0;          // quads of a filter, and of a tap
  int runs = 0, filters = 0, columns = 0, across = 0, steps = 0, lanes = 1;
  int64_t share = 1;
  int count = 0, bias_count = 0;  // quads, filters
  bool add = false;
  const float *sums = nullptr, *bias_sums = nullptr;
  float *dw = nullptr, *db = nullptr;

  // f(place) for every lanes-th part of tile t.
  template <class F>
  __device__ void places(int64_t t, int first, const F& f) const {
    const int64_t last = ((t + 1) * steps - 1) / share;
    for (int64_t block = t * steps / share + first; block <= last; block += lanes) f(t + block);
  }
};

constexpr int kSumThreads = 256;

__global__ void __launch_bounds__(kSumThreads) sum_kernel(const Sum p) {
  const int thread = static_cast<int>(blockIdx.x * kSumThreads + threadIdx.x), lane = thread % 32;
  const int quads = 32 / p.lanes, item = thread / 32 * quads + lane % quads, first = lane / quads;
  Pack<float, 4> sum{};
  const int bias = item - p.count;
  if (item < p.count) {
    const int filter = p.by_row(item), rest = item - filter * p.row;
    const int tap = p.by_tap(rest), channel = (rest - tap * p.tap) * 4;
    int run = tap * p.runs + channel / kRun;
    if (p.box_runs > 1) {
      const int tap_row = p.by_taps_w(tap);
      run = ((tap - tap_row * p.taps_w) * p.runs + channel / kRun) * p.box_runs + tap_row;
    }
    const int column = run * kRun + channel % kRun;
    const int down = filter / p.filters, across = column / p.columns;
    const float* const from =
        p.sums + (filter - down * p.filters) * p.columns + (column - across * p.columns);
    p.places(int64_t{down} * p.across + across, first, [&](int64_t place) {
      const Pack<float, 4> v = load<4>(from + place * p.filters * p.columns);
      for (int i = 0; i < 4; ++i) sum.v[i] += v.v[i];
    });
  } else if (bias < p.bias_count) {
    const int down = bias / p.filters;
    for (int across = 0; across < p.across; ++across) {
      p.places(int64_t{down} * p.across + across, first,
               [&](int64_t place) { sum.v[0] += p.bias_sums[place * p.filters + bias - down * p.filters]; });
    }
  }
  for (int far = quads; far < 32; far *= 2) {
    CONVOY_UNROLL
    for (int i = 0; i < 4; ++i) sum.v[i] += __shfl_xor_sync(~0u, sum.v[i], far);
  }
  if (first > 0) return;
  if (item < p.count) {
    float* const to = p.dw + int64_t{item} * 4;
    if (p.add) {
      const Pack<float, 4> before = load<4>(to);
      for (int i = 0; i < 4; ++i) sum.v[i] += before.v[i];
    }
    store(to, sum);
  } else if (bias < p.bias_count) {
    p.db[bias] = p.add ? p.db[bias] + sum.v[0] : sum.v[0];
  }
}

template <class T, int kTile = 0>
void launch(Exec& ex, const HopperWeightsPlan& plan, const CUtensorMap& dy, const CUtensorMap& x,
            const Parts& p) {
  if (plan.tile == kTile) {
    launch_ring<typename Sizes<kTile>::R>((gradient_kernel<T, kTile>), plan.blocks, kOnesBytes, stream(ex),
                                          dy, x, p);
  } else if constexpr (kTile + 1 < kHopperWeightsTileCount) {
    launch<T, kTile + 1>(ex, plan, dy, x, p);
  }
}

cuuint64_t bytes(int64_t elements) {
  return static_cast<cuuint64_t>(elements) * 2;
}
cuuint64_t u(int64_t v) {
  return static_cast<cuuint64_t>(v);
}
// A patch of `rows` rows of images with so many channels.
template <class T>
CUtensorMap patch_map(const T* memory, const Shape& shape, int rows) {
  const int64_t N = shape[0], H = shape[1], W = shape[2], C = shape[3];
  return tiled_map<T, 4>(memory, {u(C), u(W), u(H), u(N)}, {bytes(C), bytes(C * W), bytes(C * W * H)},
                         {kRun, HopperWeightsTile::kSide, static_cast<cuuint32_t>(rows), 1},
                         CU_TENSOR_MAP_SWIZZLE_128B);
}
template <class T>
CUtensorMap dy_map(const T* dy, const ConvShape& s, const HopperWeightsTile& tile) {
  if (tile.patches) return patch_map(dy, s.y(), tile.kSide);
  return tiled_map<T, 2>(dy, {u(s.K), u(s.N * s.P() * s.Q())}, {bytes(s.K)},
                         {kRun, static_cast<cuuint32_t>(tile.depth())}, CU_TENSOR_MAP_SWIZZLE_128B);
}
template <class T>
CUtensorMap x_map(const T* x, const ConvShape& s, const HopperWeightsTile& tile) {
  if (tile.patches) return patch_map(x, s.x(), tile.kSide + tile.kRows - 1);
  Im2colBox box;
  box.lower = {static_cast<int>(-s.pad_w), static_cast<int>(-s.pad_h)};
  box.upper = {static_cast<int>(s.pad_w - s.S + 1), static_cast<int>(s.pad_h - s.R + 1)};
  box.steps = {static_cast<cuuint32_t>(s.stride_w), static_cast<cuuint32_t>(s.stride_h)};
  box.channels = kRun;
  box.pixels = static_cast<cuuint32_t>(tile.depth());
  return im2col_map<T>(x, {u(s.C), u(s.W), u(s.H), u(s.N)},
                       {bytes(s.C), bytes(s.C * s.W), bytes(s.C * s.W * s.H)}, box,
                       CU_TENSOR_MAP_SWIZZLE_128B);
}

template <class T>
void weigh(Exec& ex, const ConvBackwardWeights& a, const HopperWeightsPlan& plan) {
  const ConvShape& s = a.shape;
  const HopperWeightsTile& tile = plan.shape();
  const CUtensorMap x = x_map(operand<T>(a.x, s.x(), "x"), s, tile);
  const CUtensorMap dy = dy_map(operand<T>(a.dy, s.y(), "dy"), s, tile);

  Parts p;
  const int side = tile.patches ? tile.kSide : 1;
  p.width = static_cast<int>(s.Q() / side);
  p.image = static_cast<int>(s.P() / side * p.width);
  p.by_image = Divide(p.image);
  p.by_width = Divide(p.width);
  p.step_h = static_cast<int>(s.stride_h) * side;
  p.step_w = static_cast<int>(s.stride_w) * side;
  p.pad_h = static_cast<int>(s.pad_h);
  p.pad_w = static_cast<int>(s.pad_w);
  p.channels = static_cast<int>(s.C);
  p.runs = static_cast<int>((s.C + kRun - 1) / kRun);
  p.taps_w = static_cast<int>(s.S);
  p.across = static_cast<int>(plan.across);
  p.steps = static_cast<int>(plan.steps);
  p.share = plan.share;
  p.work = plan.tiles * plan.steps;
  p.sums = scratch<float>(ex, plan.floats());
  if (!a.db.empty()) p.bias_sums = p.sums + plan.part_floats();

  Sum sum;
  sum.row = static_cast<int>(s.R * s.S * s.C / 4);
  sum.tap = static_cast<int>(s.C / 4);
  sum.by_row = Divide(sum.row);
  sum.by_tap = Divide(sum.tap);
  sum.by_taps_w = Divide(s.S);
  sum.taps_w = p.taps_w;
  sum.box_runs = tile.box_runs();
  sum.runs = p.runs;
  sum.filters = tile.filters();
  sum.columns = tile.columns();
  sum.across = p.across;
  sum.steps = p.steps;
  sum.share = plan.share;
  sum.lanes = plan.blocks / plan.tiles >= 8 ? 4 : 1;
  sum.count = static_cast<int>(s.K) * sum.row;
  sum.add = !a.overwrite;
  sum.sums = p.sums;
  sum.bias_sums = p.bias_sums;
  sum.dw = operand<float>(a.dw, s.w(), "dw");
  if (!a.db.empty()) {
    sum.db = operand<float>(a.db, Shape{s.K}, "db");
    sum.bias_count = static_cast<int>(s.K);
  }

  launch<T>(ex, plan, dy, x, p);
  const int64_t threads = (int64_t{sum.count} + sum.bias_count + 31) * sum.lanes;
  CONVOY_LAUNCH(sum_kernel, dim3(static_cast<unsigned>((threads + kSumThreads - 1) / kSumThreads)),
                dim3(kSumThreads), 0, stream(ex), sum);
  CONVOY_CUDA(cudaGetLastError());
}

}  // namespace

void hopper_backward_weights(Exec& ex, const ConvBackwardWeights& a, const HopperWeightsPlan& plan) {
  if (a.x.dtype == DType::kBF16) {
    weigh<__nv_bfloat16>(ex, a, plan);
  } else {
    weigh<__half>(ex, a, plan);
  }
}

}  // namespace convoy::cuda
