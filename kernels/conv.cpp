// Forward and backward data: packing of the filters, then correlations (correlate.h).
#include "kernels/conv.h"

#include <algorithm>

#include "kernels/conv_check.h"
#include "kernels/conv_pool.h"
#include "kernels/correlate.h"
#include "kernels/cpu.h"

namespace convoy::CONVOY_CPU {
namespace {

// Where filters outweigh the images, every thread packs the panels that it computes, one after the other into
// the same place, which stays in its second-level cache. Else all are packed once, for all threads.
bool own_panels(int64_t images, int64_t filters, int64_t panels, int threads) {
  return filters > images && (panels % threads == 0 || panels >= 8 * threads);
}

struct ForwardPlan {
  int64_t P, Q;  // of y before the pool, without the row and column that it leaves out
  bool own;
  int64_t D, panels, panel_bytes, image_bytes, row_bytes, scratch_bytes;
  Blocks blocks;
};

ForwardPlan plan_forward(const ConvForward& a, int threads) {
  const ConvShape& s = a.shape;
  const bool pooled = !a.pool_index.empty();
  ForwardPlan plan{};
  plan.P = pooled ? s.P() / 2 * 2 : s.P();
  plan.Q = pooled ? s.Q() / 2 * 2 : s.Q();
  plan.D = s.R * s.S * s.C;
  plan.panels = panel_count(s.K);
  plan.panel_bytes = panel_floats(s.K, plan.D) * 4;
  plan.own = !pooled && own_panels(s.x().count(), s.w().count(), plan.panels, threads);
  if (plan.own) plan.panel_bytes = panel_offset(plan.D, threads) * 4;
  const int64_t written = pooled ? s.K : smaller(s.K, kPanelLanes);
  plan.image_bytes = (s.H * s.W * s.C + plan.P * plan.Q * written) * 4;
  plan.blocks =
      cut_blocks(s.N, pooled ? plan.P / 2 : plan.P, plan.image_bytes, pooled ? 1 : plan.panels, threads);
  plan.scratch_bytes = plan.panel_bytes;
  if (pooled) {
    const int64_t images = (s.N + plan.blocks.groups - 1) / plan.blocks.groups;
    const int64_t rows = (plan.P / 2 + plan.blocks.bands - 1) / plan.blocks.bands * 2;
    plan.row_bytes = images * rows * plan.Q * s.K * 4;
    plan.scratch_bytes += plan.row_bytes * threads;
  }
  return plan;
}

}  // namespace

Support query(const ConvForward& a, int threads) {
  if (a.shape.K == 0) return {};
  return {true, plan_forward(a, threads).scratch_bytes};
}

void conv_forward(Exec& ex, const ConvForward& a) {
  const ConvShape& s = a.shape;
  check_shape(s);
  const bool pooled = !a.pool_index.empty();
  const Shape y_shape = pooled ? Shape{s.N, s.P() / 2, s.Q() / 2, s.K} : s.y();
  check_operand(a.x, s.x(), "x");
  check_operand(a.w, s.w(), "w");
  check_operand(a.y, y_shape, "y");
  if (pooled) check_operand(a.pool_index, y_shape, "pool_index");
  const bool biased = !a.epilogue.bias.empty();
  if (biased) check_operand(a.epilogue.bias, Shape{s.K}, "bias");
  if (s.K == 0) return;
  const ForwardPlan plan = plan_forward(a, ex.threads);
  float* panels = check_scratch(ex, plan.scratch_bytes);
  float* rows = panels + plan.panel_bytes / 4;
  const float* w = a.w.f32();
  const float* bias = biased ? a.epilogue.bias.f32() : nullptr;
  uint8_t* index = pooled ? a.pool_index.as<uint8_t>() : nullptr;
  const Correlation all{{plan.P, 0, 1, s.stride_h, -s.pad_h, s.R, s.H},
                        {plan.Q, 0, 1, s.stride_w, -s.pad_w, s.S, s.W},
                        s.C,
                        s.K,
                        a.x.f32(),
                        a.y.f32(),
                        nullptr,
                        plan.P * plan.Q * s.K,
                        plan.Q * s.K,
                        a.epilogue.relu};
  if (plan.own) {
    const Blocks blocks = cut_blocks(s.N, plan.P, plan.image_bytes, 1, 1);
#pragma omp parallel for num_threads(ex.threads) schedule(static)
    for (int64_t panel = 0; panel < plan.panels; ++panel) {
      float* packed = panels + panel_offset(plan.D, thread_index());
      pack_rows(w, plan.D, bias, s.K, panel, 0, plan.D, packed);
      for (int64_t i = 0; i < blocks.count(); ++i)
        correlate(all, panel, packed, blocks.image(i), blocks.image_end(i), blocks.row(i, plan.P),
                  blocks.row_end(i, plan.P));
    }
    return;
  }
  // Packed by several threads: pieces of about a panel of 64 rows.
  const int64_t pieces = (plan.D + 255) / 256;
  const int64_t items = plan.blocks.count() * (pooled ? 1 : plan.panels);
#pragma omp parallel num_threads(ex.threads)
  {
#pragma omp for schedule(static)
    for (int64_t i = 0; i < plan.panels * pieces; ++i) {
      const int64_t first = i % pieces * 256;
      pack_rows(w, plan.D, bias, s.K, i / pieces, first, smaller(first + 256, plan.D),
                panels + panel_offset(plan.D, i / pieces));
    }
    Correlation c = all;
    float* own = rows + plan.row_bytes / 4 * thread_index();
#pragma omp for schedule(static)
    for (int64_t i = 0; i < items; ++i) {
      const int64_t block = pooled ? i : i / plan.panels;
      const int64_t image = plan.blocks.image(block), image_end = plan.blocks.image_end(block);
      if (!pooled) {
        correlate(c, i % plan.panels, panels + panel_offset(plan.D, i % plan.panels), image, image_end,
                  plan.blocks.row(block, plan.P), plan.blocks.row_end(block, plan.P));
        continue;
      }
      const int64_t row = plan.blocks.row(block, plan.P / 2),
                    row_end = plan.blocks.row_end(block, plan.P / 2);
      c.y_image = (row_end - row) * 2 * c.y_row;
      // The block's rows lie at the start of `own`.
      c.h.first = -2 * row;
      c.y = own - image * c.y_image;
      for (int64_t panel = 0; panel < plan.panels; ++panel)
        correlate(c, panel, panels + panel_offset(plan.D, panel), image, image_end, 2 * row, 2 * row_end);
      for (int64_t n = image; n < image_end; ++n) {
        const int64_t to = (n * (plan.P / 2) + row) * (plan.Q / 2) * s.K;
        pool_2x2(c.y + n * c.y_image, row_end - row, plan.Q / 2, s.K, all.y + to, index + to);
      }
    }
  }
}

namespace {

// Backward data at a stride is one correlation for every residue of the pixel's place: pixel h receives from
// the outputs p with p·stride = h + pad - r, which needs r of one residue; along those taps, taken in falling
// order, p rises by one.
struct Phase {
  Axis axis;
  int64_t last;  // the highest tap
};

Phase phase(int64_t inputs, int64_t outputs, int64_t taps, int64_t stride, int64_t pad, int64_t residue) {
  const int64_t lowest = (residue + pad) % stride;
  const int64_t count = lowest < taps ? (taps - lowest + stride - 1) / stride : 0;
  const int64_t last = lowest + (count - 1) * stride;
  // h = residue + o·stride: p = (residue + pad - last) / stride + o, an exact division.
  const int64_t offset = count > 0 ? (residue + pad - last) / stride : 0;
  const int64_t pixels = residue < inputs ? (inputs - residue + stride - 1) / stride : 0;
  return {{pixels, residue, stride, 1, offset, count, outputs}, last};
}

// One row of a panel: the weights of filter k at a tap, c by c.
void pack_backward(const ConvShape& s, const float* w, const Phase& h, const Phase& v, int64_t panel,
                   int64_t first, int64_t end, float* to) {
  const int64_t vectors = panel_vectors(s.C, panel), c = panel * kPanelLanes;
  const bool whole = s.C - c >= vectors * kLanes;
  if (first == 0)
    for (int64_t i = 0; i < vectors; ++i) store(to + i * kLanes, Vec{});
  for (int64_t row = first; row < end;) {
    const int64_t tap = row / s.K;
    const int64_t r = h.last - tap / v.axis.taps * s.stride_h, t = v.last - tap % v.axis.taps * s.stride_w;
    int64_t k = row % s.K;
    const float* from = w + ((k * s.R + r) * s.S + t) * s.C + c;
    for (; k < s.K && row < end; ++k, ++row, from += s.R * s.S * s.C)
      for (int64_t i = 0; i < vectors; ++i)
        store(to + ((1 + row) * vectors + i) * kLanes,
              whole ? load(from + i * kLanes) : load_first(from + i * kLanes, s.C - c - i * kLanes));
  }
}

struct DataPlan {
  bool own;
  int64_t panels, panel_bytes, image_bytes;
  Blocks blocks;
};

DataPlan plan_data(const ConvShape& s, int threads) {
  DataPlan plan{false, panel_count(s.C), 0, 0, {}};
  // Every tap belongs to one phase; each phase has its row of biases.
  plan.panel_bytes = plan.panels * kPanelLanes * (s.R * s.S * s.K + s.stride_h * s.stride_w) * 4;
  plan.own = s.stride_h * s.stride_w == 1 && own_panels(s.y().count(), s.w().count(), plan.panels, threads);
  if (plan.own) plan.panel_bytes = panel_offset(s.R * s.S * s.K, threads) * 4;
  plan.image_bytes = (s.P() * s.Q() * s.K + s.H * s.W * smaller(s.C, kPanelLanes)) * 4;
  plan.blocks = cut_blocks(s.N, (s.H + s.stride_h - 1) / s.stride_h, plan.image_bytes, plan.panels, threads);
  return plan;
}

}  // namespace

Support query(const ConvBackwardData& a, int threads) {
  if (a.shape.K == 0) return {};
  return {true, plan_data(a.shape, threads).panel_bytes};
}

void conv_backward_data(Exec& ex, const ConvBackwardData& a) {
  if (a.dx.empty()) return;
  const ConvShape& s = a.shape;
  check_shape(s);
  check_operand(a.dy, s.y(), "dy");
  check_operand(a.w, s.w(), "w");
  check_operand(a.dx, s.x(), "dx");
  if (!a.mask.empty()) check_operand(a.mask, s.x(), "mask");
  float* dx = a.dx.f32();
  if (s.K == 0) {
    std::fill(dx, dx + a.dx.count(), 0.0f);
    return;
  }
  const DataPlan plan = plan_data(s, ex.threads);
  float* panels = check_scratch(ex, plan.panel_bytes);
  const float* w = a.w.f32();
  const float* dy = a.dy.f32();
  const float* mask = a.mask.empty() ? nullptr : a.mask.f32();
  if (plan.own) {
    const Blocks blocks = cut_blocks(s.N, s.H, plan.image_bytes, 1, 1);
    const int64_t rows = s.R * s.S * s.K;
    const Phase h = phase(s.H, s.P(), s.R, 1, s.pad_h, 0), v = phase(s.W, s.Q(), s.S, 1, s.pad_w, 0);
    const Correlation c{h.axis, v.axis, s.K, s.C, dy, dx, mask, s.H * s.W * s.C, s.W * s.C, false};
#pragma omp parallel for num_threads(ex.threads) schedule(static)
    for (int64_t panel = 0; panel < plan.panels; ++panel) {
      float* packed = panels + panel_offset(rows, thread_index());
      pack_backward(s, w, h, v, panel, 0, rows, packed);
      for (int64_t i = 0; i < blocks.count(); ++i)
        correlate(c, panel, packed, blocks.image(i), blocks.image_end(i), blocks.row(i, s.H),
                  blocks.row_end(i, s.H));
    }
    return;
  }
  const int64_t phases = s.stride_h * s.stride_w;
#pragma omp parallel num_threads(ex.threads)
  {
    const auto phase_h = [&](int64_t i) {
      return phase(s.H, s.P(), s.R, s.stride_h, s.pad_h, i / s.stride_w);
    };
    const auto phase_w = [&](int64_t i) {
      return phase(s.W, s.Q(), s.S, s.stride_w, s.pad_w, i % s.stride_w);
    };
    float* place = panels;
    for (int64_t i = 0; i < phases; ++i) {
      const Phase h = phase_h(i), v = phase_w(i);
      const int64_t rows = h.axis.taps * v.axis.taps * s.K;
      const int64_t pieces = rows / 256 + 1;
#pragma omp for schedule(static) nowait
      for (int64_t j = 0; j < plan.panels * pieces; ++j) {
        const int64_t first = j % pieces * 256;
        pack_backward(s, w, h, v, j / pieces, first, smaller(first + 256, rows),
                      place + panel_offset(rows, j / pieces));
      }
      place += panel_floats(s.C, rows);
    }
#pragma omp barrier
#pragma omp for schedule(static)
    for (int64_t i = 0; i < plan.blocks.count() * plan.panels; ++i) {
      const int64_t block = i / plan.panels;
      const float* packed = panels;
      for (int64_t j = 0; j < phases; ++j) {
        const Phase h = phase_h(j), v = phase_w(j);
        const Correlation c{h.axis, v.axis, s.K, s.C, dy, dx, mask, s.H * s.W * s.C, s.W * s.C, false};
        const int64_t rows = h.axis.taps * v.axis.taps * s.K;
        correlate(c, i % plan.panels, packed + panel_offset(rows, i % plan.panels), plan.blocks.image(block),
                  plan.blocks.image_end(block), plan.blocks.row(block, h.axis.outputs),
                  plan.blocks.row_end(block, h.axis.outputs));
        packed += panel_floats(s.C, rows);
      }
    }
  }
}

}  // namespace convoy::CONVOY_CPU
