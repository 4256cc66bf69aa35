#include "kernels/columns.h"
#include "reference.h"

namespace convoy::reference {
namespace {

using Widths = std::vector<int64_t>;

// Whole numbers that say where they stand; as 16 bits, up to the largest that bf16 has all below.
Array places(const Shape& shape, DType dtype = DType::kF32) {
  Array a(dtype, shape);
  a.each([&](int64_t i) { return static_cast<double>(dtype == DType::kF32 ? i + 1 : i % 255 + 1); });
  return a;
}
Want want(const Doubles& values) {
  Want w;
  w.values = values;
  return w;
}

struct Problem {
  Shape shape;  // of the matrix, or images
  Widths widths;
};
const std::vector<Problem> kProblems = {
    {{3, 7}, {3, 3, 1}},
    {{5, 1}, {0, 1, 0}},
    {{1, 9}, {9}},
    {{4, 6}, {0, 0, 6, 0}},
    {{257, 33}, {17, 0, 15, 1}},
    {{1000, 100}, {12, 13, 12, 13, 12, 13, 12, 13}},
    {{2, 3, 5, 11}, {4, 4, 3}},
    {{13, 8, 8, 64}, {21, 21, 22}},
    {{2, 20000}, {10001, 9999}},
    {{3, 70}, Widths(70, 1)},  // more workers than a launch has room for
    {{3, 528}, Widths(33, 16)},
    {{5, 48}, {8, 24, 16}},
    {{0, 7}, {3, 4}},
    {{5, 0}, {0, 0}},
    {{5, 0}, {}},
    {{0, 4, 4, 6}, {6, 0}},
};
int64_t columns(const Shape& s) {
  return s[s.rank - 1];
}
int64_t rows(const Shape& s) {
  return columns(s) == 0 ? 0 : s.count() / columns(s);
}
std::string name(const char* operation, const Problem& p) {
  std::string out = text(operation, " ", p.shape, " widths");
  for (const int64_t width : p.widths) out += text(" ", width);
  return out;
}

// The blocks of x, one behind the other.
Doubles blocks_of(const Array& x, const Widths& widths) {
  Doubles out;
  int64_t first = 0;
  for (const int64_t width : widths) {
    for (int64_t i = 0; i < rows(x.shape()); ++i)
      for (int64_t j = 0; j < width; ++j) out.push_back(x.value(i * columns(x.shape()) + first + j));
    first += width;
  }
  return out;
}

TEST(Columns, GatherAndScatter) {
  for_every_dtype([](DType dtype) {
    for (const Problem& p : kProblems) {
      const Array x = places(p.shape, dtype);
      const Doubles expected = blocks_of(x, p.widths);
      Array blocks(dtype, {x.count()}), y(dtype, p.shape);
      check_everywhere(name("columns_scatter", p), {{"blocks", &blocks, want(expected)}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, columns_scatter, ColumnsScatter{x.view(), blocks.view(), &p.widths});
      });
      check_everywhere(name("columns_gather", p), {{"y", &y, want(x.values())}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, columns_gather, ColumnsGather{blocks.view(), y.view(), &p.widths});
      });
    }
  });
}

TEST(Columns, SliceAndEmbed) {
  for_every_dtype([](DType dtype) {
    for (const Problem& p : kProblems) {
      const Array x = places(p.shape, dtype);
      int64_t first = 0;
      for (const int64_t width : p.widths) {
        Shape part = p.shape;
        part.dim[static_cast<size_t>(part.rank - 1)] = width;
        Array y(dtype, part), whole(dtype, p.shape);
        Doubles own, embedded;
        for (int64_t i = 0; i < x.count(); ++i) {
          const int64_t j = i % columns(p.shape);
          const bool mine = j >= first && j < first + width;
          if (mine) own.push_back(x.value(i));
          embedded.push_back(mine ? x.value(i) : 0);
        }
        check_everywhere(name("columns_slice", p), {{"y", &y, want(own)}}, [&](Exec& ex) {
          CONVOY_INVOKE(ex, columns_slice, ColumnsSlice{x.view(), y.view(), first});
        });
        check_everywhere(name("columns_embed", p), {{"x", &whole, want(embedded)}}, [&](Exec& ex) {
          CONVOY_INVOKE(ex, columns_embed, ColumnsEmbed{y.view(), whole.view(), first});
        });
        first += width;
      }
    }
  });
}

// Widths of whole vectors, at addresses that are not.
TEST(Columns, AnyAlignment) {
  for_every_dtype([](DType dtype) {
    const Shape shape{5, 48}, part{5, 16};
    const Array x = places({1 + shape.count()}, dtype);
    Array y(dtype, {1 + part.count()}), whole(dtype, {1 + shape.count()});
    Doubles own = {7}, embedded = {7};
    for (int64_t i = 0; i < shape.count(); ++i) {
      const bool mine = i % 48 >= 16 && i % 48 < 32;
      if (mine) own.push_back(x.value(1 + i));
      embedded.push_back(mine ? x.value(1 + i) : 0);
    }
    check_everywhere(
        text("columns ", dtype_name(dtype), " unaligned"),
        {{"y", &y, want(own), {7}}, {"x", &whole, want(embedded), {7}}}, [&](Exec& ex) {
          const View columns_of = behind(y, 1, part);
          CONVOY_INVOKE(ex, columns_slice, ColumnsSlice{behind(x, 1, shape), columns_of, 16});
          CONVOY_INVOKE(ex, columns_embed, ColumnsEmbed{columns_of, behind(whole, 1, shape), 16});
        });
  });
}

TEST(Columns, Errors) {
  const Array x = places({4, 6}), wide = Array(DType::kF32, {4, 6}, 9), part = places({4, 2}),
              part5 = places({5, 2}), flat = places({24}), flat23 = places({23}), bytes(DType::kU8, {4, 6});
  const Widths good = {2, 4}, few = {2, 3}, negative = {8, -2};
  const auto both = [](const char* reason, const View& matrix, const View& blocks, const Widths* widths) {
    expect_error(reason, [&](Exec& ex) { ex.backend->columns_gather(ex, {blocks, matrix, widths}); });
    expect_error(reason, [&](Exec& ex) { ex.backend->columns_scatter(ex, {matrix, blocks, widths}); });
  };
  both("no widths", x.view(), flat.view(), nullptr);
  both("the blocks have 5 columns, the matrix 6", x.view(), flat.view(), &few);
  both("a block of -2 columns", x.view(), flat.view(), &negative);
  both("blocks is 23", x.view(), flat23.view(), &good);
  both("expected rows x columns", flat.view(), flat.view(), &good);
  both("rows 9 apart", wide.view(), flat.view(), &good);
  both("holds u8", bytes.view(), flat.view(), &good);
  const auto range = [](const char* reason, const View& matrix, const View& columns_of, int64_t first) {
    expect_error(reason, [&](Exec& ex) { ex.backend->columns_slice(ex, {matrix, columns_of, first}); });
    expect_error(reason, [&](Exec& ex) { ex.backend->columns_embed(ex, {columns_of, matrix, first}); });
  };
  range("columns 5+2 of x", x.view(), part.view(), 5);
  range("columns -1+2 of x", x.view(), part.view(), -1);
  range("y is 5x2", x.view(), part5.view(), 0);
  range("expected rows x columns", x.view(), flat.view(), 0);
}

}  // namespace
}  // namespace convoy::reference
