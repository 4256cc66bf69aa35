#include "kernels/conv.h"
#include "kernels/conv_fold.h"
#include "kernels/conv_hopper_weights.h"
#include "reference.h"

namespace convoy::reference {
namespace {

// N, H, W, C, K, R, S, stride h and w, pad h and w.
const std::vector<ConvShape> kShapes = {
    {1, 1, 1, 1, 1, 1, 1},
    {2, 5, 5, 3, 4, 1, 1},
    {3, 4, 7, 17, 5, 1, 1},
    {2, 8, 8, 64, 32, 1, 1},
    {4, 9, 9, 16, 33, 1, 1, 2, 2},
    {2, 7, 7, 48, 64, 1, 1, 2, 2},
    {1, 3, 3, 1, 1, 3, 3},
    {1, 3, 3, 1, 2, 3, 3, 1, 1, 1, 1},
    {2, 28, 28, 1, 32, 3, 3},
    {1, 32, 32, 3, 32, 3, 3, 1, 1, 1, 1},
    {5, 16, 16, 3, 31, 3, 3, 1, 1, 1, 1},
    {2, 16, 16, 32, 64, 3, 3, 1, 1, 1, 1},
    {9, 8, 8, 16, 32, 3, 3, 1, 1, 1, 1},
    {8, 4, 4, 64, 48, 3, 3, 1, 1, 1, 1},
    {7, 2, 2, 33, 65, 3, 3, 1, 1, 1, 1},
    {6, 1, 1, 17, 16, 3, 3, 1, 1, 1, 1},
    {3, 6, 5, 5, 7, 3, 3, 1, 1, 1, 1},
    {2, 13, 11, 17, 33, 3, 3, 1, 1, 1, 1},
    {2, 11, 13, 33, 17, 3, 3},
    {1, 24, 26, 32, 1, 3, 3},
    {1, 17, 9, 1, 100, 3, 3, 1, 1, 1, 1},
    {4, 16, 16, 16, 32, 3, 3, 2, 2, 1, 1},
    {3, 9, 10, 5, 33, 3, 3, 2, 2, 1, 1},
    {2, 7, 15, 3, 8, 3, 3, 2, 1, 1, 0},
    {2, 12, 12, 6, 16, 5, 5},
    {1, 14, 14, 17, 20, 5, 5, 1, 1, 2, 2},
    {3, 27, 27, 16, 24, 5, 5, 1, 1, 2, 2},
    {1, 32, 32, 3, 16, 7, 7, 2, 2, 3, 3},
    {2, 21, 19, 3, 17, 7, 7, 2, 2, 3, 3},
    {1, 35, 35, 3, 64, 11, 11, 4, 4, 2, 2},
    {2, 23, 27, 3, 9, 11, 11, 4, 4, 2, 2},
    {2, 9, 8, 4, 6, 1, 7, 1, 1, 0, 3},
    {2, 8, 9, 5, 16, 7, 1, 1, 1, 3, 0},
    {3, 10, 7, 3, 5, 2, 4, 3, 2, 1, 2},
    {2, 5, 40, 16, 16, 5, 3, 1, 1, 0, 1},
    {2, 40, 3, 8, 16, 3, 3, 1, 1, 1, 0},
    {4, 3, 3, 20, 30, 2, 2, 1, 1, 1, 1},
    {2, 8, 8, 3, 5, 2, 2, 3, 3},
    {1, 6, 6, 130, 70, 3, 3, 1, 1, 1, 1},
    {13, 8, 8, 5, 9, 3, 3, 1, 1, 1, 1},
    {1, 64, 64, 3, 12, 3, 3, 1, 1, 1, 1},
    {0, 8, 8, 4, 8, 3, 3, 1, 1, 1, 1},
};
// What the GPU's kernels tell apart. Whole pieces of 8 channels: tails, several depths, strides, chunks of pixels in
// backward weights, and (the last) the largest tiles of each pass.
const std::vector<ConvShape> kAligned = {
    {1, 5, 5, 8, 8, 1, 1},
    {2, 5, 7, 24, 16, 3, 3, 1, 1, 1, 1},
    {1, 5, 5, 64, 32, 3, 3, 1, 1, 1, 1},
    {3, 7, 7, 16, 24, 3, 3, 2, 2, 1, 1},
    {2, 8, 8, 8, 72, 1, 1, 2, 2},
    {1, 9, 11, 8, 8, 5, 3, 2, 3, 2, 1},
    {2, 16, 15, 8, 16, 1, 1},
    {4, 10, 13, 8, 8, 1, 1},
    {2, 16, 16, 104, 72, 1, 1},
};
// Other channels: images of three, odd ones, one of the two aligned.
const std::vector<ConvShape> kGathered = {
    {1, 1, 1, 1, 1, 1, 1},
    {1, 7, 8, 3, 16, 3, 3, 1, 1, 1, 1},
    {1, 14, 14, 3, 8, 7, 7, 2, 2, 3, 3},
    {1, 15, 13, 3, 9, 11, 11, 4, 4, 2, 2},
    {2, 5, 6, 5, 7, 3, 3, 1, 1, 1, 1},
    {1, 5, 7, 8, 65, 3, 2, 1, 1, 1, 1},
    {1, 6, 5, 33, 16, 3, 3, 2, 2, 1, 1},
    {2, 16, 16, 3, 12, 1, 1},
    {2, 16, 15, 4, 10, 1, 1},
    {2, 4, 4, 12, 20, 2, 2, 3, 3},
    {0, 8, 8, 8, 8, 3, 3, 1, 1, 1, 1},
    {2, 4, 4, 8, 0, 3, 3, 1, 1, 1, 1},
};

// What Hopper's kernels tell apart: several tiles a block, tiles over rows and images, tails in every dimension, strides
// and phases, many taps, sums of several chunks of the depth.
const std::vector<ConvShape> kHopper = {
    {1, 12, 12, 64, 64, 3, 3, 1, 1, 1, 1},
    {3, 10, 11, 64, 128, 3, 3, 1, 1, 1, 1},
    {2, 17, 20, 64, 136, 1, 1},
    {5, 16, 16, 40, 40, 1, 1},
    {2, 9, 9, 128, 80, 3, 3, 2, 2, 1, 1},
    {1, 13, 10, 48, 40, 5, 5, 1, 1, 2, 2},
    {1, 18, 17, 64, 64, 11, 11, 4, 4, 2, 2},
    {2, 7, 7, 104, 256, 1, 1, 2, 2},
    {1, 9, 13, 40, 10, 3, 2, 1, 1, 0, 1},
    {1, 9, 10, 64, 48, 7, 7, 2, 2, 3, 3},
    {1, 5, 6, 256, 192, 3, 3, 1, 1, 1, 1},
    {2, 12, 8, 64, 64, 2, 4, 3, 2, 1, 2},
    {3, 1, 1, 64, 64, 3, 3, 1, 1, 1, 1},
    {2, 40, 3, 64, 64, 3, 1, 8, 1, 1, 0},
    {1, 20, 4, 64, 64, 1, 1, 9, 1},
};

// body(shape) for each of them in the dtype, where a backend takes it. The emulator computes whole tiles, and leaves
// out those of more than 1e6 / share products.
template <class Body>
void for_every(DType dtype, const std::vector<ConvShape>& shapes, double share, const Body& body) {
  test_dtype() = dtype;
  for (const ConvShape& s : shapes) {
    const auto tiles = [](int64_t extent, int64_t tile) {
      return static_cast<double>((extent + tile - 1) / tile * tile);
    };
    test_work() = share * tiles(s.N * s.P() * s.Q(), 64) * tiles(s.K, 64) * tiles(s.R * s.S * s.C, 32);
    bool taken = false;
    for (const Backend* backend : test_backends()) taken = taken || !left_out(*backend);
    if (taken) body(s);
  }
  test_dtype() = DType::kF32;
  test_work() = 0;
}
template <class Body>
void for_every_shape(bool whole, const Body& body) {
  for (const auto* shapes : {&kShapes, &kAligned, &kGathered}) for_every(DType::kF32, *shapes, 4, body);
  for_every(DType::kBF16, kAligned, whole ? 0 : 4, body);
  for_every(DType::kBF16, kGathered, 4, body);
  for_every(DType::kF16, kAligned, 4, body);
  for_every(DType::kF16, kGathered, whole ? 0 : 4, body);
  if (may_be_hopper()) for_every(whole ? DType::kBF16 : DType::kF16, kHopper, 0, body);
}

std::string name(const char* operation, const ConvShape& s) {
  return text(operation, " x", s.x(), " w", s.w(), " stride ", s.stride_h, "x", s.stride_w, " pad ", s.pad_h,
              "x", s.pad_w);
}

// f(x index, w index, y index) for every product of the convolution.
template <class F>
void each_product(const ConvShape& s, const F& f) {
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t p = 0; p < s.P(); ++p)
      for (int64_t q = 0; q < s.Q(); ++q)
        for (int64_t r = 0; r < s.R; ++r)
          for (int64_t t = 0; t < s.S; ++t) {
            const int64_t h = p * s.stride_h - s.pad_h + r, w = q * s.stride_w - s.pad_w + t;
            if (h < 0 || h >= s.H || w < 0 || w >= s.W) continue;
            const int64_t x0 = ((n * s.H + h) * s.W + w) * s.C, y0 = ((n * s.P() + p) * s.Q() + q) * s.K;
            for (int64_t k = 0; k < s.K; ++k)
              for (int64_t c = 0; c < s.C; ++c) f(x0 + c, ((k * s.R + r) * s.S + t) * s.C + c, y0 + k);
          }
}
std::vector<Sum> products(const ConvShape& s, const Shape& into, const Array& a, const Array& b, int pass) {
  std::vector<Sum> sums(static_cast<size_t>(into.count()));
  const Doubles first = a.values(), second = b.values();
  const double *u = first.data(), *v = second.data();
  each_product(s, [&](int64_t x, int64_t w, int64_t y) {
    if (pass == 0) sums[static_cast<size_t>(y)].add(u[x] * v[w]);
    if (pass == 1) sums[static_cast<size_t>(x)].add(u[y] * v[w]);
    if (pass == 2) sums[static_cast<size_t>(w)].add(u[x] * v[y]);
  });
  return sums;
}

// An operand in the test's dtype: whole numbers, or normal ones that it rounds.
Array operand(const Shape& shape, bool whole, int64_t magnitude, uint32_t seed) {
  const Array exact = numbers(shape, whole, magnitude, seed);
  Array a(test_dtype(), shape);
  return std::move(a.each([&](int64_t i) { return exact[i]; }));
}
// What is left of a sum of n roundings: all of it in f32, rounded once more in a result of fewer bits.
double sum_bound(const Sum& s, double n) {
  return (test_dtype() == DType::kF32 ? 1 : kTensorCore) * bound(n, s.magnitude);
}
void add_rounded(Want& want, const Sum& s, double n, bool whole) {
  const DType dtype = test_dtype();
  if (dtype == DType::kF32) return want.add(s, n, whole);
  if (whole) {
    EXPECT_FALSE(s.magnitude >= 16777216.0) << "the test's numbers are too large to be exact";
    return want.exact(from_half(dtype, to_half(dtype, s.value)));
  }
  const double before = sum_bound(s, n), smallest = dtype == DType::kF16 ? 0x1p-25 : FLT_MIN;
  want.within(s.value, before + half_unit(dtype) * (std::abs(s.value) + before) + smallest);
}

Want forward_want(const ConvShape& s, std::vector<Sum> sums, const Array* bias, bool with_relu, bool whole) {
  Want want;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (bias != nullptr) sums[i].add((*bias)[static_cast<int64_t>(i) % s.K]);
    if (with_relu) sums[i].value = relu(sums[i].value);
    add_rounded(want, sums[i], static_cast<double>(s.R * s.S * s.C + 1), whole);
  }
  return want;
}

void test_forward(const ConvShape& s, const Array& x, const Array& w, bool whole) {
  const Array bias = numbers({s.K}, whole, 5, 3);
  Array y(test_dtype(), s.y());
  const std::vector<Sum> sums = products(s, s.y(), x, w, 0);
  for (const bool with_bias : {false, true})
    for (const bool with_relu : {false, true}) {
      if (with_relu && !with_bias) continue;
      if (test_dtype() != DType::kF32 && with_relu != whole) continue;
      const Want want = forward_want(s, sums, with_bias ? &bias : nullptr, with_relu, whole);
      check_everywhere(name("conv_forward", s) + (with_bias ? " bias" : "") + (with_relu ? " relu" : ""),
                       {{"y", &y, want}}, [&](Exec& ex) {
                         ConvForward a{s, x.view(), w.view(), {}, y.view(), {}};
                         if (with_bias) a.epilogue.bias = bias.view();
                         a.epilogue.relu = with_relu;
                         CONVOY_INVOKE(ex, conv_forward, a);
                       });
    }
}

// 2x2 max pool of what forward would leave: the first maximum wins a tie, NaN wins over numbers.
void pool_want(const ConvShape& s, const Want& y, Want& pooled, Want& index) {
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t p = 0; p + 1 < s.P(); p += 2)
      for (int64_t q = 0; q + 1 < s.Q(); q += 2)
        for (int64_t k = 0; k < s.K; ++k) {
          double best = 0;
          int at = -1;
          for (int t = 0; t < 4; ++t) {
            const double v =
                y.values[static_cast<size_t>(((n * s.P() + p + t / 2) * s.Q() + q + t % 2) * s.K + k)];
            if (at >= 0 && !(v > best) && !(std::isnan(v) && !std::isnan(best))) continue;
            best = v;
            at = t;
          }
          pooled.exact(best);
          index.exact(at);
        }
}
void test_fused_pool(const ConvShape& s, const Array& x, const Array& w) {
  if (s.P() < 2 || s.Q() < 2) return;
  const Array bias = numbers({s.K}, true, 5, 3);
  const Shape pooled_shape{s.N, s.P() / 2, s.Q() / 2, s.K};
  Array y(test_dtype(), pooled_shape), index(DType::kU8, pooled_shape);
  for (const bool with_relu : {false, true}) {
    if (test_dtype() == DType::kBF16 && !with_relu) continue;
    const ConvForward a{s, x.view(), w.view(), {bias.view(), with_relu}, y.view(), index.view()};
    Want pooled, places;
    pool_want(s, forward_want(s, products(s, s.y(), x, w, 0), &bias, with_relu, true), pooled, places);
    check_everywhere(name("conv_forward pooled", s) + (with_relu ? " relu" : ""),
                     {{"y", &y, pooled}, {"index", &index, places}},
                     [&](Exec& ex) { CONVOY_INVOKE(ex, conv_forward, a); });
  }
}

void test_backward_data(const ConvShape& s, const Array& dy, const Array& w, const Array& mask, bool whole) {
  Array dx(test_dtype(), s.x());
  const std::vector<Sum> sums = products(s, s.x(), dy, w, 1);
  for (const bool masked : {false, true}) {
    if (test_dtype() != DType::kF32 && masked != whole) continue;
    Want want;
    for (size_t i = 0; i < sums.size(); ++i) {
      Sum sum = sums[i];
      if (masked && mask.value(static_cast<int64_t>(i)) <= 0) sum = Sum();
      add_rounded(want, sum, static_cast<double>(s.K * s.R * s.S), whole);
    }
    check_everywhere(name("conv_backward_data", s) + (masked ? " mask" : ""), {{"dx", &dx, want}},
                     [&](Exec& ex) {
                       ConvBackwardData a{s, dy.view(), w.view(), dx.view(), {}};
                       if (masked) a.mask = mask.view();
                       CONVOY_INVOKE(ex, conv_backward_data, a);
                     });
  }
}

void test_backward_weights(const ConvShape& s, const Array& x, const Array& dy, bool whole) {
  Array dw(DType::kF32, s.w()), db(DType::kF32, {s.K});
  const Array dw0 = numbers(s.w(), whole, 9, 5), db0 = numbers({s.K}, whole, 9, 6);
  const std::vector<Sum> weights = products(s, s.w(), x, dy, 2);
  std::vector<Sum> biases(static_cast<size_t>(s.K));
  for (int64_t i = 0; i < dy.count(); ++i) biases[static_cast<size_t>(i % s.K)].add(dy.value(i));
  const double terms = static_cast<double>(s.N * s.P() * s.Q() + 1);
  for (const bool overwrite : {true, false})
    for (const bool with_db : {true, false}) {
      if (test_dtype() != DType::kF32 && (with_db != whole || overwrite == whole)) continue;
      const auto want = [&](std::vector<Sum> sums, const Array& before) {
        Want w;
        for (size_t i = 0; i < sums.size(); ++i) {
          if (!overwrite) sums[i].add(before[static_cast<int64_t>(i)]);
          whole ? w.exact(sums[i]) : w.within(sums[i].value, sum_bound(sums[i], terms));
        }
        return w;
      };
      std::vector<Output> outputs = {{"dw", &dw, want(weights, dw0), overwrite ? Doubles() : dw0.values()}};
      if (with_db) outputs.push_back({"db", &db, want(biases, db0), overwrite ? Doubles() : db0.values()});
      check_everywhere(
          name("conv_backward_weights", s) + (overwrite ? " overwrite" : "") + (with_db ? " db" : ""),
          outputs, [&](Exec& ex) {
            ConvBackwardWeights a{s, x.view(), dy.view(), dw.view(), {}, overwrite};
            if (with_db) a.db = db.view();
            CONVOY_INVOKE(ex, conv_backward_weights, a);
          });
    }
}

struct Operands {
  Array x, w, dy;
  Operands(const ConvShape& s, bool whole)
      : x(operand(s.x(), whole, 4, 1)), w(operand(s.w(), whole, 4, 2)), dy(operand(s.y(), whole, 4, 4)) {}
};

TEST(Conv, ForwardExact) {
  for_every_shape(
      true, [](const ConvShape& s) { test_forward(s, Operands(s, true).x, Operands(s, true).w, true); });
}
TEST(Conv, ForwardRounding) {
  for_every_shape(
      false, [](const ConvShape& s) { test_forward(s, Operands(s, false).x, Operands(s, false).w, false); });
}
TEST(Conv, FusedPoolExact) {
  const auto test = [](const ConvShape& s) {
    // Few values: most windows hold ties.
    const Array x = operand(s.x(), true, 1, 1), w = operand(s.w(), true, 1, 2);
    test_fused_pool(s, x, w);
    if (x.count() > 0) x.set(x.count() / 2, NAN);
    test_fused_pool(s, x, w);
  };
  for_every(DType::kF32, kShapes, 4, test);
  for (const DType half : {DType::kBF16, DType::kF16}) {
    for_every(half, kAligned, 1, test);
    for_every(half, kGathered, 2, test);
  }
  if (may_be_hopper())
    for_every(DType::kBF16,
              {{3, 5, 7, 64, 40, 3, 3, 1, 1, 1, 1},
               {1, 20, 17, 48, 136, 1, 1},
               {2, 9, 12, 40, 10, 2, 2, 2, 3},
               {1, 4, 4, 320, 64, 3, 3, 1, 1, 1, 1}},
              0, test);
}
// Operands that are aligned to no more than their elements give what others give.
TEST(Conv, UnalignedExact) {
  const auto test = [](const ConvShape& s) {
    const Operands o(s, true);
    // The same one element further on.
    const auto moved = [](const Array& a) {
      Array to(test_dtype(), {a.count() + 1});
      for (int64_t i = 0; i < a.count(); ++i) to.set(i + 1, a.value(i));
      return to;
    };
    const auto view = [](const Array& a, const Shape& shape) {
      const View v = a.view();
      return View(v.data + dtype_bytes(v.dtype), v.dtype, shape);
    };
    const Array x = moved(o.x), w = moved(o.w), dy = moved(o.dy);
    const Array y(test_dtype(), s.y()), dx(test_dtype(), s.x()), dw(DType::kF32, s.w());
    const Array y1 = moved(y), dx1 = moved(dx), dw1(DType::kF32, {dw.count() + 1});
    for_every_table([&](Exec& ex) {
      CONVOY_INVOKE(ex, conv_forward, ConvForward{s, o.x.view(), o.w.view(), {}, y.view(), {}});
      CONVOY_INVOKE(ex, conv_backward_data,
                    ConvBackwardData{s, o.dy.view(), o.w.view(), dx.view(), o.x.view()});
      CONVOY_INVOKE(ex, conv_backward_weights,
                    ConvBackwardWeights{s, o.x.view(), o.dy.view(), dw.view(), {}, true});
      CONVOY_INVOKE(ex, conv_forward,
                    ConvForward{s, view(x, s.x()), view(w, s.w()), {}, view(y1, s.y()), {}});
      CONVOY_INVOKE(ex, conv_backward_data,
                    ConvBackwardData{s, view(dy, s.y()), view(w, s.w()), view(dx1, s.x()), view(x, s.x())});
      CONVOY_INVOKE(ex, conv_backward_weights,
                    ConvBackwardWeights{s, view(x, s.x()), view(dy, s.y()), view(dw1, s.w()), {}, true});
      const auto same = [&](const char* what, const Array& want, const Array& got) {
        for (int64_t i = 0; i < want.count(); ++i)
          ASSERT_EQ(want.value(i), got.value(i + 1)) << ex.backend->name << " " << name(what, s) << " " << i;
      };
      same("y", y, y1);
      same("dx", dx, dx1);
      same("dw", dw, dw1);
    });
  };
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for_every(dtype, {{1, 5, 6, 16, 8, 3, 3, 1, 1, 1, 1}}, 0, test);
}
TEST(Conv, BackwardDataExact) {
  for_every_shape(true, [](const ConvShape& s) {
    const Operands o(s, true);
    test_backward_data(s, o.dy, o.w, o.x, true);
  });
}
TEST(Conv, BackwardDataRounding) {
  for_every_shape(false, [](const ConvShape& s) {
    const Operands o(s, false);
    test_backward_data(s, o.dy, o.w, o.x, false);
  });
}
TEST(Conv, BackwardWeightsExact) {
  for_every_shape(true, [](const ConvShape& s) {
    const Operands o(s, true);
    test_backward_weights(s, o.x, o.dy, true);
  });
}
TEST(Conv, BackwardWeightsRounding) {
  for_every_shape(false, [](const ConvShape& s) {
    const Operands o(s, false);
    test_backward_weights(s, o.x, o.dy, false);
  });
}

// What Hopper's kernel tells apart: tails of filters, channels, runs of taps, pixels; several blocks with parts of a
// tile; padding, strides.
const std::vector<ConvShape> kHopperWeights = {
    {1, 8, 8, 64, 64, 1, 1},
    {9, 6, 6, 40, 8, 1, 1},
    {3, 9, 7, 64, 136, 1, 1, 2, 2},
    {2, 7, 9, 64, 40, 3, 3, 1, 1, 1, 1},
    {1, 13, 9, 112, 72, 3, 3, 2, 2, 1, 1},
    {1, 6, 7, 64, 64, 5, 5, 1, 1, 2, 2},
    {1, 13, 11, 40, 24, 7, 7, 2, 2, 3, 3},
    {4, 11, 3, 192, 192, 2, 1, 3, 1, 1, 0},
};
TEST(Conv, HopperBackwardWeights) {
  if (!may_be_hopper()) GTEST_SKIP() << "not of compute capability 9.0";
  const auto test = [](const ConvShape& s, bool whole) {
    const Operands o(s, whole);
    test_backward_weights(s, o.x, o.dy, whole);
  };
  for_every(DType::kBF16, kHopperWeights, 0, [&](const ConvShape& s) { test(s, true); });
  for_every(DType::kF16, kHopperWeights, 0, [&](const ConvShape& s) { test(s, false); });
  for_every(DType::kBF16, {{1, 23, 21, 40, 8, 11, 11, 4, 4, 2, 2}}, 0,
            [&](const ConvShape& s) { test(s, true); });
  // The largest tiles; not emulated.
  for_every(DType::kBF16,
            {{16, 56, 56, 64, 64, 3, 3, 1, 1, 1, 1},
             {8, 56, 56, 64, 128, 3, 3, 1, 1, 1, 1},
             {8, 28, 28, 128, 128, 3, 3, 1, 1, 1, 1},
             {8, 14, 14, 256, 256, 3, 3, 1, 1, 1, 1},
             {8, 13, 13, 192, 384, 3, 3, 1, 1, 1, 1}},
            4, [&](const ConvShape& s) { test(s, true); });
}

#ifdef CONVOY_TEST_EMULATED
// Each tile, with two and with all steps a block.
TEST(Conv, HopperWeightTiles) {
  if (!may_be_hopper()) GTEST_SKIP() << "not of compute capability 9.0";
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (int tile = 0; tile < cuda::kHopperWeightsTileCount; ++tile)
      for (const bool all : {false, true}) {
        if (all && dtype == DType::kF16) continue;
        const ConvShape s = cuda::kHopperWeightsTiles[tile].patches
                                ? ConvShape{1, 8, 15, 72, 72, 3, 2, 1, 1, 1, 1}
                                : ConvShape{3, 7, 8, 64, 72, 5, 1, 1, 1, 2, 0};
        ASSERT_TRUE(cuda::kHopperWeightsTiles[tile].takes(s));
        for_every(dtype, {s}, 0, [&](const ConvShape&) {
          const Operands o(s, true);
          Array dw(DType::kF32, s.w()), db(DType::kF32, {s.K});
          Want weights, biases;
          for (const Sum& sum : products(s, s.w(), o.x, o.dy, 2)) weights.exact(sum);
          std::vector<Sum> sums(static_cast<size_t>(s.K));
          for (int64_t i = 0; i < o.dy.count(); ++i) sums[static_cast<size_t>(i % s.K)].add(o.dy.value(i));
          for (const Sum& sum : sums) biases.exact(sum);
          cuda::HopperWeightsPlan plan = cuda::hopper_weights_plan(s, tile, 2);
          if (all) plan = cuda::hopper_weights_plan(s, tile, plan.tiles * plan.steps);
          Array scratch(DType::kF32, {plan.floats()});
          check_everywhere(text("hopper_backward_weights tile ", tile, all ? " one block" : " steps by two"),
                           {{"dw", &dw, weights}, {"db", &db, biases}}, [&](Exec& ex) {
                             scratch.poison();
                             ex.scratch = View(scratch.view().data, DType::kU8, {plan.floats() * 4});
                             cuda::hopper_backward_weights(
                                 ex, {s, o.x.view(), o.dy.view(), dw.view(), db.view(), true}, plan);
                             ex.backend->synchronize(ex);
                             ex.scratch = View();
                             EXPECT_TRUE(scratch.guards_intact());
                           });
        });
      }
}
#endif

// Few channels at a stride, folded: images whose last pixels no window reaches, filters that end within a stride, a
// shape that is not folded backward.
TEST(Conv, HopperFolds) {
  if (!may_be_hopper()) GTEST_SKIP() << "not of compute capability 9.0";
  const std::vector<ConvShape> shapes = {
      {1, 19, 22, 3, 16, 11, 11, 4, 4, 2, 2}, {2, 13, 10, 4, 40, 5, 4, 3, 3, 1, 2},
      {1, 24, 17, 7, 8, 4, 4, 4, 2, 1, 0},    {3, 16, 16, 1, 24, 8, 8, 8, 8},
      {1, 9, 12, 5, 12, 4, 3, 3, 3, 2, 1},
  };
  const auto test = [](const ConvShape& s, bool whole) {
    ASSERT_TRUE(cuda::folds(s));
    const Operands o(s, whole);
    test_forward(s, o.x, o.w, whole);
    test_backward_weights(s, o.x, o.dy, whole);
  };
  for_every(DType::kBF16, shapes, 0, [&](const ConvShape& s) { test(s, true); });
  for_every(DType::kF16, shapes, 0, [&](const ConvShape& s) { test(s, false); });
  for_every(DType::kF16, {shapes[1]}, 0, [&](const ConvShape& s) {
    test_fused_pool(s, operand(s.x(), true, 1, 1), operand(s.w(), true, 1, 2));
  });
}

// Tails of pixels and channels are zeros beside a NaN.
TEST(Conv, HopperNanPropagates) {
  if (!may_be_hopper()) GTEST_SKIP() << "not of compute capability 9.0";
  for_every(DType::kBF16, {{2, 7, 9, 64, 40, 3, 3, 1, 1, 1, 1}, {1, 5, 5, 40, 8, 1, 1}}, 0,
            [](const ConvShape& s) {
              const Operands o(s, true);
              o.x.set(o.x.count() / 3, NAN);
              test_backward_weights(s, o.x, o.dy, true);
            });
}

// A NaN reaches exactly the results that its element is a term of.
TEST(Conv, NanPropagates) {
  const auto test = [](const ConvShape& s) {
    Operands o(s, true);
    o.x.set(o.x.count() / 3, NAN);
    test_forward(s, o.x, o.w, true);
    test_backward_weights(s, o.x, o.dy, true);
    o.dy.set(o.dy.count() / 2, NAN);
    test_backward_data(s, o.dy, o.w, Operands(s, true).x, true);
  };
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for_every(dtype,
              {{1, 7, 9, 5, 18, 3, 3, 1, 1, 1, 1},
               {3, 4, 4, 8, 32, 3, 3, 1, 1, 1, 1},
               {2, 9, 9, 3, 8, 3, 3, 2, 2, 1, 1},
               {1, 6, 6, 32, 64, 1, 1}},
              2, test);
  if (may_be_hopper())
    for_every(DType::kBF16, {{1, 6, 7, 64, 40, 3, 3, 1, 1, 1, 1}, {2, 9, 9, 48, 64, 3, 3, 2, 2, 1, 1}}, 0,
              test);
}

// A NaN in the mask is not <= 0.
TEST(Conv, NanInTheMask) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16})
    for_every(dtype, {{1, 6, 6, 17, 16, 3, 3, 1, 1, 1, 1}, {2, 6, 6, 16, 8, 1, 1}}, 0,
              [](const ConvShape& s) {
                const Operands o(s, true);
                const Array mask = operand(s.x(), true, 2, 9);
                mask.set(40, NAN);
                test_backward_data(s, o.dy, o.w, mask, true);
              });
}

TEST(Conv, AdjointsExact) {
  const auto adjoints = [](const ConvShape& s) {
    const Operands o(s, true);
    Array y(DType::kF32, s.y()), dx(DType::kF32, s.x()), dw(DType::kF32, s.w());
    for_every_table([&](Exec& ex) {
      CONVOY_INVOKE(ex, conv_forward, ConvForward{s, o.x.view(), o.w.view(), {}, y.view(), {}});
      CONVOY_INVOKE(ex, conv_backward_data, ConvBackwardData{s, o.dy.view(), o.w.view(), dx.view(), {}});
      CONVOY_INVOKE(ex, conv_backward_weights,
                    ConvBackwardWeights{s, o.x.view(), o.dy.view(), dw.view(), {}, true});
      const double dy_y = dot(o.dy, y);
      EXPECT_EQ(dy_y, dot(dx, o.x)) << ex.backend->name << " " << name("<dy, y> against <dx, x>", s);
      EXPECT_EQ(dy_y, dot(dw, o.w)) << ex.backend->name << " " << name("<dy, y> against <dw, w>", s);
    });
  };
  for_every(DType::kF32, kShapes, 2, adjoints);
  for_every(DType::kF32, kAligned, 0, adjoints);
  for_every(DType::kF32, kGathered, 1, adjoints);
}

TEST(Conv, Errors) {
  const ConvShape s{2, 6, 6, 3, 4, 3, 3, 1, 1, 1, 1};
  const Array x = filled(s.x(), 1), w = filled(s.w(), 1), y = filled(s.y(), 1),
              wrong = filled({2, 6, 6, 5}, 1);
  const Array b = filled({4}, 1), b5 = filled({5}, 1), bytes(DType::kU8, s.x()),
              wide(DType::kF32, s.y(), 200);
  using F = ConvForward;
  using D = ConvBackwardData;
  using W = ConvBackwardWeights;
  const auto forward = [&](const F& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, conv_forward, a); });
  };
  const auto data = [&](const D& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, conv_backward_data, a); });
  };
  const auto weights = [&](const W& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, conv_backward_weights, a); });
  };
  forward(F{s, wrong.view(), w.view(), {}, y.view(), {}});
  forward(F{s, x.view(), wrong.view(), {}, y.view(), {}});
  forward(F{s, x.view(), w.view(), {}, wrong.view(), {}});
  forward(F{s, x.view(), w.view(), {b5.view(), false}, y.view(), {}});
  forward(F{s, bytes.view(), w.view(), {}, y.view(), {}});
  forward(F{s, x.view(), w.view(), {}, wide.view(), {}});
  const Array half(DType::kBF16, s.w()), half_bias(DType::kBF16, {4});
  forward(F{s, x.view(), half.view(), {}, y.view(), {}});
  forward(F{s, x.view(), w.view(), {half_bias.view(), false}, y.view(), {}});
  weights(W{s, x.view(), y.view(), half.view(), b.view(), true});
  data(D{s, wrong.view(), w.view(), x.view(), {}});
  data(D{s, y.view(), wrong.view(), x.view(), {}});
  data(D{s, y.view(), w.view(), wrong.view(), {}});
  data(D{s, y.view(), w.view(), x.view(), wrong.view()});
  weights(W{s, wrong.view(), y.view(), w.view(), b.view(), true});
  weights(W{s, x.view(), wrong.view(), w.view(), b.view(), true});
  weights(W{s, x.view(), y.view(), wrong.view(), b.view(), true});
  weights(W{s, x.view(), y.view(), w.view(), b5.view(), true});
}

}  // namespace
}  // namespace convoy::reference
