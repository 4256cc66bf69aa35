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
  float loss_scale = 1;
};

const int32_t* checked_labels(const In& labels, int64_t rows) {
  check_operand(labels, Shape{rows}, "labels");
  return labels.as<int32_t>();
}

template <class Args>
Loss checked(const Args& a, int64_t all_classes) {
  Loss s;
  CONVOY_CHECK(a.x.shape.rank == 2, "x is ", a.x.shape, ", expected rows x classes");
  s.rows = a.x.shape[0];
  s.classes = a.x.shape[1];
  s.x = input(a.x, a.x.shape, "x");
  s.labels = checked_labels(a.labels, s.rows);
  if (!a.dx.empty()) s.dx = output(a.dx, a.x.shape, "dx");
  s.row_loss = output(a.row_loss, Shape{s.rows}, "row_loss");
  if (!a.row_rank.empty()) {
    check_operand(a.row_rank, Shape{s.rows}, "row_rank");
    s.row_rank = a.row_rank.template as<int32_t>();
  }
  if (a.scalars != nullptr) s.loss_scale = a.scalars->loss_scale;
  for (int64_t n = 0; n < s.rows; ++n)
    CONVOY_CHECK(s.labels[n] >= 0 && s.labels[n] < all_classes, "label ", s.labels[n], " of row ", n, ", ",
                 all_classes, " classes");
  return s;
}

// How many of the classes beat class `label` (inside of them or not), whose logit is `mine`; all of them when
// a logit is NaN.
int32_t rank_of(const float* x, int64_t classes, int64_t label, float mine) {
  int32_t better = 0, nan = mine == mine ? 0 : 1;
  for (int64_t f = 0; f < classes; ++f) {
    better += x[f] > mine ? 1 : 0;
    nan += x[f] == x[f] ? 0 : 1;
  }
  for (int64_t f = 0; f < smaller(label, classes); ++f) better += x[f] == mine ? 1 : 0;
  return nan > 0 ? static_cast<int32_t>(classes) : better;
}

}  // namespace

void softmax_cross_entropy(Exec& ex, const SoftmaxCrossEntropy& a) {
  const Loss s = checked(a, a.x.shape[1]);
  for_items(ex, s.rows, 16 * s.rows * s.classes,
            [&](int64_t n) {  // an expf costs about 16 elements of traffic
              const float* x = s.x + n * s.classes;
              const int64_t label = s.labels[n];
              if (s.row_rank != nullptr) s.row_rank[n] = rank_of(x, s.classes, label, x[label]);
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
                if (s.loss_scale != 1)
                  for (int64_t f = 0; f < s.classes; ++f) dx[f] *= s.loss_scale;
              }
              s.row_loss[n] = static_cast<float>(std::log(sum) + (static_cast<double>(top) - mine));
            });
}

void logistic_cross_entropy(Exec& ex, const LogisticCrossEntropy& a) {
  const int64_t all = a.classes == 0 ? a.x.shape[1] : a.classes;
  CONVOY_CHECK(a.first_class >= 0 && a.first_class + a.x.shape[1] <= all, "x is ", a.x.shape, ", classes ",
               a.first_class, "+", a.x.shape[1], " of ", all);
  CONVOY_CHECK(a.x.shape[1] == all || a.row_rank.empty(), "x holds ", a.x.shape[1], " of ", all,
               " classes: no rank without the others");
  const Loss s = checked(a, all);
  for_items(ex, s.rows, 32 * s.rows * s.classes, [&](int64_t n) {
    const float* x = s.x + n * s.classes;
    const int64_t label = s.labels[n] - a.first_class;
    const bool own = label >= 0 && label < s.classes;
    if (s.row_rank != nullptr) s.row_rank[n] = rank_of(x, s.classes, label, x[label]);
    const bool nan = [&] {
      float check = 0;
      for (int64_t f = 0; f < s.classes; ++f) check += x[f] == x[f] ? 0.0f : 1.0f;
      return check > 0;
    }();
    double sum = own ? -static_cast<double>(x[label]) : 0;
    for (int64_t f = 0; f < s.classes; ++f) {
      // log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|)), and the same small exponential gives the sigmoid.
      const float v = x[f], e = expf(-fabsf(v));
      sum += (v > 0 ? v : 0.0f) + log1pf(e);
      if (s.dx == nullptr) continue;
      const float sigmoid = (v > 0 ? 1.0f : e) / (1.0f + e);
      s.dx[n * s.classes + f] = nan ? NAN : (sigmoid - (f == label ? 1.0f : 0.0f)) * s.loss_scale;
    }
    s.row_loss[n] = nan ? NAN : static_cast<float>(sum);
  });
}

namespace {

Shape checked_rows(const In& x) {
  CONVOY_CHECK(x.shape.rank == 2, "x is ", x.shape, ", expected rows x classes");
  return Shape{x.shape[0]};
}

}  // namespace

void label_logit(Exec&, const LabelLogit& a) {
  const Shape rows = checked_rows(a.x);
  const int64_t classes = a.x.shape[1];
  const float* x = input(a.x, a.x.shape, "x");
  const int32_t* labels = checked_labels(a.labels, rows[0]);
  float* logit = output(a.logit, rows, "logit");
  for (int64_t n = 0; n < rows[0]; ++n) {
    const int64_t label = labels[n] - a.first_class;
    logit[n] = label >= 0 && label < classes ? x[n * classes + label] : 0.0f;
  }
}

void label_rank(Exec& ex, const LabelRank& a) {
  const Shape rows = checked_rows(a.x);
  const int64_t classes = a.x.shape[1];
  const float* x = input(a.x, a.x.shape, "x");
  const int32_t* labels = checked_labels(a.labels, rows[0]);
  const float* logit = input(a.logit, rows, "logit");
  float* rank = output(a.rank, rows, "rank");
  for_items(ex, rows[0], rows[0] * classes, [&](int64_t n) {
    rank[n] = static_cast<float>(rank_of(x + n * classes, classes, labels[n] - a.first_class, logit[n]));
  });
}

}  // namespace convoy::CONVOY_CPU
