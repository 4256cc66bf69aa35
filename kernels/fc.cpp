#include "kernels/fc.h"

#include "kernels/correlate.h"
#include "kernels/cpu.h"
#include "kernels/dot_tile.h"
#include "kernels/outer_tile.h"
#include "kernels/sizes.h"

namespace convoy::CONVOY_CPU {
namespace {

struct Sizes {
  int64_t N, D, F;
};

Sizes check_sizes(const In& x, const In& w, const In& y, const char* names) {
  const Sizes s{x.rows(), x.shape.row(), y.shape.row()};
  CONVOY_CHECK(y.rows() == s.N && w.rows() == s.F && w.shape.row() == s.D && w.contiguous(), names, " are ",
               x.shape, ", ", w.shape, ", ", y.shape);
  return s;
}

float* check_scratch(const Exec& ex, int64_t bytes) {
  CONVOY_CHECK(ex.scratch.bytes() >= bytes, "the scratch has ", ex.scratch.bytes(), " bytes, needed are ",
               bytes);
  return reinterpret_cast<float*>(ex.scratch.data);
}

void check_bias(const In& bias, int64_t F, const char* name) {
  CONVOY_CHECK(bias.empty() || (bias.count() == F && bias.contiguous()), name, " is ", bias.shape,
               ", wanted ", F);
}

// Terms of the dot products that are summed at a time: a tile's rows of x stay in the first-level cache.
constexpr int64_t kDotBlock = 1024;
// Up to that many rows, backward data reads w once for all of them, without packing.
constexpr int64_t kThinRows = 4;
// Rows of x that backward weights packs at a time.
constexpr int64_t kWeightsRows = 256;

}  // namespace

namespace {

// A few rows of x: dot products, w is read once and never packed.
void dot_forward([[maybe_unused]] Exec& ex, const FcForward& a, const Sizes& s) {
  const float* x = a.x.f32();
  const float* w = a.w.f32();
  const float* bias = a.epilogue.bias.empty() ? nullptr : a.epilogue.bias.f32();
  float* y = a.y.f32();
  const int64_t columns = dot_columns(s.N);
#pragma omp parallel for num_threads(ex.threads) schedule(static)
  for (int64_t item = 0; item < divide_up(s.F, columns); ++item) {
    const int64_t end = smaller(s.F, (item + 1) * columns);
    for (int64_t f = item * columns, wide; f < end; f += wide) {
      wide = smaller(columns, end - f) == 3 ? 2 : smaller(columns, end - f);
      for (int64_t d = 0; d < s.D; d += kDotBlock) {
        const int64_t count = smaller(kDotBlock, s.D - d);
        const Dot tile{x + d,  w + f * s.D + d,
                       y + f,  a.x.row_stride,
                       s.D,    a.y.row_stride,
                       count,  bias != nullptr ? bias + f : nullptr,
                       d == 0, a.epilogue.relu && d + kDotBlock >= s.D};
        dot_function(s.N, wide)(tile);
      }
    }
  }
}

// Many rows: x is packed as if it were the filters, rows of w are broadcast, and w is read as it lies.
struct Turned {
  int64_t panels, panel_floats, tiles;
  explicit Turned(const Sizes& s)
      : panels(panel_count(s.N)),
        panel_floats(CONVOY_CPU::panel_floats(s.N, s.D)),
        tiles(divide_up(s.F, kTilePixels)) {}
};

// y[n][f] for a tile of w's rows from a panel of x's.
void turned_tile(const FcForward& a, const Sizes& s, int64_t f, int64_t end, int64_t panel,
                 const float* panels, float* own) {
  const int64_t vectors = panel_vectors(s.N, panel);
  Tile tile{};
  tile.to = own;
  tile.bias = panels + panel_offset(s.D, panel);
  tile.weights = tile.bias + vectors * kLanes;
  tile.segments = 1;
  tile.length = s.D;
  tile.weight_step = s.D * vectors * kLanes;
  tile.channels = vectors * kLanes;
  for (int64_t i = 0; i < end - f; ++i) {
    tile.x[i] = a.w.f32() + (f + i) * s.D;
    tile.y[i] = i * kPanelLanes;
  }
  tile_function(end - f, vectors, kStore)(tile);
  for (int64_t n = panel * kPanelLanes; n < smaller(s.N, (panel + 1) * kPanelLanes); ++n)
    for (int64_t i = f; i < end; ++i) {
      const float bias = a.epilogue.bias.empty() ? 0 : a.epilogue.bias.f32()[i];
      const float value = own[(i - f) * kPanelLanes + n - panel * kPanelLanes] + bias;
      a.y.f32()[n * a.y.row_stride + i] = a.epilogue.relu && value < 0 ? 0 : value;
    }
}

void turned_forward([[maybe_unused]] Exec& ex, const FcForward& a, const Sizes& s, float* panels) {
  const Turned plan(s);
  constexpr int64_t kPiece = 256;
  const int64_t pieces = divide_up(s.D, kPiece);
  // Packed x stays in the second-level cache: whole, and w is read once, or panel by panel.
  const bool whole = plan.panel_floats * 4 <= 1024 * 1024;
#pragma omp parallel num_threads(ex.threads)
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < plan.panels * pieces; ++i) {
      const int64_t first = i % pieces * kPiece;
      pack_rows(a.x.f32(), a.x.row_stride, nullptr, s.N, i / pieces, first, smaller(first + kPiece, s.D),
                panels + panel_offset(s.D, i / pieces));
    }
    float* own = panels + plan.panel_floats + kTilePixels * kPanelLanes * thread_index();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < plan.panels * plan.tiles; ++i) {
      const int64_t tile = whole ? i / plan.panels : i % plan.tiles,
                    panel = whole ? i % plan.panels : i / plan.tiles;
      turned_tile(a, s, s.F * tile / plan.tiles, s.F * (tile + 1) / plan.tiles, panel, panels, own);
    }
  }
}

}  // namespace

Support query(const FcForward& a, int threads) {
  const Sizes s{a.x.rows(), a.x.shape.row(), a.w.rows()};
  if (s.N <= kDotRows) return {};
  return {true, (Turned(s).panel_floats + threads * kTilePixels * kPanelLanes) * 4};
}

void fc_forward(Exec& ex, const FcForward& a) {
  const Sizes s = check_sizes(a.x, a.w, a.y, "x, w, y");
  check_bias(a.epilogue.bias, s.F, "bias");
  if (s.N == 0) return;
  if (s.N <= kDotRows)
    dot_forward(ex, a, s);
  else
    turned_forward(ex, a, s, check_scratch(ex, query(a, ex.threads).scratch_bytes));
}

namespace {

// dx for a few rows: a broadcast value of dy for each, times as many vectors of w as the registers hold sums
// for.
template <int Rows>
void thin_data(const FcBackwardData& a, const Sizes& s, int64_t d, int64_t end) {
  constexpr int kVectors = (kRegisters / 2) / Rows;
  const float* dy = a.dy.f32();
  const float* mask = a.mask.empty() ? nullptr : a.mask.f32();
  float* dx = a.dx.f32();
  for (; d < end; d += kVectors * kLanes) {
    const float* w = a.w.f32() + d;
    const auto run = [&](auto read, auto write) {
      Vec sum[Rows][kVectors] = {};
      for (int64_t f = 0; f < s.F; ++f) {
        Vec b[kVectors];
        CONVOY_UNROLL
        for (int v = 0; v < kVectors; ++v) b[v] = read(w + f * s.D, v);
        CONVOY_UNROLL
        for (int n = 0; n < Rows; ++n) {
          const Vec value = broadcast_load(dy + n * a.dy.row_stride + f);
          CONVOY_UNROLL
          for (int v = 0; v < kVectors; ++v) sum[n][v] = multiply_add(value, b[v], sum[n][v]);
        }
      }
      CONVOY_UNROLL
      for (int n = 0; n < Rows; ++n) CONVOY_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        if (mask != nullptr) sum[n][v] = where_positive(read(mask + n * a.mask.row_stride + d, v), sum[n][v]);
        write(dx + n * a.dx.row_stride + d, v, sum[n][v]);
      }
    };
    const auto lanes = [&](int v) { return larger(0, smaller(kLanes, end - d - v * kLanes)); };
    if (end - d >= kVectors * kLanes)
      run([](const float* p, int v) { return load(p + v * kLanes); },
          [](float* p, int v, Vec value) { store(p + v * kLanes, value); });
    else
      run([&](const float* p, int v) { return load_first(p + v * kLanes, lanes(v)); },
          [&](float* p, int v, Vec value) { store_first(p + v * kLanes, value, lanes(v)); });
  }
}

// dx for many rows: a panel of w, packed once, serves all of them.
void panel_data(const FcBackwardData& a, const Sizes& s, int64_t d, float* panel) {
  const int64_t lanes = smaller(kPanelLanes, s.D - d), vectors = divide_up(lanes, kLanes);
  const float* w = a.w.f32() + d;
  for (int64_t v = 0; v < vectors; ++v) store(panel + v * kLanes, Vec{});
  for (int64_t f = 0; f < s.F; ++f)
    for (int64_t v = 0; v < vectors; ++v)
      store(panel + ((1 + f) * vectors + v) * kLanes,
            load_first(w + f * s.D + v * kLanes, smaller(kLanes, lanes - v * kLanes)));
  const bool masked = !a.mask.empty();
  Tile tile{};
  // Offsets of the mask's rows and of dx's rows differ when they are columns of different matrices.
  const bool together = masked && a.mask.row_stride == a.dx.row_stride;
  tile.to = a.dx.f32();
  tile.mask = together ? a.mask.f32() : nullptr;
  tile.bias = panel;
  tile.weights = panel + vectors * kLanes;
  tile.segments = 1;
  tile.length = s.F;
  tile.weight_step = s.F * vectors * kLanes;
  tile.channels = lanes;
  const Finish finish = lanes < vectors * kLanes ? kPartial : together ? kMask : kStore;
  for (int64_t n = 0, rows; n < s.N; n += rows) {
    rows = smaller(kTilePixels, divide_up(s.N - n, divide_up(s.N - n, kTilePixels)));
    for (int64_t i = 0; i < rows; ++i) {
      tile.x[i] = a.dy.f32() + (n + i) * a.dy.row_stride;
      tile.y[i] = (n + i) * a.dx.row_stride + d;
    }
    tile_function(rows, vectors, finish)(tile);
    if (masked && !together)
      for (int64_t i = n; i < n + rows; ++i)
        for (int64_t j = d; j < d + lanes; ++j)
          if (a.mask.f32()[i * a.mask.row_stride + j] <= 0) tile.to[i * a.dx.row_stride + j] = 0;
  }
}

}  // namespace

Support query(const FcBackwardData& a, int threads) {
  return {true, a.dy.rows() > kThinRows ? threads * (1 + a.dy.shape.row()) * kPanelLanes * 4 : 0};
}

void fc_backward_data(Exec& ex, const FcBackwardData& a) {
  if (a.dx.empty()) return;
  const Sizes s = check_sizes(a.dx, a.w, a.dy, "dx, w, dy");
  CONVOY_CHECK(a.mask.empty() || (a.mask.rows() == s.N && a.mask.shape.row() == s.D), "mask is ",
               a.mask.shape, ", dx ", a.dx.shape);
  const int64_t own = (1 + s.F) * kPanelLanes;
  float* panels = check_scratch(ex, query(a, ex.threads).scratch_bytes);
  if (s.N > kThinRows) {
#pragma omp parallel for num_threads(ex.threads) schedule(static)
    for (int64_t d = 0; d < s.D; d += kPanelLanes) panel_data(a, s, d, panels + own * thread_index());
  } else if (s.N > 0) {
    // Whole kilobytes of every row of w at a time.
    constexpr int64_t kPiece = kRegisters / 2 * kLanes;
#pragma omp parallel for num_threads(ex.threads) schedule(static)
    for (int64_t d = 0; d < s.D; d += kPiece) {
      const int64_t end = smaller(s.D, d + kPiece);
      if (s.N == 1) thin_data<1>(a, s, d, end);
      if (s.N == 2) thin_data<2>(a, s, d, end);
      if (s.N == 3) thin_data<3>(a, s, d, end);
      if (s.N == 4) thin_data<4>(a, s, d, end);
    }
  }
}

Support query(const FcBackwardWeights& a, int threads) {
  return {true, threads * smaller(a.x.rows(), kWeightsRows) * kOuterLanes * 4};
}

void fc_backward_weights(Exec& ex, const FcBackwardWeights& a) {
  const Sizes s = check_sizes(a.x, a.dw, a.dy, "x, dw, dy");
  check_bias(a.db, s.F, "db");
  const float* x = a.x.f32();
  const float* dy = a.dy.f32();
  float* dw = a.dw.f32();
  const int64_t tiles = divide_up(s.F, kOuterRows);
  const int64_t panels = divide_up(s.D, kOuterLanes);
  const int64_t own = smaller(s.N, kWeightsRows) * kOuterLanes;
  float* scratch = check_scratch(ex, query(a, ex.threads).scratch_bytes);
#pragma omp parallel num_threads(ex.threads)
  {
    float* packed = scratch + own * thread_index();
#pragma omp for schedule(static) nowait
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t d = panel * kOuterLanes, lanes = smaller(kOuterLanes, s.D - d);
      for (int64_t n = 0; n == 0 || n < s.N; n += kWeightsRows) {
        const int64_t rows = smaller(kWeightsRows, s.N - n);
        // Rows of x a power of two apart would evict one another.
        for (int64_t i = 0; i < rows; ++i)
          for (int64_t j = 0; j < lanes; j += kLanes)
            store(packed + i * kOuterLanes + j,
                  load_first(x + (n + i) * a.x.row_stride + d + j, smaller(kLanes, lanes - j)));
        Outer o{};
        o.a = {nullptr, 0, 0, a.dy.row_stride};
        o.b = {packed, 0, 0, kOuterLanes};
        o.images = o.rows = 1;
        o.columns = rows;
        o.to_row = s.D;
        o.lanes = lanes;
        o.overwrite = a.overwrite && n == 0;
        for (int64_t i = 0; i < tiles; ++i) {
          const int64_t f = s.F * i / tiles, end = s.F * (i + 1) / tiles;
          o.a.data = dy + n * a.dy.row_stride + f;
          o.to = dw + f * s.D + d;
          outer_sum(o, end - f);
        }
      }
    }
    if (!a.db.empty()) {
      float* db = a.db.f32();
#pragma omp for schedule(static)
      for (int64_t f = 0; f < s.F; f += kLanes) {
        const int64_t lanes = smaller(kLanes, s.F - f);
        Vec sum = a.overwrite ? Vec{} : load_first(db + f, lanes);
        for (int64_t n = 0; n < s.N; ++n) sum += load_first(dy + n * a.dy.row_stride + f, lanes);
        store_first(db + f, sum, lanes);
      }
    }
  }
}

}  // namespace convoy::CONVOY_CPU
