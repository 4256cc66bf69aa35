#include "kernels/sgd.h"
#include "reference.h"

namespace convoy::reference {
namespace {

const std::vector<int64_t> kCounts = {1, 7, 100, 8193, 40000};
constexpr int kSteps = 5;

StepScalars scalars(int step) {
  StepScalars s;
  s.update = step;
  s.lr = 0.1f / static_cast<float>(step + 1);
  s.gradient_scale = 1.0f / 32;
  return s;
}
// What a gradient sum is multiplied by.
double factor(const StepScalars& s, float clip_norm, const Array* squares) {
  if (squares == nullptr) return s.gradient_scale;
  const double norm = s.gradient_scale * std::sqrt(double{(*squares)[0]});
  return s.gradient_scale * std::min(1.0, clip_norm / (norm + 1e-6));
}

struct Setting {
  float momentum, decay;
  bool nesterov;
  float clip_norm;  // 0: none
};

// Each step starts from the floats that the last one left: the bounds are those of one step.
void test_sgd(int64_t count, const Setting& t) {
  Array w = normals({count}, 1), v = filled({count}, 0);
  const Array squares = filled({1}, 2500);
  const Array* clip = t.clip_norm > 0 ? &squares : nullptr;
  for (int step = 0; step < kSteps; ++step) {
    const StepScalars s = scalars(step);
    const Scalars there(s);
    const Array g = normals({count}, static_cast<uint32_t>(10 + step), 30);
    const double f = factor(s, t.clip_norm, clip);
    Want weights, velocity;
    for (int64_t i = 0; i < count; ++i) {
      Sum grad, vel, next;
      grad.add(g[i] * f);
      grad.add(double{t.decay} * w[i]);
      vel.value = double{t.momentum} * v[i] + grad.value;
      vel.magnitude = std::abs(double{t.momentum} * v[i]) + grad.magnitude;
      const double move = t.nesterov ? grad.value + t.momentum * vel.value : vel.value;
      const double size = t.nesterov ? grad.magnitude + t.momentum * vel.magnitude : vel.magnitude;
      velocity.within(vel.value, bound(5, vel.magnitude));  // the factor, 2 products, 2 sums
      next.magnitude = std::abs(w[i]) + s.lr * size;
      weights.within(w[i] - s.lr * move, bound(9, next.magnitude));  // and 2 products, 2 sums
    }
    std::vector<Output> outputs = {{"w", &w, weights, w.values()}};
    if (t.momentum > 0) outputs.push_back({"velocity", &v, velocity, v.values()});
    check_everywhere(text("sgd_update ", count, " momentum ", t.momentum, " decay ", t.decay,
                          t.nesterov ? " nesterov" : "", " clip ", t.clip_norm, " step ", step),
                     outputs, [&](Exec& ex) {
                       SgdUpdate a{there.get(), t.momentum, t.decay,  t.nesterov, t.clip_norm,
                                   {},          w.view(),   g.view(), {}};
                       if (t.momentum > 0) a.velocity = v.view();
                       if (clip != nullptr) a.sum_of_squares = clip->view();
                       CONVOY_INVOKE(ex, sgd_update, a);
                     });
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Sgd, WithinBounds) {
  for (const int64_t count : kCounts)
    for (const Setting& t : {Setting{0, 0, false, 0}, Setting{0, 0.01f, false, 0}, Setting{0.9f, 0, false, 0},
                             Setting{0.9f, 5e-4f, false, 1}, Setting{0.9f, 5e-4f, true, 0},
                             Setting{0.5f, 0, true, 100}, Setting{0, 0, false, 0.5f}})
      test_sgd(count, t);
}

// Whole numbers and powers of two: nothing rounds.
TEST(Sgd, Exact) {
  StepScalars s;
  s.lr = 0.5f;
  s.gradient_scale = 0.25f;
  const Scalars there(s);
  const Array w0 = whole_numbers({1000}, 64, 1), v0 = whole_numbers({1000}, 64, 2),
              g = whole_numbers({1000}, 64, 3);
  Array w(DType::kF32, {1000}), v(DType::kF32, {1000});
  Want weights, velocity;
  for (int64_t i = 0; i < 1000; ++i) {
    const double vel = 0.5 * v0[i] + g[i] * 0.25 + 0.125 * w0[i];
    velocity.exact(vel);
    weights.exact(w0[i] - 0.5 * vel);
  }
  check_everywhere("sgd_update exact",
                   {{"w", &w, weights, w0.values()}, {"velocity", &v, velocity, v0.values()}}, [&](Exec& ex) {
                     CONVOY_INVOKE(
                         ex, sgd_update,
                         SgdUpdate{there.get(), 0.5f, 0.125f, false, 0, {}, w.view(), g.view(), v.view()});
                   });
}

void test_adamw(int64_t count, float decay, float clip_norm) {
  Array w = normals({count}, 1), m = filled({count}, 0), v = filled({count}, 0);
  const Array squares = filled({1}, 2500);
  const Array* clip = clip_norm > 0 ? &squares : nullptr;
  AdamwUpdate a;
  a.weight_decay = decay;
  a.clip_norm = clip_norm;
  if (clip != nullptr) a.sum_of_squares = clip->view();
  const double b1 = a.beta1, b2 = a.beta2;
  for (int step = 0; step < kSteps; ++step) {
    const StepScalars s = scalars(step);
    const Scalars there(s);
    const Array g = normals({count}, static_cast<uint32_t>(10 + step), 30);
    const double f = factor(s, clip_norm, clip), lr = s.lr;
    Want weights, first, second;
    for (int64_t i = 0; i < count; ++i) {
      Sum mean;
      mean.add(b1 * m[i]);
      mean.add((1 - b1) * g[i] * f);
      const double square = b2 * v[i] + (1 - b2) * std::pow(g[i] * f, 2);
      const double root = std::sqrt(square / (1 - std::pow(b2, step + 1))) + a.eps;
      const double rate = lr / (1 - std::pow(b1, step + 1));
      first.within(mean.value, bound(5, mean.magnitude));
      second.within(square, bound(8, square));
      // m (5), the root of v (4 and 1), its factor and product, eps, the rate and its product, the quotient,
      // the difference.
      weights.within(w[i] * (1 - lr * decay) - rate * mean.value / root,
                     bound(18, std::abs(w[i]) + rate * mean.magnitude / root));
    }
    check_everywhere(
        text("adamw_update ", count, " decay ", decay, " clip ", clip_norm, " step ", step),
        {{"w", &w, weights, w.values()}, {"m", &m, first, m.values()}, {"v", &v, second, v.values()}},
        [&](Exec& ex) {
          a.scalars = there.get();
          a.w = w.view();
          a.g = g.view();
          a.m = m.view();
          a.v = v.view();
          CONVOY_INVOKE(ex, adamw_update, a);
        });
    if (testing::Test::HasFailure()) return;
  }
}

TEST(Adamw, WithinBounds) {
  for (const int64_t count : kCounts) {
    test_adamw(count, 0, 0);
    test_adamw(count, 0.01f, 0);
    test_adamw(count, 0.1f, 0.5f);
  }
}

TEST(Optimizers, NanPropagates) {
  const Scalars s(scalars(0));
  const Array g = filled({20}, 1), squares = filled({1}, kNaN);
  g[3] = NAN;
  for_every_table([&](Exec& ex) {
    for (const bool clipped : {false, true}) {
      const Array w = filled({20}, 1), v = filled({20}, 0), u = filled({20}, 1), m = filled({20}, 0),
                  n = filled({20}, 0);
      SgdUpdate sgd{s.get(), 0.9f, 0, false, 1, {}, w.view(), g.view(), v.view()};
      AdamwUpdate adamw{s.get(), 0.9f, 0.999f, 1e-8f, 0, 1, {}, u.view(), g.view(), m.view(), n.view()};
      if (clipped) sgd.sum_of_squares = adamw.sum_of_squares = squares.view();
      CONVOY_INVOKE(ex, sgd_update, sgd);
      CONVOY_INVOKE(ex, adamw_update, adamw);
      for (int64_t i = 0; i < 20; ++i) {
        EXPECT_EQ(clipped || i == 3, std::isnan(w[i])) << ex.backend->name << " sgd " << i;
        EXPECT_EQ(clipped || i == 3, std::isnan(u[i])) << ex.backend->name << " adamw " << i;
      }
    }
  });
}

// Added up in double: one rounding to float.
TEST(SumOfSquares, WithinBounds) {
  for (const int64_t count : {0, 1, 31, 16384, 16385, 100001}) {
    const Array x = normals({count}, 1);
    Array out(DType::kF32, {1});
    Sum s;
    for (int64_t i = 0; i < count; ++i) s.add(double{x[i]} * x[i]);
    Want want;
    want.within(s.value, bound(1, s.value) + static_cast<double>(count) * kUnitDouble * s.value);
    check_everywhere(text("sum_of_squares ", count), {{"out", &out, want}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, sum_of_squares, SumOfSquares{x.view(), out.view()});
    });
    if (count == 0) continue;
    x[count / 2] = NAN;
    Want nan;
    nan.exact(kNaN);
    check_everywhere(text("sum_of_squares NaN ", count), {{"out", &out, nan}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, sum_of_squares, SumOfSquares{x.view(), out.view()});
    });
  }
}

void test_low(DType dtype, int64_t count, int64_t from) {
  const Scalars s(scalars(2));
  const Array squares = filled({1}, 2500), g = normals({count}, 3, 30), w0 = normals({count}, 1);
  const Array velocity = normals({count}, 4), first = normals({count}, 5), second = filled({count}, 2);
  for_every_table([&](Exec& ex) {
    if (!is_cuda(*ex.backend)) return;
    for (const int32_t skipped : {0, 1, -7})
      for (const bool adamw : {false, true}) {
        Array w(DType::kF32, {count}), low(dtype, {count + from}), skip(DType::kI32, {1}),
            a = as(DType::kF32, first), b = as(DType::kF32, second);
        w.each([&](int64_t i) { return w0[i]; });
        low.each([&](int64_t) { return 7; });
        skip.set(0, skipped);
        const View low_view = low.view().slice_rows(from, count);
        if (adamw) {
          AdamwUpdate u;
          u.scalars = s.get();
          u.w = w.view();
          u.g = g.view();
          u.m = a.view();
          u.v = b.view();
          u.low = low_view;
          u.skip = skip.view();
          CONVOY_INVOKE(ex, adamw_update, u);
        } else {
          CONVOY_INVOKE(
              ex, sgd_update,
              SgdUpdate{
                  s.get(), 0.9f, 0.01f, true, 0, {}, w.view(), g.view(), a.view(), low_view, skip.view()});
        }
        const std::string title =
            text(adamw ? "adamw " : "sgd ", dtype_name(dtype), " ", count, " skip ", skipped);
        EXPECT_TRUE(low.guards_intact() && w.guards_intact()) << title;
        for (int64_t i = 0; i < count; ++i) {
          ASSERT_EQ(skipped != 0, w[i] == w0[i]) << title << " " << i;
          ASSERT_EQ(skipped != 0, a[i] == first[i]) << title << " " << i;
          ASSERT_EQ(low.value(from + i), skipped != 0 ? 7 : rounded_to(dtype, w[i])) << title << " " << i;
        }
        for (int64_t i = 0; i < from; ++i) ASSERT_EQ(low.value(i), 7) << title;
      }
  });
}

// The copy that operations read is w's rounding; nothing moves when the step is skipped.
TEST(Optimizers, LowAndSkip) {
  for (const DType dtype : {DType::kBF16, DType::kF16})
    for (const int64_t count : {1, 7, 100, 8193})
      for (const int64_t from : {0, 3}) test_low(dtype, count, from);
}
TEST(Optimizers, CpuHasNeitherLowNorSkip) {
  const Scalars s(scalars(0));
  const Array w = filled({5}, 1), low(DType::kBF16, {5}), skip = labels_of({0});
  for (const Backend* backend : test_backends()) {
    if (is_cuda(*backend)) continue;
    Exec ex = test_exec(*backend);
    SgdUpdate sgd{s.get(), 0, 0, false, 0, {}, w.view(), w.view(), {}, low.view(), {}};
    AdamwUpdate adamw;
    adamw.scalars = s.get();
    adamw.w = adamw.m = adamw.v = w.view();
    adamw.g = w.view();
    adamw.skip = skip.view();
    EXPECT_THROW(backend->sgd_update(ex, sgd), Error) << backend->name;
    EXPECT_THROW(backend->adamw_update(ex, adamw), Error) << backend->name;
    sgd.low = {};
    sgd.skip = skip.view();
    adamw.skip = {};
    adamw.low = low.view();
    EXPECT_THROW(backend->sgd_update(ex, sgd), Error) << backend->name;
    EXPECT_THROW(backend->adamw_update(ex, adamw), Error) << backend->name;
  }
}

TEST(Optimizers, Errors) {
  const Scalars s(scalars(0));
  const Array w = filled({5}, 1), g4 = filled({4}, 1), two = filled({2}, 1), bytes(DType::kU8, {5});
  const auto sgd = [&](const char* part, const SgdUpdate& a) {
    expect_error(part, [&](Exec& ex) { ex.backend->sgd_update(ex, a); });
  };
  const auto adamw = [&](const char* part, const AdamwUpdate& a) {
    expect_error(part, [&](Exec& ex) { ex.backend->adamw_update(ex, a); });
  };
  sgd("no scalars", {nullptr, 0, 0, false, 0, {}, w.view(), w.view(), {}});
  sgd("g is 4", {s.get(), 0, 0, false, 0, {}, w.view(), g4.view(), {}});
  sgd("velocity is 4", {s.get(), 0.9f, 0, false, 0, {}, w.view(), w.view(), g4.view()});
  sgd("without a velocity", {s.get(), 0.9f, 0, false, 0, {}, w.view(), w.view(), {}});
  sgd("sum_of_squares is 2", {s.get(), 0, 0, false, 1, two.view(), w.view(), w.view(), {}});
  sgd("holds u8", {s.get(), 0, 0, false, 0, {}, w.view(), bytes.view(), {}});
  adamw("no scalars", {nullptr, 0.9f, 0.9f, 0, 0, 0, {}, w.view(), w.view(), w.view(), w.view()});
  adamw("g is 4", {s.get(), 0.9f, 0.9f, 0, 0, 0, {}, w.view(), g4.view(), w.view(), w.view()});
  adamw("m is 4", {s.get(), 0.9f, 0.9f, 0, 0, 0, {}, w.view(), w.view(), g4.view(), w.view()});
  adamw("v is 4", {s.get(), 0.9f, 0.9f, 0, 0, 0, {}, w.view(), w.view(), w.view(), g4.view()});
  expect_error("out is 2", [&](Exec& ex) {
    CONVOY_INVOKE(ex, sum_of_squares, SumOfSquares{w.view(), two.view()});
  });
  expect_error("scratch has 0 bytes", [&](Exec& ex) {
    ex.backend->sum_of_squares(ex, {w.view(), w.view().slice_rows(0, 1)});
  });
}

}  // namespace
}  // namespace convoy::reference
