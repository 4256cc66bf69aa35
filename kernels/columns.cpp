#include "kernels/columns.h"

#include <algorithm>
#include <cstring>

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {
namespace {

struct Matrix {
  int64_t rows, columns;
};
Matrix matrix(const Shape& s, const char* name) {
  CONVOY_CHECK(s.rank >= 2, name, " is ", s, ", expected rows x columns or images");
  int64_t rows = 1;
  for (int i = 0; i + 1 < s.rank; ++i) rows *= s[i];
  return {rows, s[s.rank - 1]};
}

// body(i) for every row, many rows an item.
template <class Body>
void for_rows(const Exec& ex, const Matrix& m, const Body& body) {
  if (m.rows == 0 || m.columns == 0) return;
  const int64_t each = divide_up(kChunk, m.columns);
  for_items(ex, divide_up(m.rows, each), m.rows * m.columns, [&](int64_t item) {
    for (int64_t i = item * each; i < smaller(m.rows, (item + 1) * each); ++i) body(i);
  });
}

void copy_floats(float* to, const float* from, int64_t count) {
  std::memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
}

Matrix checked_blocks(const In& whole, const In& blocks, const std::vector<int64_t>* widths) {
  const Matrix m = matrix(whole.shape, "the matrix");
  CONVOY_CHECK(widths != nullptr, "no widths");
  int64_t sum = 0;
  for (const int64_t width : *widths) {
    CONVOY_CHECK(width >= 0, "a block of ", width, " columns");
    sum += width;
  }
  CONVOY_CHECK(sum == m.columns, "the blocks have ", sum, " columns, the matrix ", m.columns);
  CONVOY_CHECK(blocks.count() == whole.count(), "blocks is ", blocks.shape, ", the matrix ", whole.shape);
  return m;
}

Matrix checked_range(const In& whole, const In& part, int64_t first) {
  const Matrix m = matrix(whole.shape, "x"), p = matrix(part.shape, "y");
  CONVOY_CHECK(p.rows == m.rows && first >= 0 && first + p.columns <= m.columns, "y is ", part.shape,
               ", columns ", first, "+", p.columns, " of x, which is ", whole.shape);
  return m;
}

}  // namespace

void columns_gather(Exec& ex, const ColumnsGather& a) {
  const Matrix m = checked_blocks(a.y, a.blocks, a.widths);
  const float* blocks = input(a.blocks, a.blocks.shape, "blocks");
  float* y = output(a.y, a.y.shape, "y");
  for_rows(ex, m, [&](int64_t i) {
    int64_t first = 0;
    for (const int64_t width : *a.widths) {
      copy_floats(y + i * m.columns + first, blocks + m.rows * first + i * width, width);
      first += width;
    }
  });
}

void columns_scatter(Exec& ex, const ColumnsScatter& a) {
  const Matrix m = checked_blocks(a.x, a.blocks, a.widths);
  const float* x = input(a.x, a.x.shape, "x");
  float* blocks = output(a.blocks, a.blocks.shape, "blocks");
  for_rows(ex, m, [&](int64_t i) {
    int64_t first = 0;
    for (const int64_t width : *a.widths) {
      copy_floats(blocks + m.rows * first + i * width, x + i * m.columns + first, width);
      first += width;
    }
  });
}

void columns_slice(Exec& ex, const ColumnsSlice& a) {
  const int64_t C = checked_range(a.x, a.y, a.first).columns;
  const float* x = input(a.x, a.x.shape, "x");
  float* y = output(a.y, a.y.shape, "y");
  const Matrix part = matrix(a.y.shape, "y");
  for_rows(ex, part,
           [&](int64_t i) { copy_floats(y + i * part.columns, x + i * C + a.first, part.columns); });
}

void columns_embed(Exec& ex, const ColumnsEmbed& a) {
  const Matrix m = checked_range(a.x, a.y, a.first);
  const float* y = input(a.y, a.y.shape, "y");
  float* x = output(a.x, a.x.shape, "x");
  const int64_t width = a.y.shape[a.y.shape.rank - 1], last = a.first + width;
  for_rows(ex, m, [&](int64_t i) {
    float* to = x + i * m.columns;
    std::fill(to, to + a.first, 0.0f);
    if (width > 0) copy_floats(to + a.first, y + i * width, width);
    std::fill(to + last, to + m.columns, 0.0f);
  });
}

}  // namespace convoy::CONVOY_CPU
