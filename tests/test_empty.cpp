// A worker may own no row of a batch and no output of a layer: every operation takes that, writes what is
// defined (a sum of nothing is 0, what is added to stays) and nothing else. Batch norm's, the losses' and the
// columns' own tests hold their empty cases.
#include "kernels/add.h"
#include "kernels/cast.h"
#include "kernels/conv.h"
#include "kernels/dropout.h"
#include "kernels/fc.h"
#include "kernels/fill.h"
#include "kernels/lrn.h"
#include "kernels/normalize.h"
#include "kernels/pool.h"
#include "kernels/relu.h"
#include "kernels/sgd.h"
#include "kernels/softmax.h"
#include "reference.h"

namespace convoy::reference {
namespace {

Want all_of(const Array& a, double value) {
  Want w;
  w.values.assign(static_cast<size_t>(a.count()), value);
  return w;
}
Doubles threes(const Array& a) {
  return all_of(a, 3).values;
}

// Every row count that takes a path of its own.
TEST(Empty, FcWithoutOutputs) {
  for (const int64_t N : {0, 1, 2, 3, 4, 5, 9, 40})
    for (const int64_t D : {1, 17, 300}) {
      const Array x = whole_numbers({N, D}, 4, 1), w(DType::kF32, {0, D}), bias(DType::kF32, {0}),
                  dy(DType::kF32, {N, 0}, 3);
      Array y(DType::kF32, {N, 0}, 3), dx(DType::kF32, {N, D}, D + 2), dw(DType::kF32, {0, D}),
          db(DType::kF32, {0});
      const std::string shape = text(" N ", N, " D ", D, " F 0");
      check_everywhere("fc_forward" + shape, {{"y", &y, {}}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, fc_forward, FcForward{x.view(), w.view(), {bias.view(), true}, y.view()});
      });
      for (const bool masked : {false, true})
        check_everywhere("fc_backward_data" + shape, {{"dx", &dx, all_of(dx, 0)}}, [&](Exec& ex) {
          CONVOY_INVOKE(ex, fc_backward_data,
                        FcBackwardData{dy.view(), w.view(), dx.view(), masked ? In(x.view()) : In()});
        });
      for (const bool overwrite : {false, true})
        check_everywhere("fc_backward_weights" + shape, {{"dw", &dw, {}}, {"db", &db, {}}}, [&](Exec& ex) {
          CONVOY_INVOKE(ex, fc_backward_weights,
                        FcBackwardWeights{x.view(), dy.view(), dw.view(), db.view(), overwrite});
        });
    }
}

TEST(Empty, FcWithoutRows) {
  const Array x(DType::kF32, {0, 33}), w = whole_numbers({20, 33}, 4, 1), bias = filled({20}, 1),
                                       dy(DType::kF32, {0, 20});
  Array y(DType::kF32, {0, 20}), dx(DType::kF32, {0, 33}), dw(DType::kF32, {20, 33}), db(DType::kF32, {20});
  check_everywhere("fc without rows", {{"y", &y, {}}, {"dx", &dx, {}}}, [&](Exec& ex) {
    CONVOY_INVOKE(ex, fc_forward, FcForward{x.view(), w.view(), {bias.view(), true}, y.view()});
    CONVOY_INVOKE(ex, fc_backward_data, FcBackwardData{dy.view(), w.view(), dx.view(), {}});
  });
  for (const bool overwrite : {false, true})
    check_everywhere("fc_backward_weights without rows",
                     {{"dw", &dw, all_of(dw, overwrite ? 0 : 3), threes(dw)},
                      {"db", &db, all_of(db, overwrite ? 0 : 3), threes(db)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, fc_backward_weights,
                                     FcBackwardWeights{x.view(), dy.view(), dw.view(), db.view(), overwrite});
                     });
}

void test_conv(const ConvShape& s) {
  const Array x = whole_numbers(s.x(), 4, 1), w = whole_numbers(s.w(), 4, 2), bias = filled({s.K}, 1),
              dy = whole_numbers(s.y(), 4, 3);
  Array y(DType::kF32, s.y()), dx(DType::kF32, s.x()), dw(DType::kF32, s.w()), db(DType::kF32, {s.K});
  const Shape half{s.N, s.P() / 2, s.Q() / 2, s.K};
  Array pooled(DType::kF32, half), index(DType::kU8, half);
  const std::string shape = text(" x ", s.x(), " w ", s.w(), " stride ", s.stride_h);
  check_everywhere("conv_forward" + shape, {{"y", &y, {}}, {"pooled", &pooled, {}}, {"index", &index, {}}},
                   [&](Exec& ex) {
                     ConvForward a{s, x.view(), w.view(), {bias.view(), true}, y.view(), {}};
                     CONVOY_INVOKE(ex, conv_forward, a);
                     a.y = pooled.view();
                     a.pool_index = index.view();
                     CONVOY_INVOKE(ex, conv_forward, a);
                   });
  for (const bool masked : {false, true})
    check_everywhere("conv_backward_data" + shape, {{"dx", &dx, all_of(dx, 0)}}, [&](Exec& ex) {
      CONVOY_INVOKE(ex, conv_backward_data,
                    ConvBackwardData{s, dy.view(), w.view(), dx.view(), masked ? In(x.view()) : In()});
    });
  for (const bool overwrite : {false, true})
    check_everywhere("conv_backward_weights" + shape,
                     {{"dw", &dw, all_of(dw, overwrite ? 0 : 3), threes(dw)},
                      {"db", &db, all_of(db, overwrite ? 0 : 3), threes(db)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(
                           ex, conv_backward_weights,
                           ConvBackwardWeights{s, x.view(), dy.view(), dw.view(), db.view(), overwrite});
                     });
}
TEST(Empty, Conv) {
  for (const auto& [N, K] : {std::pair<int64_t, int64_t>{3, 0}, {0, 8}, {0, 0}})
    for (const int64_t C : {3, 64})
      for (const int64_t stride : {1, 2}) test_conv({N, 8, 9, C, K, 3, 3, stride, stride, 1, 1});
}

const std::vector<Shape> kEmpty = {{0, 5, 6, 7}, {4, 5, 6, 0}, {0, 5, 6, 0}};

TEST(Empty, Pools) {
  for (const Shape& e : kEmpty)
    for (const int64_t window : {2, 3}) {
      PoolShape s;
      s.N = e[0], s.H = e[1], s.W = e[2], s.C = e[3];
      s.R = s.S = window, s.stride_h = s.stride_w = 2, s.pad_h = s.pad_w = window - 2;
      const Array x(DType::kF32, s.x()), dy(DType::kF32, s.y());
      Array y(DType::kF32, s.y()), index(DType::kU8, s.y()), dx(DType::kF32, s.x());
      check_everywhere(
          text("pools of ", e), {{"y", &y, {}}, {"index", &index, {}}, {"dx", &dx, {}}}, [&](Exec& ex) {
            CONVOY_INVOKE(ex, max_pool_forward, MaxPoolForward{s, x.view(), y.view(), index.view()});
            CONVOY_INVOKE(ex, max_pool_backward,
                          MaxPoolBackward{s, index.view(), dy.view(), y.view(), dx.view()});
            CONVOY_INVOKE(ex, average_pool_forward, AveragePoolForward{s, x.view(), y.view()});
            CONVOY_INVOKE(ex, average_pool_backward, AveragePoolBackward{s, dy.view(), dx.view()});
          });
    }
}

TEST(Empty, Elementwise) {
  const Scalars scalars;
  for (const Shape& e : kEmpty) {
    const Array x(DType::kF32, e);
    Array y(DType::kF32, e), count(DType::kI32, {1});
    const DropoutKey whole{scalars.get(), 1, 2, 0, 0.5f},
        split{scalars.get(), 1, 2, 1, 0.5f, {}, e[3], e[3] + 1};
    const In in = x.view();
    const Out out = y.view();
    check_everywhere(text("elementwise of ", e), {{"y", &y, {}}, {"nonfinite", &count, all_of(count, 0)}},
                     [&](Exec& ex) {
                       CONVOY_INVOKE(ex, relu_forward, ReluForward{in, out});
                       CONVOY_INVOKE(ex, relu_backward, ReluBackward{in, in, out});
                       CONVOY_INVOKE(ex, sigmoid_forward, SigmoidForward{in, out});
                       CONVOY_INVOKE(ex, sigmoid_backward, SigmoidBackward{in, in, out});
                       CONVOY_INVOKE(ex, tanh_forward, TanhForward{in, out});
                       CONVOY_INVOKE(ex, tanh_backward, TanhBackward{in, in, out});
                       for (const DropoutKey& key : {whole, split}) {
                         CONVOY_INVOKE(ex, dropout_forward, DropoutForward{key, in, out});
                         CONVOY_INVOKE(ex, dropout_backward, DropoutBackward{key, in, out});
                       }
                       CONVOY_INVOKE(ex, add, AddArgs{in, in, out, true});
                       CONVOY_INVOKE(ex, fill, FillArgs{1, out});
                       CONVOY_INVOKE(ex, scale, ScaleArgs{2, out});
                       CONVOY_INVOKE(ex, cast, CastArgs{in, out});
                       CONVOY_INVOKE(ex, lrn_forward, LrnForward{LrnWindow(), in, out});
                       CONVOY_INVOKE(ex, lrn_backward, LrnBackward{LrnWindow(), in, in, out});
                       CONVOY_INVOKE(ex, count_nonfinite, CountNonfinite{in, count.view()});
                     });
  }
}

TEST(Empty, Normalize) {
  const Array pixels(DType::kU8, {0, 8, 8, 3}), index(DType::kI32, {0}), c = filled({3}, 1);
  Array y(DType::kF32, {0, 8, 8, 3});
  const Scalars scalars;
  for (const int64_t pad : {0, 4})
    check_everywhere("normalize", {{"y", &y, {}}}, [&](Exec& ex) {
      CONVOY_INVOKE(
          ex, normalize,
          NormalizeArgs{
              scalars.get(), {pad, pad > 0, 1}, pixels.view(), index.view(), c.view(), c.view(), y.view()});
    });
}

TEST(Empty, Losses) {
  const Array x(DType::kF32, {0, 10}), labels(DType::kI32, {0});
  Array dx(DType::kF32, {0, 10}), loss(DType::kF32, {0}), rank(DType::kI32, {0});
  check_everywhere(
      "losses", {{"dx", &dx, {}}, {"row_loss", &loss, {}}, {"row_rank", &rank, {}}}, [&](Exec& ex) {
        CONVOY_INVOKE(ex, softmax_cross_entropy,
                      SoftmaxCrossEntropy{x.view(), labels.view(), dx.view(), loss.view(), rank.view()});
        CONVOY_INVOKE(ex, logistic_cross_entropy,
                      LogisticCrossEntropy{x.view(), labels.view(), dx.view(), loss.view(), rank.view()});
      });
}

TEST(Empty, Optimizers) {
  const StepScalars scalars;
  const Array g(DType::kF32, {0});
  Array w(DType::kF32, {0}), m(DType::kF32, {0}), v(DType::kF32, {0}), squares(DType::kF32, {1});
  check_everywhere(
      "optimizers", {{"w", &w, {}}, {"m", &m, {}}, {"v", &v, {}}, {"squares", &squares, all_of(squares, 0)}},
      [&](Exec& ex) {
        CONVOY_INVOKE(ex, sum_of_squares, SumOfSquares{g.view(), squares.view()});
        for (const bool nesterov : {false, true})
          CONVOY_INVOKE(
              ex, sgd_update,
              SgdUpdate{
                  &scalars, 0.9f, 0.1f, nesterov, 1, squares.view(), w.view(), g.view(), m.view(), {}, {}});
        CONVOY_INVOKE(ex, sgd_update,
                      SgdUpdate{&scalars, 0, 0, false, 0, {}, w.view(), g.view(), {}, {}, {}});
        AdamwUpdate adamw;
        adamw.scalars = &scalars;
        adamw.w = w.view();
        adamw.g = g.view();
        adamw.m = m.view();
        adamw.v = v.view();
        CONVOY_INVOKE(ex, adamw_update, adamw);
      });
}

}  // namespace
}  // namespace convoy::reference
