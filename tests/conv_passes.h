// The convolution passes against plain loops: what the tests of convolutions share.
#pragma once
#include "kernels/conv.h"
#include "reference.h"

namespace convoy::reference {

// body(shape) for each of the shapes in the dtype, where a backend takes it. The emulator computes whole tiles, and leaves
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
inline std::string name(const char* operation, const ConvShape& s) {
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
inline std::vector<Sum> products(const ConvShape& s, const Shape& into, const Array& a, const Array& b,
                                 int pass) {
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
inline Array operand(const Shape& shape, bool whole, int64_t magnitude, uint32_t seed) {
  const Array exact = numbers(shape, whole, magnitude, seed);
  Array a(test_dtype(), shape);
  return std::move(a.each([&](int64_t i) { return exact[i]; }));
}
// What is left of a sum of n roundings: all of it in f32, rounded once more in a result of fewer bits.
inline double sum_bound(const Sum& s, double n) {
  return (test_dtype() == DType::kF32 ? 1 : kTensorCore) * bound(n, s.magnitude);
}
inline void add_rounded(Want& want, const Sum& s, double n, bool whole) {
  const DType dtype = test_dtype();
  if (dtype == DType::kF32) return want.add(s, n, whole);
  if (whole) {
    EXPECT_FALSE(s.magnitude >= 16777216.0) << "the test's numbers are too large to be exact";
    return want.exact(from_half(dtype, to_half(dtype, s.value)));
  }
  const double before = sum_bound(s, n), smallest = dtype == DType::kF16 ? 0x1p-25 : FLT_MIN;
  want.within(s.value, before + half_unit(dtype) * (std::abs(s.value) + before) + smallest);
}

inline Want forward_want(const ConvShape& s, std::vector<Sum> sums, const Array* bias, bool with_relu,
                         bool whole) {
  Want want;
  for (size_t i = 0; i < sums.size(); ++i) {
    if (bias != nullptr) sums[i].add((*bias)[static_cast<int64_t>(i) % s.K]);
    if (with_relu) sums[i].value = relu(sums[i].value);
    add_rounded(want, sums[i], static_cast<double>(s.R * s.S * s.C + 1), whole);
  }
  return want;
}

inline void test_forward(const ConvShape& s, const Array& x, const Array& w, bool whole) {
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
inline void pool_want(const ConvShape& s, const Want& y, Want& pooled, Want& index) {
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
inline void test_fused_pool(const ConvShape& s, const Array& x, const Array& w) {
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

inline void test_backward_data(const ConvShape& s, const Array& dy, const Array& w, const Array& mask,
                               bool whole) {
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

inline void test_backward_weights(const ConvShape& s, const Array& x, const Array& dy, bool whole) {
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

}  // namespace convoy::reference
