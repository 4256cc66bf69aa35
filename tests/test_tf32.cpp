// Products of f32 that are rounded to TF32 (Exec::tf32): exact on whole numbers, epilogues and pools included; on others
// within the roundings of the operands from plain f32, and different from it.
#include <gtest/gtest.h>

#include "kernels/conv.h"
#include "kernels/fc.h"
#include "reference.h"

namespace convoy::reference {
namespace {

const Backend* device() {
  const Backend* last = test_backends().back();
  return is_cuda(*last) ? last : nullptr;
}

template <class Args>
void run_once(Exec& ex, const Args& args) {
  const Tensor scratch(*ex.backend, DType::kU8, {supports(*ex.backend, args, 1).scratch_bytes});
  ex.scratch = scratch.view();
  run(ex, args);
  ex.backend->synchronize(ex);
}

// TF32 has 11 bits. Ours are rounded to nearest; cuBLAS may leave the others out.
constexpr double kRounded = 0x1p-11, kCut = 0x1p-10;

// A product of two operands that are wrong by u, and sums of `terms` of them, in tensor cores and in the f32 it is compared
// with; of `magnitude` in all.
double allowed(double u, double terms, double magnitude) {
  return (u * (2 + u) + (kTensorCore + 1) * bound(terms, 1)) * magnitude;
}

Array absolute(const Array& x) {
  Array a(DType::kF32, x.shape());
  for (int64_t i = 0; i < x.count(); ++i) a[i] = std::abs(x[i]);
  return a;
}

// What `make(operands..., result)` computes with TF32 and without, of the operands and of their magnitudes.
template <class Make>
void compare(const char* name, const Array& a, const Array& b, const Shape& result, double u, double terms,
             const Make& make) {
  Array plain(DType::kF32, result), magnitude(DType::kF32, result);
  Exec ex = test_exec(*device());
  run_once(ex, make(a, b, plain));
  run_once(ex, make(absolute(a), absolute(b), magnitude));
  Doubles first;
  for (const Way& way : ways(*device())) {
    ex = test_exec(*device(), way);
    ex.tf32 = true;
    Array rounded(DType::kF32, result);
    run_once(ex, make(a, b, rounded));
    int64_t wrong = 0, same = 0;
    for (int64_t i = 0; i < result.count(); ++i) {
      wrong += !(std::abs(rounded[i] - plain[i]) <= allowed(u, terms, magnitude[i]));
      same += rounded[i] == plain[i];
    }
    EXPECT_EQ(wrong, 0) << name << " of " << result << ", " << way.name;
    EXPECT_LT(same, result.count() / 2) << name << " of " << result << ": plain f32";
    if (first.empty()) first = rounded.values();
    EXPECT_EQ(rounded.values(), first) << name << ", " << way.name;
  }
}

const ConvShape kConvs[] = {
    {2, 7, 9, 5, 6, 3, 3, 1, 1, 1, 1},   {1, 9, 9, 16, 70, 3, 3, 2, 2, 1, 1},
    {3, 6, 6, 12, 8, 1, 1, 1, 1, 0, 0},  {1, 11, 10, 3, 20, 5, 5, 2, 1, 2, 2},
    {2, 8, 8, 40, 24, 3, 3, 1, 1, 1, 1}, {1, 4, 4, 80, 5, 3, 3, 1, 1, 0, 0},
};

bool tf32_here() {
  return device() != nullptr && find_cuda()->describe(0).major >= 8;
}

TEST(Tf32, ConvolutionsOfWholeNumbersAreExact) {
  if (!tf32_here()) GTEST_SKIP() << "no CUDA device with TF32";
  for (const ConvShape& s : kConvs) {
    const Array x = numbers(s.x(), true, 4, 1), w = numbers(s.w(), true, 4, 2),
                dy = numbers(s.y(), true, 4, 3), bias = numbers({s.K}, true, 5, 4);
    for (const Way& way : ways(*device()))
      for (const bool pooled : {false, true}) {
        const Shape y = pooled ? Shape{s.N, s.P() / 2, s.Q() / 2, s.K} : s.y();
        Array results[2][5];
        for (const bool tf32 : {false, true}) {
          Array* r = results[tf32];
          r[0] = Array(DType::kF32, y), r[1] = Array(DType::kU8, y), r[2] = Array(DType::kF32, s.x());
          r[3] = Array(DType::kF32, s.w()), r[4] = Array(DType::kF32, {s.K});
          Exec ex = test_exec(*device(), way);
          ex.tf32 = tf32;
          run_once(
              ex,
              ConvForward{
                  s, x.view(), w.view(), {bias.view(), true}, r[0].view(), pooled ? r[1].view() : View()});
          run_once(ex, ConvBackwardData{s, dy.view(), w.view(), r[2].view(), x.view()});
          run_once(ex, ConvBackwardWeights{s, x.view(), dy.view(), r[3].view(), r[4].view(), true});
          run_once(ex, ConvBackwardWeights{s, x.view(), dy.view(), r[3].view(), r[4].view(), false});
        }
        for (const int i : {0, 1, 2, 3, 4}) {
          if (i == 1 && !pooled) continue;
          EXPECT_EQ(results[0][i].values(), results[1][i].values())
              << "result " << i << " of " << s.x() << ", " << s.w() << ", " << way.name;
        }
      }
  }
}

TEST(Tf32, ConvolutionsRoundTheirOperands) {
  if (!tf32_here()) GTEST_SKIP() << "no CUDA device with TF32";
  for (const ConvShape& s : kConvs) {
    const Array x = numbers(s.x(), false, 4, 1), w = numbers(s.w(), false, 4, 2),
                dy = numbers(s.y(), false, 4, 3);
    compare("conv_forward", x, w, s.y(), kRounded, static_cast<double>(s.R * s.S * s.C),
            [&](const Array& a, const Array& b, const Array& to) {
              return ConvForward{s, a.view(), b.view(), {}, to.view(), {}};
            });
    compare("conv_backward_data", dy, w, s.x(), kRounded, static_cast<double>(s.R * s.S * s.K),
            [&](const Array& a, const Array& b, const Array& to) {
              return ConvBackwardData{s, a.view(), b.view(), to.view(), {}};
            });
    compare("conv_backward_weights", x, dy, s.w(), kRounded, static_cast<double>(s.N * s.P() * s.Q()),
            [&](const Array& a, const Array& b, const Array& to) {
              return ConvBackwardWeights{s, a.view(), b.view(), to.view(), {}, true};
            });
  }
}

TEST(Tf32, FullyConnectedLayersRoundTheirOperands) {
  if (!tf32_here()) GTEST_SKIP() << "no CUDA device with TF32";
  constexpr int64_t N = 9, D = 37, F = 21;
  const Array x = numbers({N, D}, false, 4, 1), w = numbers({F, D}, false, 4, 2),
              dy = numbers({N, F}, false, 4, 3);
  compare("fc_forward", x, w, {N, F}, kCut, D, [&](const Array& a, const Array& b, const Array& to) {
    return FcForward{a.view(), b.view(), {}, to.view()};
  });
  compare("fc_backward_data", dy, w, {N, D}, kCut, F, [&](const Array& a, const Array& b, const Array& to) {
    return FcBackwardData{a.view(), b.view(), to.view(), {}};
  });
  compare("fc_backward_weights", x, dy, {F, D}, kCut, N,
          [&](const Array& a, const Array& b, const Array& to) {
            return FcBackwardWeights{a.view(), b.view(), to.view(), {}, true};
          });
}

}  // namespace
}  // namespace convoy::reference
