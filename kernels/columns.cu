#include "kernels/columns.h"
#include "kernels/each.cuh"

namespace convoy::cuda {
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

// Some of a matrix's columns, [first, first + width) of `pitch`, and a block of its own of them, [rows, width],
// `offset` elements from where the blocks begin.
struct Part {
  int64_t first, width, offset;
};
constexpr int kParts = 32;  // of a launch: they are parameters of the kernel
struct Parts {
  Part part[kParts];
};

// Blocks (i, r) copy part r between the matrix and its block. Elements are units of up to 16 bytes.
template <bool to_blocks, class Unit>
__global__ void __launch_bounds__(kEachThreads)
    copy_kernel(int64_t rows, int64_t pitch, Parts parts, const Unit* from, Unit* to) {
  const Part& part = parts.part[blockIdx.y];
  const int64_t count = rows * part.width, step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t e = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; e < count; e += step) {
    const int64_t row = e / part.width, column = e - row * part.width;
    const int64_t whole = row * pitch + part.first + column, own = part.offset + e;
    to[to_blocks ? own : whole] = from[to_blocks ? whole : own];
  }
}

template <class Unit>
struct Embed {
  int64_t pitch, first, width;
  const Unit* y;
  Unit* x;
  __device__ void operator()(int64_t e) const {
    const int64_t row = e / pitch, column = e - row * pitch - first;
    x[e] = column >= 0 && column < width ? y[row * width + column] : Unit{};
  }
};

// f(unit, bytes) with the largest unit that divides every one of the extents (in bytes) and the addresses.
template <class F, class... Pointers>
void with_unit(int64_t extents, const F& f, Pointers... pointers) {
  const auto fits = [&](int64_t bytes) { return extents % bytes == 0 && aligned(bytes, pointers...); };
  if (fits(16)) return f(Pack<uint32_t, 4>());
  if (fits(8)) return f(Pack<uint32_t, 2>());
  if (fits(4)) return f(Pack<uint32_t, 1>());
  f(Pack<uint16_t, 1>());
}

// What divides all extents divides their union of bits, where it is a power of two.
int64_t common(const Parts& parts, int count, int64_t pitch) {
  int64_t bits = pitch;
  for (int r = 0; r < count; ++r) bits |= parts.part[r].first | parts.part[r].width | parts.part[r].offset;
  return bits;
}

template <bool to_blocks>
void copy_parts(Exec& ex, const Matrix& m, Parts parts, int count, int64_t element_bytes, const void* from,
                void* to) {
  with_unit(
      common(parts, count, m.columns) * element_bytes,
      [&](auto unit) {
        using Unit = decltype(unit);
        const auto units = [&](int64_t elements) {
          return elements * element_bytes / static_cast<int64_t>(sizeof(Unit));
        };
        int64_t widest = 0;
        for (int r = 0; r < count; ++r) {
          Part& p = parts.part[r];
          p = {units(p.first), units(p.width), units(p.offset)};
          widest = p.width > widest ? p.width : widest;
        }
        if (m.rows * widest == 0) return;
        const dim3 grid(each_grid(m.rows * widest).x, static_cast<unsigned>(count));
        CONVOY_LAUNCH((copy_kernel<to_blocks, Unit>), grid, dim3(kEachThreads), 0, stream(ex), m.rows,
                      units(m.columns), parts, static_cast<const Unit*>(from), static_cast<Unit*>(to));
        CONVOY_CUDA(cudaGetLastError());
      },
      from, to);
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

// Both are checked to hold the same type, which is all that matters of it.
int64_t checked_types(const In& whole, const char* name, const In& part, const char* part_name) {
  with_float(whole.dtype, [&](auto zero) {
    operand<decltype(zero)>(whole, whole.shape, name);
    operand<decltype(zero)>(part, part.shape, part_name);
  });
  return dtype_bytes(whole.dtype);
}

template <bool to_blocks>
void copy_blocks(Exec& ex, const Matrix& m, const std::vector<int64_t>& widths, int64_t element_bytes,
                 const void* from, void* to) {
  Parts parts{};
  int count = 0;
  int64_t first = 0;
  for (size_t r = 0; r < widths.size(); ++r) {
    parts.part[count++] = {first, widths[r], m.rows * first};
    first += widths[r];
    if (count < kParts && r + 1 < widths.size()) continue;
    copy_parts<to_blocks>(ex, m, parts, count, element_bytes, from, to);
    count = 0;
  }
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
  const int64_t bytes = checked_types(a.y, "y", a.blocks, "blocks");
  copy_blocks<false>(ex, m, *a.widths, bytes, a.blocks.data, a.y.data);
}

void columns_scatter(Exec& ex, const ColumnsScatter& a) {
  const Matrix m = checked_blocks(a.x, a.blocks, a.widths);
  const int64_t bytes = checked_types(a.x, "x", a.blocks, "blocks");
  copy_blocks<true>(ex, m, *a.widths, bytes, a.x.data, a.blocks.data);
}

void columns_slice(Exec& ex, const ColumnsSlice& a) {
  const Matrix m = checked_range(a.x, a.y, a.first);
  const int64_t bytes = checked_types(a.x, "x", a.y, "y");
  Parts parts{};
  parts.part[0] = {a.first, matrix(a.y.shape, "y").columns, 0};
  copy_parts<true>(ex, m, parts, 1, bytes, a.x.data, a.y.data);
}

void columns_embed(Exec& ex, const ColumnsEmbed& a) {
  const Matrix m = checked_range(a.x, a.y, a.first);
  const int64_t bytes = checked_types(a.x, "x", a.y, "y"), width = matrix(a.y.shape, "y").columns;
  with_unit((m.columns | width | a.first) * bytes,
            [&](auto unit) {
              using Unit = decltype(unit);
              const int64_t unit_bytes = sizeof(Unit);
              each(ex, a.x.bytes() / unit_bytes,
                   Embed<Unit>{m.columns * bytes / unit_bytes, a.first * bytes / unit_bytes,
                               width * bytes / unit_bytes, reinterpret_cast<const Unit*>(a.y.data),
                               reinterpret_cast<Unit*>(a.x.data)});
            },
            a.y.data, a.x.data);
}

}  // namespace convoy::cuda
