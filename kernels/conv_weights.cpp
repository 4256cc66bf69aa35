// Backward weights: sums of outer products over pixels, cut into chunks of images that depend on the shape
// only.
#include "kernels/conv_check.h"
#include "kernels/cpu.h"
#include "kernels/outer_tile.h"

namespace convoy::CONVOY_CPU {
namespace {

// Each item of a chunk is a tile of the gradient for one row of taps, or some channels of db.
//   wide    dw[k][r,s][c]: broadcasts dy[k], vectors of x[c]: the gradient's own layout
//   narrow  sums[r,s,c][k]: broadcasts x[r,s,c], vectors of dy[k], turned round in the end: for images of few
//   channels; one item does it all
struct WeightsPlan {
  bool narrow;
  int64_t chunks;  // of images, each with sums of its own; added up in order
  int64_t tiles;   // of the broadcast side (wide)
  int64_t panels;  // of the vector side
  int64_t items;   // tiles · panels · R, then the items of db (narrow: 1)
  int64_t bias_items;
  int64_t sums;  // floats of one chunk's gradient
  int64_t padded_K;
  int64_t block_images, block_rows;  // what fits the second-level cache: images, or rows of one image
  int64_t inner_images, inner_rows;  // what fits the first
  int64_t group;                     // narrow: rows of the filters taken together, 1 or R
  int64_t band_rows;                 // narrow: of dy, at a time
  int64_t packed_floats;             // of each thread's panel of x or interleaved values, or 0
  int64_t scratch_floats;
};

// Columns of the image that the taps reach, padding included.
int64_t padded_columns(const ConvShape& s) {
  return (s.Q() - 1) * s.stride_w + s.S;
}

WeightsPlan plan_weights(const ConvShape& s, int threads) {
  WeightsPlan plan{};
  const int64_t P = s.P(), Q = s.Q();
  const auto waste = [](int64_t extent) {
    return static_cast<double>(divide_up(extent, kLanes) * kLanes) / static_cast<double>(extent);
  };
  plan.narrow = s.C < kLanes && waste(s.C) > waste(s.K);
  plan.tiles = divide_up(s.K, kOuterRows);
  plan.panels = divide_up(plan.narrow ? s.K : s.C, kOuterLanes);
  // The narrow kind sums db along the way.
  plan.bias_items = plan.narrow ? 0 : divide_up(s.K, kOuterLanes);
  const int64_t gradient_items = plan.narrow ? 1 : plan.panels * plan.tiles * s.R;
  plan.items = gradient_items + plan.bias_items;
  plan.padded_K = divide_up(s.K, kLanes) * kLanes;
  // About 64 items at least, for as many threads; in powers of two, as batches mostly are.
  int64_t chunks = 1;
  while (chunks * gradient_items < 64 && 2 * chunks <= s.N) chunks *= 2;
  plan.chunks = chunks;
  plan.sums = plan.narrow ? s.R * s.S * s.C * plan.padded_K : s.K * s.R * s.S * s.C;
  plan.scratch_floats = chunks * plan.padded_K + (plan.narrow || chunks > 1 ? chunks * plan.sums : 0);
  constexpr int64_t kBlockBytes = 1024 * 1024;
  constexpr int64_t kInnerPixels = 128;
  const int64_t row_bytes = (s.stride_h * s.W * s.C + Q * s.K) * 4;
  plan.block_rows = smaller(P, divide_up(kBlockBytes, row_bytes));
  plan.block_images = plan.block_rows < P ? 1 : 1 + kBlockBytes / (row_bytes * P + 1);
  plan.inner_rows = smaller(plan.block_rows, divide_up(kInnerPixels, Q));
  plan.inner_images = plan.inner_rows < plan.block_rows ? 1 : divide_up(kInnerPixels, P * Q);
  const bool pack = !plan.narrow && s.C >= 128 && plan.tiles >= 4 && plan.block_rows == P;
  plan.packed_floats = pack ? smaller(plan.block_images, s.N) * s.H * s.W * kOuterLanes : 0;
  if (plan.narrow) {
    // A tile wants as many values as there is room for.
    plan.group = s.R * s.S * s.C <= 14 ? s.R : 1;
    plan.band_rows = smaller(P, divide_up(kInnerPixels, Q));
    plan.packed_floats = padded_columns(s) * s.C *
                         (plan.group == 1 ? (plan.band_rows - 1) * s.stride_h + s.R : plan.band_rows * s.R);
  }
  plan.scratch_floats += plan.packed_floats * threads;
  return plan;
}

struct Span {
  int64_t begin, end;
};

// The outputs o in [0, outputs) whose tap lies inside: 0 <= o·stride - pad + tap < inputs.
Span outputs_inside(int64_t tap, int64_t stride, int64_t pad, int64_t inputs, int64_t outputs) {
  const int64_t begin = tap < pad ? divide_up(pad - tap, stride) : 0;
  const int64_t past = inputs + pad - tap;  // o·stride < past
  const int64_t end = past > 0 ? smaller(outputs, divide_up(past, stride)) : 0;
  return {begin, end > begin ? end : begin};
}

struct Block {
  int64_t image, image_end, row, row_end;  // rows of dy
};

struct Pass {
  const ConvShape& s;
  const WeightsPlan& plan;
  const float* x;
  const float* dy;
};

const float* x_at(const ConvShape& s, const float* x, int64_t n, int64_t h, int64_t w) {
  return x + ((n * s.H + h) * s.W + w) * s.C;
}

// Sums the outer products of one block for the taps (r, s) and what lies beside them; `rows` values from
// column `at` of x or k of dy.
void wide_item(const Pass& pass, const Block& block, int64_t item, const float* packed, float* dw,
               bool overwrite) {
  const ConvShape& s = pass.s;
  const int64_t P = s.P(), Q = s.Q();
  const int64_t r = item % s.R, tile = item / s.R % pass.plan.tiles, panel = item / s.R / pass.plan.tiles;
  const int64_t k = s.K * tile / pass.plan.tiles, rows = s.K * (tile + 1) / pass.plan.tiles - k;
  const int64_t c = panel * kOuterLanes;
  const Span inside = outputs_inside(r, s.stride_h, s.pad_h, s.H, P);
  Outer o;
  o.a = {nullptr, P * Q * s.K, Q * s.K, s.K};
  o.b = {nullptr, s.H * s.W * s.C, s.stride_h * s.W * s.C, s.stride_w * s.C};
  if (packed != nullptr)
    o.b = {nullptr, s.H * s.W * kOuterLanes, s.stride_h * s.W * kOuterLanes, s.stride_w * kOuterLanes};
  o.to_row = s.R * s.S * s.C;
  o.lanes = smaller(s.C - c, kOuterLanes);
  for (int64_t n = block.image; n < block.image_end; n += pass.plan.inner_images)
    for (int64_t p = block.row; p < block.row_end; p += pass.plan.inner_rows) {
      const int64_t begin = p > inside.begin ? p : inside.begin;
      const int64_t end = smaller(smaller(p + pass.plan.inner_rows, block.row_end), inside.end);
      o.images = smaller(pass.plan.inner_images, block.image_end - n);
      o.rows = end > begin ? end - begin : 0;
      o.overwrite = overwrite && n == block.image && p == block.row;
      for (int64_t t = 0; t < s.S; ++t) {
        const Span columns = outputs_inside(t, s.stride_w, s.pad_w, s.W, Q);
        o.columns = columns.end - columns.begin;
        o.a.data = pass.dy + ((n * P + begin) * Q + columns.begin) * s.K + k;
        const int64_t h = begin * s.stride_h - s.pad_h + r, w = columns.begin * s.stride_w - s.pad_w + t;
        o.b.data = packed == nullptr ? x_at(s, pass.x, n, h, w) + c
                                     : packed + (((n - block.image) * s.H + h) * s.W + w) * kOuterLanes;
        o.to = dw + ((k * s.R + r) * s.S + t) * s.C + c;
        if (o.overwrite || o.rows * o.columns > 0) outer_sum(o, rows);
      }
    }
}

// db[lane] += the sum of a panel of dy over consecutive pixels.
void add_bias(const ConvShape& s, const float* dy, int64_t pixels, int64_t lanes, float* db) {
  Vec a[kOuterVectors] = {}, b[kOuterVectors] = {};
  if (lanes == kOuterLanes) {
    int64_t i = 0;
    for (; i + 2 <= pixels; i += 2, dy += 2 * s.K) CONVOY_UNROLL
    for (int v = 0; v < kOuterVectors; ++v) {
      a[v] += load(dy + v * kLanes);
      b[v] += load(dy + s.K + v * kLanes);
    }
    if (i < pixels)
      for (int v = 0; v < kOuterVectors; ++v) a[v] += load(dy + v * kLanes);
  } else {
    for (int64_t i = 0; i < pixels; ++i, dy += s.K)
      for (int v = 0; v * kLanes < lanes; ++v) a[v] += load_first(dy + v * kLanes, lanes - v * kLanes);
  }
  for (int v = 0; v * kLanes < lanes; ++v) store(db + v * kLanes, load(db + v * kLanes) + (a[v] + b[v]));
}

// Copies bands of rows of an image: to[i][w][r][c] is row h + i·jump + r, for `rows` values of i and groups
// of plan.group rows, with zeros for padding, so that the values of a group under any tap lie side by side.
void pad_rows(const Pass& pass, const float* x, int64_t h, int64_t jump, int64_t rows, float* to) {
  const ConvShape& s = pass.s;
  const int64_t C = s.C, step = pass.plan.group * C, columns = padded_columns(s), left = s.pad_w * step;
  const int64_t inside = smaller(s.W, columns - s.pad_w);
  for (int64_t i = 0; i < rows; ++i, h += jump, to += columns * step) {
    for (int64_t j = 0; j < left; ++j) to[j] = 0;
    for (int64_t j = left + inside * step; j < columns * step; ++j) to[j] = 0;
    for (int64_t r = 0; r < pass.plan.group; ++r) {
      const float* __restrict from = x + (h + r) * s.W * C;
      float* __restrict row = to + left + r * C;
      if (h + r < 0 || h + r >= s.H)
        for (int64_t w = 0; w < inside; ++w)
          for (int64_t c = 0; c < C; ++c) row[w * step + c] = 0;
      else if (step == C)
        for (int64_t j = 0; j < inside * C; ++j) row[j] = from[j];
      else if (C == 1)
        for (int64_t w = 0; w < inside; ++w) row[w * step] = from[w];
      else
        for (int64_t w = 0; w < inside; ++w)
          for (int64_t c = 0; c < C; ++c) row[w * step + c] = from[w * C + c];
    }
  }
}

// The images [image, image_end): bands of rows whose values and dy stay in the first-level cache.
void narrow_chunk(const Pass& pass, int64_t image, int64_t image_end, float* band, float* sums, float* db) {
  const ConvShape& s = pass.s;
  const int64_t P = s.P(), Q = s.Q(), group = pass.plan.group;
  const int64_t values = group * s.S * s.C, tiles = divide_up(values, kOuterRows);
  const int64_t jump = group == 1 ? 1 : s.stride_h, row_floats = padded_columns(s) * group * s.C;
  Outer o{};
  o.images = 1;
  o.columns = Q;
  o.to_row = pass.plan.padded_K;
  for (int64_t row = image * P; row < image_end * P; row += o.rows) {
    const float* dy = pass.dy + row * Q * s.K;
    o.rows = smaller(pass.plan.band_rows, P - row % P);
    o.overwrite = row == image * P;
    pad_rows(pass, x_at(s, pass.x, row / P, 0, 0), row % P * s.stride_h - s.pad_h, jump,
             group == 1 ? (o.rows - 1) * s.stride_h + s.R : o.rows, band);
    for (int64_t k = 0; k < s.K; k += kOuterLanes) {
      o.lanes = smaller(s.K - k, kOuterLanes);
      o.b = {dy + k, 0, Q * s.K, s.K};
      for (int64_t r = 0; r < s.R; r += group)
        for (int64_t i = 0; i < tiles; ++i) {
          const int64_t value = values * i / tiles;
          o.a = {band + r * row_floats + value, 0, s.stride_h / jump * row_floats, s.stride_w * group * s.C};
          o.to = sums + (r * s.S * s.C + value) * o.to_row + k;
          outer_sum(o, values * (i + 1) / tiles - value);
        }
      if (db != nullptr) add_bias(s, dy + k, o.rows * Q, o.lanes, db + k);
    }
  }
}

void bias_item(const Pass& pass, const Block& block, int64_t panel, float* db) {
  const ConvShape& s = pass.s;
  const int64_t k = panel * kOuterLanes;
  for (int64_t n = block.image; n < block.image_end; ++n)
    add_bias(s, pass.dy + (n * s.P() + block.row) * s.Q() * s.K + k, (block.row_end - block.row) * s.Q(),
             smaller(s.K - k, kOuterLanes), db + k);
}

// The channels of a panel of x, for all pixels of a block of images: where pixels are far apart they evict
// one another.
void pack_panel(const Pass& pass, const Block& block, int64_t panel, float* packed) {
  const ConvShape& s = pass.s;
  const int64_t c = panel * kOuterLanes, lanes = smaller(kOuterLanes, s.C - c);
  const float* x = x_at(s, pass.x, block.image, 0, 0) + c;
  for (int64_t i = 0; i < (block.image_end - block.image) * s.H * s.W; ++i, x += s.C, packed += kOuterLanes)
    for (int64_t j = 0; j < lanes; j += kLanes)
      store(packed + j, load_first(x + j, smaller(kLanes, lanes - j)));
}

// Items [begin, end) of one chunk, block by block.
void run_items(const Pass& pass, int64_t chunk, int64_t begin, int64_t end, float* packed, float* gradient,
               float* db, bool overwrite) {
  const WeightsPlan& plan = pass.plan;
  const int64_t P = pass.s.P(), gradient_items = plan.items - plan.bias_items;
  const int64_t first = pass.s.N * chunk / plan.chunks, last = pass.s.N * (chunk + 1) / plan.chunks;
  if (plan.narrow) return narrow_chunk(pass, first, last, packed, gradient, db);
  for (int64_t n = first; n < last; n += plan.block_images)
    for (int64_t p = 0; p < P; p += plan.block_rows) {
      const Block block{n, smaller(n + plan.block_images, last), p, smaller(p + plan.block_rows, P)};
      const bool fresh = n == first && p == 0;
      for (int64_t i = begin; i < end; ++i)
        if (i >= gradient_items)
          bias_item(pass, block, i - gradient_items, db);
        else {
          const int64_t panel = i / pass.s.R / plan.tiles;
          if (plan.packed_floats > 0 && (i == begin || panel != (i - 1) / pass.s.R / plan.tiles))
            pack_panel(pass, block, panel, packed);
          wide_item(pass, block, i, plan.packed_floats > 0 ? packed : nullptr, gradient, fresh && overwrite);
        }
    }
}

// to[i] (+)= the chunks' sums, in order.
void add_chunks(const float* sums, int64_t chunks, int64_t distance, float* to, int64_t count,
                bool overwrite) {
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t lanes = smaller(kLanes, count - i);
    Vec total = overwrite ? Vec{} : load_first(to + i, lanes);
    for (int64_t j = 0; j < chunks; ++j) total += load_first(sums + j * distance + i, lanes);
    store_first(to + i, total, lanes);
  }
}

}  // namespace

Support query(const ConvBackwardWeights& a, int threads) {
  if (a.shape.K == 0) return {};
  return {true, plan_weights(a.shape, threads).scratch_floats * 4};
}

void conv_backward_weights(Exec& ex, const ConvBackwardWeights& a) {
  const ConvShape& s = a.shape;
  check_shape(s);
  check_operand(a.x, s.x(), "x");
  check_operand(a.dy, s.y(), "dy");
  check_operand(a.dw, s.w(), "dw");
  if (!a.db.empty()) check_operand(a.db, Shape{s.K}, "db");
  if (s.K == 0) return;
  WeightsPlan plan = plan_weights(s, ex.threads);
  float* db_sums = check_scratch(ex, plan.scratch_floats * 4);
  float* sums = db_sums + plan.chunks * plan.padded_K;
  float* dw = a.dw.f32();
  float* db = a.db.empty() ? nullptr : a.db.f32();
  if (db == nullptr) plan.items -= plan.bias_items, plan.bias_items = 0;
  if (s.N == 0) {
    if (a.overwrite)
      for (const Out& empty : {a.dw, a.db})
        for (int64_t i = 0; !empty.empty() && i < empty.count(); ++i) empty.f32()[i] = 0;
    return;
  }
  const bool direct = !plan.narrow && plan.chunks == 1;
  const Pass pass{s, plan, a.x.f32(), a.dy.f32()};
  for (int64_t i = 0; db != nullptr && i < plan.chunks * plan.padded_K; ++i) db_sums[i] = 0;
  const int64_t D = s.R * s.S * s.C;
#pragma omp parallel num_threads(ex.threads)
  {
    float* packed = db_sums + plan.scratch_floats - (thread_index() + 1) * plan.packed_floats;
    const int64_t total = plan.chunks * plan.items;
    int64_t i = total * thread_index() / thread_count();
    const int64_t stop = total * (thread_index() + 1) / thread_count();
    while (i < stop) {
      const int64_t chunk = i / plan.items;
      const int64_t end = smaller(stop, (chunk + 1) * plan.items);
      run_items(pass, chunk, i - chunk * plan.items, end - chunk * plan.items, packed,
                direct ? dw : sums + chunk * plan.sums,
                db != nullptr ? db_sums + chunk * plan.padded_K : nullptr, direct ? a.overwrite : true);
      i = end;
    }
#pragma omp barrier
    if (!plan.narrow && !direct) {
#pragma omp for schedule(static) nowait
      for (int64_t j = 0; j < divide_up(plan.sums, 1024); ++j)
        add_chunks(sums + j * 1024, plan.chunks, plan.sums, dw + j * 1024,
                   smaller(1024, plan.sums - j * 1024), a.overwrite);
    } else if (plan.narrow) {
#pragma omp for schedule(static) nowait
      for (int64_t d = 0; d < D; ++d) {
        float* row = sums + d * plan.padded_K;
        add_chunks(row + plan.sums, plan.chunks - 1, plan.sums, row, plan.padded_K, false);
        const int64_t tap = d / s.C, r = tap % plan.group;
        const int64_t place = plan.group == 1 ? tap : r * s.S + tap / plan.group;
        float* to = dw + place * s.C + d % s.C;
        for (int64_t k = 0; k < s.K; ++k, to += D) *to = a.overwrite ? row[k] : *to + row[k];
      }
    }
    if (db != nullptr) {
#pragma omp single nowait
      add_chunks(db_sums, plan.chunks, plan.padded_K, db, s.K, a.overwrite);
    }
  }
}

}  // namespace convoy::CONVOY_CPU
