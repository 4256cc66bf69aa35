#include "kernels/fc.h"
#include "reference.h"

namespace convoy::reference {
namespace {

// `spare` columns lie behind every row of x, y, dx and dy.
struct FcShape {
  int64_t N, D, F, spare = 0;
  Shape x() const { return {N, D}; }
  Shape w() const { return {F, D}; }
  Shape y() const { return {N, F}; }
};
const std::vector<FcShape> kShapes = {
    {1, 1, 1},      {1, 784, 512},   {1, 7, 33},       {2, 5, 3},         {3, 17, 1},      {1, 1, 100},
    {5, 1, 17},     {32, 256, 10},   {9, 33, 65, 7},   {64, 100, 16, 16}, {7, 129, 31, 1}, {128, 64, 10},
    {33, 48, 48},   {4, 1000, 5, 3}, {12, 15, 257},    {31, 512, 96},     {100, 30, 20},   {8, 300, 128, 128},
    {0, 10, 20},    {16, 16, 16},    {257, 3, 2},      {6, 4096, 7},      {13, 77, 130},   {65, 130, 70},
    {2, 37, 20, 5}, {3, 70, 9, 2},   {300, 40, 10, 6},
};
std::string name(const char* operation, const FcShape& s) {
  return text(operation, " N ", s.N, " D ", s.D, " F ", s.F, " spare ", s.spare);
}

struct Operands {
  Array x, w, dy;
  Operands(const FcShape& s, bool whole)
      : x(as(test_dtype(), numbers(s.x(), whole, 4, 1, s.D + s.spare))),
        w(as(test_dtype(), numbers(s.w(), whole, 4, 2))),
        dy(as(test_dtype(), numbers(s.y(), whole, 4, 4, s.F + s.spare))) {
    test_work() = static_cast<double>(s.N) * static_cast<double>(s.D) * static_cast<double>(s.F);
  }
};

std::vector<Sum> products(const FcShape& s, const Operands& o, int pass) {
  std::vector<Sum> sums(static_cast<size_t>(pass == 0 ? s.N * s.F : pass == 1 ? s.N * s.D : s.F * s.D));
  const Doubles x = o.x.values(), w = o.w.values(), dy = o.dy.values();
  for (int64_t n = 0; n < s.N; ++n)
    for (int64_t f = 0; f < s.F; ++f)
      for (int64_t d = 0; d < s.D; ++d) {
        const double xv = x[static_cast<size_t>(n * s.D + d)], wv = w[static_cast<size_t>(f * s.D + d)],
                     gv = dy[static_cast<size_t>(n * s.F + f)];
        if (pass == 0) sums[static_cast<size_t>(n * s.F + f)].add(xv * wv);
        if (pass == 1) sums[static_cast<size_t>(n * s.D + d)].add(gv * wv);
        if (pass == 2) sums[static_cast<size_t>(f * s.D + d)].add(gv * xv);
      }
  return sums;
}

// n roundings of a sum in f32, twice as large in tensor cores.
double sum_bound(const Sum& s, double n) {
  return (test_dtype() == DType::kF32 ? 1 : kTensorCore) * bound(n, s.magnitude);
}

// One more rounding, of a value that is wrong by up to `error` already.
double stored_error(DType dtype, double value, double error) {
  if (dtype == DType::kF32) return error;
  return error + half_unit(dtype) * (std::abs(value) + error) + (dtype == DType::kF16 ? 0x1p-25 : FLT_MIN);
}

void test_forward(const FcShape& s, const Operands& o, bool whole, DType out) {
  const Array bias = numbers({s.F}, whole, 5, 3);
  Array y(out, s.y(), s.F + s.spare);
  const std::vector<Sum> sums = products(s, o, 0);
  for (const bool with_bias : {false, true})
    for (const bool with_relu : {false, true}) {
      Want want;
      for (size_t i = 0; i < sums.size(); ++i) {
        Sum sum = sums[i];
        const double add = with_bias ? bias[static_cast<int64_t>(i) % s.F] : 0;
        sum.add(add);
        double error = 0;
        if (whole) {
          EXPECT_FALSE(sum.magnitude >= 0x1p24);
          sum.value = rounded_to(out, rounded_to(out, sums[i].value) + add);
        } else {
          error = stored_error(out, sums[i].value, sum_bound(sum, static_cast<double>(s.D + 1)));
          if (with_bias)
            error = stored_error(out, sum.value, error);  // the epilogue works on what was stored
        }
        const double value = with_relu ? relu(sum.value) : sum.value;
        whole ? want.exact(value) : want.within(value, error);
      }
      check_everywhere(name("fc_forward", s) + (with_bias ? " bias" : "") + (with_relu ? " relu" : ""),
                       {{"y", &y, want}}, [&](Exec& ex) {
                         FcForward a{o.x.view(), o.w.view(), {}, y.view()};
                         if (with_bias) a.epilogue.bias = bias.view();
                         a.epilogue.relu = with_relu;
                         CONVOY_INVOKE(ex, fc_forward, a);
                       });
    }
}

void test_backward_data(const FcShape& s, const Operands& o, bool whole, DType out) {
  Array dx(out, s.x(), s.D + s.spare);
  const std::vector<Sum> sums = products(s, o, 1);
  for (const bool masked : {false, true}) {
    Want want;
    for (size_t i = 0; i < sums.size(); ++i) {
      Sum sum = sums[i];
      if (masked && o.x.value(static_cast<int64_t>(i)) <= 0) sum = Sum();
      EXPECT_FALSE(whole && sum.magnitude >= 0x1p24);
      if (whole)
        want.exact(rounded_to(out, sum.value));
      else
        want.within(sum.value, stored_error(out, sum.value, sum_bound(sum, static_cast<double>(s.F))));
    }
    check_everywhere(name("fc_backward_data", s) + (masked ? " mask" : ""), {{"dx", &dx, want}},
                     [&](Exec& ex) {
                       FcBackwardData a{o.dy.view(), o.w.view(), dx.view(), {}};
                       if (masked) a.mask = o.x.view();
                       CONVOY_INVOKE(ex, fc_backward_data, a);
                     });
  }
}

void test_backward_weights(const FcShape& s, const Operands& o, bool whole) {
  Array dw(DType::kF32, s.w()), db(DType::kF32, {s.F});
  const Array dw0 = numbers(s.w(), whole, 9, 5), db0 = numbers({s.F}, whole, 9, 6);
  const std::vector<Sum> weights = products(s, o, 2);
  std::vector<Sum> biases(static_cast<size_t>(s.F));
  for (int64_t i = 0; i < o.dy.count(); ++i) biases[static_cast<size_t>(i % s.F)].add(o.dy.value(i));
  for (const bool overwrite : {true, false})
    for (const bool with_db : {true, false}) {
      const auto want = [&](std::vector<Sum> sums, const Array& before) {
        Want w;
        for (size_t i = 0; i < sums.size(); ++i) {
          if (!overwrite) sums[i].add(before[static_cast<int64_t>(i)]);
          whole ? w.exact(sums[i])
                : w.within(sums[i].value, sum_bound(sums[i], static_cast<double>(s.N + 1)));
        }
        return w;
      };
      std::vector<Output> outputs = {{"dw", &dw, want(weights, dw0), overwrite ? Doubles() : dw0.values()}};
      if (with_db) outputs.push_back({"db", &db, want(biases, db0), overwrite ? Doubles() : db0.values()});
      check_everywhere(
          name("fc_backward_weights", s) + (overwrite ? " overwrite" : "") + (with_db ? " db" : ""), outputs,
          [&](Exec& ex) {
            FcBackwardWeights a{o.x.view(), o.dy.view(), dw.view(), {}, overwrite};
            if (with_db) a.db = db.view();
            CONVOY_INVOKE(ex, fc_backward_weights, a);
          });
    }
}

void test_all(const FcShape& s, bool whole, const std::function<void(const Operands&)>& change = nullptr) {
  for_every_dtype([&](DType dtype) {
    const Operands o(s, whole);
    if (dtype != DType::kF32 && test_work() > 1e5) return;
    if (change) change(o);
    for (const DType out : {dtype, DType::kF32}) {
      test_forward(s, o, whole, out);
      test_backward_data(s, o, whole, out);
      if (dtype == DType::kF32) break;
    }
    test_backward_weights(s, o, whole);
  });
  test_work() = 0;
}

TEST(Fc, Exact) {
  for (const FcShape& s : kShapes) test_all(s, true);
}
TEST(Fc, Rounding) {
  for (const FcShape& s : kShapes) test_all(s, false);
}

TEST(Fc, NanPropagates) {
  for (const FcShape& s : {FcShape{9, 33, 65, 7}, FcShape{1, 50, 20}, FcShape{40, 64, 32}}) {
    test_all(s, true, [](const Operands& o) { o.x.set(o.x.count() / 3, NAN); });
    test_all(s, true, [](const Operands& o) { o.dy.set(o.dy.count() / 2, NAN); });
  }
}

// Columns of wider matrices, each with rows of its own distance.
TEST(Fc, RowStridesOfTheirOwn) {
  for (const int64_t N : {2, 3, 4, 5, 9, 40}) {
    const FcShape s{N, 35, 18};
    const Operands o(s, true);
    const std::vector<Sum> sums = products(s, o, 1);
    Want want;
    for (size_t i = 0; i < sums.size(); ++i) want.exact(o.x[static_cast<int64_t>(i)] <= 0 ? Sum() : sums[i]);
    Array dy(DType::kF32, s.y(), 29), mask(DType::kF32, s.x(), 50), dx(DType::kF32, s.x(), 41);
    dy.each([&](int64_t i) { return o.dy[i]; });
    mask.each([&](int64_t i) { return o.x[i]; });
    check_everywhere(name("fc_backward_data strides", s), {{"dx", &dx, want}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, fc_backward_data, FcBackwardData{dy.view(), o.w.view(), dx.view(), mask.view()});
    });
    Want weights;
    for (const Sum& sum : products(s, o, 2)) weights.exact(sum);
    Array dw(DType::kF32, s.w());
    check_everywhere(name("fc_backward_weights strides", s), {{"dw", &dw, weights}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, fc_backward_weights, FcBackwardWeights{mask.view(), dy.view(), dw.view(), {}, true});
    });
  }
}

// A batch of images is read as rows of H·W·C features.
TEST(Fc, ReadsImages) {
  const FcShape s{3, 24, 7};
  const Operands o(s, true);
  Array y(DType::kF32, s.y()), dx(DType::kF32, {3, 2, 3, 4}), dw(DType::kF32, s.w());
  const Shape image{3, 2, 3, 4};
  const auto exact = [](const std::vector<Sum>& sums) {
    Want w;
    for (const Sum& sum : sums) w.exact(sum);
    return w;
  };
  check_everywhere("fc_forward image", {{"y", &y, exact(products(s, o, 0))}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, fc_forward, FcForward{o.x.view().reshaped(image), o.w.view(), {}, y.view()});
  });
  check_everywhere("fc_backward_data image", {{"dx", &dx, exact(products(s, o, 1))}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, fc_backward_data, FcBackwardData{o.dy.view(), o.w.view(), dx.view(), {}});
  });
  check_everywhere("fc_backward_weights image", {{"dw", &dw, exact(products(s, o, 2))}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, fc_backward_weights,
                  FcBackwardWeights{o.x.view().reshaped(image), o.dy.view(), dw.view(), {}, true});
  });
}

TEST(Fc, AdjointsExact) {
  for (const FcShape& s : kShapes) {
    const Operands o(s, true);
    Array y(DType::kF32, s.y()), dx(DType::kF32, s.x()), dw(DType::kF32, s.w());
    for_every_table([&](Exec& ex) {
      CONVOY_INVOKE(ex, fc_forward, FcForward{o.x.view(), o.w.view(), {}, y.view()});
      CONVOY_INVOKE(ex, fc_backward_data, FcBackwardData{o.dy.view(), o.w.view(), dx.view(), {}});
      CONVOY_INVOKE(ex, fc_backward_weights, FcBackwardWeights{o.x.view(), o.dy.view(), dw.view(), {}, true});
      EXPECT_EQ(dot(o.dy, y), dot(dx, o.x)) << ex.backend->name << " " << name("<dy, y> against <dx, x>", s);
      EXPECT_EQ(dot(o.dy, y), dot(dw, o.w)) << ex.backend->name << " " << name("<dy, y> against <dw, w>", s);
    });
  }
}

// A layer may have no outputs, and a worker none of its own.
TEST(Fc, NoOutputs) {
  const Array x = filled({3, 5}, 1), mask = filled({3, 5}, 1);
  Array y(DType::kF32, {3, 0}), w(DType::kF32, {0, 5}), dx(DType::kF32, {3, 5}), db(DType::kF32, {0});
  Want zeros;
  zeros.values.assign(15, 0);
  check_everywhere("fc without outputs", {{"dx", &dx, zeros}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, fc_forward, FcForward{x.view(), w.view(), {}, y.view()});
    CONVOY_INVOKE(ex, fc_backward_data, FcBackwardData{y.view(), w.view(), dx.view(), mask.view()});
    CONVOY_INVOKE(ex, fc_backward_weights, FcBackwardWeights{x.view(), y.view(), w.view(), db.view(), true});
  });
}

TEST(Fc, Errors) {
  const Array x = filled({3, 5}, 1), w = filled({4, 5}, 1), y = filled({3, 4}, 1), wrong = filled({3, 6}, 1);
  const Array b = filled({4}, 1), b5 = filled({5}, 1), bytes(DType::kU8, {3, 5}),
              wide(DType::kF32, {4, 5}, 9);
  const auto forward = [&](const FcForward& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, fc_forward, a); });
  };
  const auto data = [&](const FcBackwardData& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, fc_backward_data, a); });
  };
  const auto weights = [&](const FcBackwardWeights& a) {
    expect_error("", [&](Exec& ex) { CONVOY_INVOKE(ex, fc_backward_weights, a); });
  };
  forward({wrong.view(), w.view(), {}, y.view()});
  forward({x.view(), wrong.view(), {}, y.view()});
  forward({x.view(), w.view(), {}, wrong.view()});
  forward({x.view(), w.view(), {b5.view(), false}, y.view()});
  forward({bytes.view(), w.view(), {}, y.view()});
  forward({x.view(), wide.view(), {}, y.view()});
  data({wrong.view(), w.view(), x.view(), {}});
  data({y.view(), wrong.view(), x.view(), {}});
  data({y.view(), w.view(), wrong.view(), {}});
  data({y.view(), w.view(), x.view(), wrong.view()});
  weights({wrong.view(), y.view(), w.view(), b.view(), true});
  weights({x.view(), wrong.view(), w.view(), b.view(), true});
  weights({x.view(), y.view(), wrong.view(), b.view(), true});
  weights({x.view(), y.view(), w.view(), b5.view(), true});
}

}  // namespace
}  // namespace convoy::reference
