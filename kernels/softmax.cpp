#include "kernels/softmax.h"

#include <cmath>

#include "kernels/each.h"

namespace convoy::CONVOY_CPU {
namespace {

struct Loss {
  int64_t rows = 0, classes = 0;
  const float* x = nullptr;
  const int32_t* labels = nullptr;
  float* dx = nullptr;  // or null
  float* row_loss = nullptr;
  int32_t* row_rank = nullptr;  // or null
};

template <class Args>
Loss checked(const Args& a) {
  Loss s;
  CONVOY_CHECK(a.x.shape.rank == 2, "x is ", a.x.shape, ", expected rows x classes");
  s.rows = a.x.shape[0];
  s.classes = a.x.shape[1];
  s.x = input(a.x, a.x.shape, "x");
  check_operand(a.labels, Shape{s.rows}, "labels");
  s.labels = a.labels.template as<int32_t>();
  if (!a.dx.empty()) s.dx = output(a.dx, a.x.shape, "dx");
  s.row_loss = output(a.row_loss, Shape{s.rows}, "row_loss");
  if (!a.row_rank.empty()) {
    check_operand(a.row_rank, Shape{s.rows}, "row_rank");
    s.row_rank = a.row_rank.template as<int32_t>();
  }
  for (int64_t n = 0; n < s.rows; ++n)
    CONVOY_CHECK(s.labels[n] >= 0 && s.labels[n] < s.classes, "label ", s.labels[n], " of row ", n, ", ",
                 s.classes, " classes");
  return s;
}

// How many classes beat the label's; all of them when any logit is NaN.
int32_t rank_of(const float* x, int64_t classes, int64_t label) {
  const float mine = x[label];
  int32_t better = 0, nan = 0;
  for (int64_t f = 0; f < classes; ++f) {
    better += x[f] > mine ? 1 : 0;
    nan += x[f] == x[f] ? 0 : 1;
  }
  for (int64_t f = 0; f < label; ++f) better += x[f] == mine ? 1 : 0;
  return nan > 0 ? static_cast<int32_t>(classes) : better;
}

}  // namespace

void softmax_cross_entropy(Exec& ex, const SoftmaxCrossEntropy& a) {
  const Loss s = checked(a);
  for_items(ex, s.rows, 16 * s.rows * s.classes,
            [&](int64_t n) {  // an expf costs about 16 elements of traffic
              const float* x = s.x + n * s.classes;
              const int64_t label = s.labels[n];
              if (s.row_rank != nullptr) s.row_rank[n] = rank_of(x, s.classes, label);
              float top = x[0];
              for (int64_t f = 1; f < s.classes; ++f) top = x[f] > top ? x[f] : top;
              const float mine = x[label];
              double sum = 0;
              if (s.dx == nullptr) {
                for (int64_t f = 0; f < s.classes; ++f) sum += expf(x[f] - top);
              } else {
                float* dx = s.dx + n * s.classes;
                for (int64_t f = 0; f < s.classes; ++f) {
                  dx[f] = expf(x[f] - top);
                  sum += dx[f];
                }
                const float scale = static_cast<float>(1 / sum);
                for (int64_t f = 0; f < s.classes; ++f) dx[f] *= scale;
                dx[label] -= 1.0f;
              }
              s.row_loss[n] = static_cast<float>(std::log(sum) + (static_cast<double>(top) - mine));
            });
}

void logistic_cross_entropy(Exec& ex, const LogisticCrossEntropy& a) {
  const Loss s = checked(a);
  for_items(ex, s.rows, 32 * s.rows * s.classes, [&](int64_t n) {
    const float* x = s.x + n * s.classes;
    const int64_t label = s.labels[n];
    if (s.row_rank != nullptr) s.row_rank[n] = rank_of(x, s.classes, label);
    const bool nan = [&] {
      float check = 0;
      for (int64_t f = 0; f < s.classes; ++f) check += x[f] == x[f] ? 0.0f : 1.0f;
      return check > 0;
    }();
    double sum = -static_cast<double>(x[label]);
    for (int64_t f = 0; f < s.classes; ++f) {
      // log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), and the same small exponential gives the sigmoid.
      const float v = x[f], e = expf(-fabsf(v));
      sum += (v > 0 ? v : 0.0f) + log1pf(e);
      if (s.dx == nullptr) continue;
      const float sigmoid = (v > 0 ? 1.0f : e) / (1.0f + e);
      s.dx[n * s.classes + f] = nan ? NAN : sigmoid - (f == label ? 1.0f : 0.0f);
    }
    s.row_loss[n] = nan ? NAN : static_cast<float>(sum);
  });
}

}  // namespace convoy::CONVOY_CPU
