// A training step of a whole net in double precision, every number with its bound (bounded.h): every layer for itself,
// nothing fused or divided. What any division of the step must come to.
//
// Where a decision (a ReLU's sign, a pool's maximum) is closer than the bound, a run may take either side, and the
// gradient shows which. Such decisions are listed; another run of the reference takes the other side of some.
#pragma once
#include <algorithm>
#include <set>
#include <utility>

#include "bounded.h"
#include "convoy/check.h"
#include "convoy/philox.h"
#include "convoy/train.h"
#include "reference_loops.h"

namespace convoy::reference {

struct Statistics {
  Bounded mean, variance, inverse_std;  // one a channel
  double elements = 0;
};

class BoundedNet {
 public:
  BoundedNet(const Net& net, const Arithmetic& arithmetic, Loss kind)
      : net_(net), specs_(parameters(net)), m_(arithmetic), kind_(kind) {}

  // Of one run, sums over its rows.
  std::vector<Bounded> gradients;      // one a parameter spec; empty for buffers
  std::vector<Statistics> statistics;  // one a layer; empty but for batch norm
  Value loss;
  int64_t correct = 0, uncertain_rows = 0;  // rows whose prediction is right; that may be either
  // Of all runs, numbered on: those that may go either way, and those of them that go the other way.
  int64_t decisions = 0;
  std::vector<int64_t> undecided;
  std::set<int64_t> flipped;

  // pixels and labels of the rows `rows` of the global batch. `parts`: runs that make up a sum together.
  void run(const ModelOptions& options, uint32_t step, const std::vector<uint8_t>& pixels,
           const std::vector<int32_t>& labels, const std::vector<int32_t>& rows,
           const std::vector<Bounded>& weights, int64_t parts = 1) {
    options_ = &options;
    step_ = step;
    rows_ = &rows;
    weights_ = &weights;
    parts_ = parts;
    shapes_ = output_shapes(net_, static_cast<int64_t>(rows.size()));
    y_.assign(shapes_.size(), {});
    dy_.assign(shapes_.size(), {});
    statistics.assign(shapes_.size(), {});
    passes_.assign(shapes_.size(), {});
    gradients.assign(specs_.size(), {});
    for (size_t i = 0; i < shapes_.size(); ++i)
      y_[i].resize(static_cast<size_t>(shapes_[i].count())), dy_[i].resize(y_[i].size());
    read_pixels(pixels);
    for (size_t i = 1; i < shapes_.size(); ++i)
      std::visit([&](const auto& spec) { layer(i, spec, false); }, net_.layers[i].spec);
    compare_with(labels);
    for (size_t i = shapes_.size() - 1; i > 0; --i)
      std::visit([&](const auto& spec) { layer(i, spec, true); }, net_.layers[i].spec);
  }

 private:
  size_t input(size_t i, size_t k = 0) const { return static_cast<size_t>(net_.layers[i].inputs[k]); }
  size_t spec_of(size_t i, ParameterSpec::Role role) const {
    for (size_t s = 0; s < specs_.size(); ++s)
      if (specs_[s].layer == static_cast<int>(i) && specs_[s].role == role) return s;
    return specs_.size();
  }
  // A gradient that several layers hand down.
  void arrive(size_t i, size_t element, const Value& d) {
    Value& dy = dy_[i][element];
    dy = dy.v == 0 && dy.e == 0 ? d : m_.add(dy, d);
  }

  void read_pixels(const std::vector<uint8_t>& pixels) {
    const auto row = static_cast<size_t>(shapes_[0].row()), channels = static_cast<size_t>(shapes_[0][3]);
    for (size_t o = 0; o < y_[0].size(); ++o) {
      const double mean = static_cast<double>(options_->normalization.mean[o % channels]),
                   deviation = static_cast<double>(options_->normalization.stddev[o % channels]);
      const double pixel = pixels[static_cast<size_t>((*rows_)[o / row]) * row + o % row] / 255.0 / deviation;
      y_[0][o] = m_.rounded(pixel - mean / deviation, 0, pixel + std::fabs(mean / deviation), 3);
    }
  }

  template <class Taps>
  void linear(size_t i, bool backward, Taps taps) {
    const size_t from = input(i), w = spec_of(i, ParameterSpec::kWeight),
                 b = spec_of(i, ParameterSpec::kBias);
    const Bounded &x = y_[from], &weight = (*weights_)[w], &dy = dy_[i];
    const auto features = static_cast<size_t>(specs_[w].shape[0]);
    const bool bias = b < specs_.size();
    if (!backward) {
      std::vector<Sum> sums(y_[i].size());
      taps([&](int64_t a, int64_t j, int64_t o) {
        m_.add_product(sums[static_cast<size_t>(o)], x[static_cast<size_t>(a)],
                       weight[static_cast<size_t>(j)]);
      });
      for (size_t o = 0; o < sums.size(); ++o) {
        if (bias) m_.add_to(sums[o], (*weights_)[b][o % features]);
        y_[i][o] = m_.total(sums[o]);
      }
      return;
    }
    std::vector<Sum> dx(x.size()), dw(weight.size()), db(bias ? features : 0);
    taps([&](int64_t a, int64_t j, int64_t o) {
      const Value& d = dy[static_cast<size_t>(o)];
      m_.add_product(dx[static_cast<size_t>(a)], d, weight[static_cast<size_t>(j)]);
      m_.add_product(dw[static_cast<size_t>(j)], d, x[static_cast<size_t>(a)]);
    });
    for (size_t o = 0; o < dy.size() && bias; ++o) m_.add_to(db[o % features], dy[o]);
    for (size_t a = 0; a < dx.size() && from > 0; ++a) arrive(from, a, m_.total(dx[a]));
    for (const Sum& sum : dw) gradients[w].push_back(m_.total(sum, parts_));
    for (const Sum& sum : db) gradients[b].push_back(m_.total(sum, parts_));
  }

  void layer(size_t, const Input&, bool) {}
  void layer(size_t i, const Conv& c, bool backward) {
    linear(i, backward, [&](auto f) { for_conv_taps(shapes_[input(i)], shapes_[i], c, f); });
  }
  void layer(size_t i, const Fc&, bool backward) {
    linear(i, backward, [&](auto f) { for_fc_taps(shapes_[input(i)].row(), shapes_[i], f); });
  }

  // Whether the decision goes the other way.
  bool decide(bool open) {
    if (open) undecided.push_back(decisions);
    return flipped.count(decisions++) > 0;
  }
  void layer(size_t i, const Relu&, bool backward) {
    const Bounded& x = y_[input(i)];
    std::vector<size_t>& passes = passes_[i];
    if (!backward) passes.assign(x.size(), 0);
    for (size_t o = 0; o < x.size(); ++o) {
      if (!backward) {
        const bool open = x[o].e > 0 && std::fabs(x[o].v) <= m_.bound(x[o]), positive = x[o].v > 0;
        passes[o] = positive != decide(open);
        y_[i][o] = {positive ? x[o].v : 0, positive || open ? x[o].e : 0};
      } else if (passes[o] != 0) {
        arrive(input(i), o, dy_[i][o]);
      }
    }
  }
  void layer(size_t i, const MaxPool& pool, bool backward) {
    const Bounded& x = y_[input(i)];
    std::vector<size_t>& winners = passes_[i];
    if (!backward) winners.assign(y_[i].size(), 0);
    for_windows(shapes_[input(i)], shapes_[i], pool, [&](size_t o, const std::vector<size_t>& window) {
      if (backward) return arrive(input(i), winners[o], dy_[i][o]);
      size_t best = window[0];
      for (const size_t a : window)
        if (x[a].v > x[best].v) best = a;
      size_t other = best;  // the next one that may win
      y_[i][o] = x[best];
      for (const size_t a : window) {
        const bool may_win = x[a].v + m_.bound(x[a]) >= x[best].v - m_.bound(x[best]);
        if (a == best || !may_win || x[a].e + x[best].e == 0) continue;
        if (other == best || x[a].v > x[other].v) other = a;
        y_[i][o].e = std::max(y_[i][o].e, x[a].e);
      }
      winners[o] = decide(other != best) ? other : best;
    });
  }
  void layer(size_t i, const AveragePool& pool, bool backward) {
    AveragePool p = pool;
    if (pool.global) p.r = shapes_[input(i)][1], p.s = shapes_[input(i)][2];
    const Value scale{1.0 / static_cast<double>(p.r * p.s), 0};
    for_windows(shapes_[input(i)], shapes_[i], p, [&](size_t o, const std::vector<size_t>& window) {
      Sum sum;
      for (const size_t a : window) {
        if (backward)
          arrive(input(i), a, m_.mul(dy_[i][o], scale));
        else
          m_.add_to(sum, y_[input(i)][a]);
      }
      if (!backward) y_[i][o] = m_.mul(m_.total(sum), scale);
    });
  }
  void layer(size_t i, const Dropout& dropout, bool backward) {
    const auto row = static_cast<size_t>(shapes_[i].row());
    for (size_t o = 0; o < y_[i].size(); ++o) {
      const auto unit = static_cast<uint32_t>(o % row);
      const Philox4 random = philox(options_->seed, unit / 4, static_cast<uint32_t>((*rows_)[o / row]), step_,
                                    kDropoutStream + static_cast<uint32_t>(i));
      if (uniform_float(random.v[unit % 4]) < dropout.p) continue;
      const Value scale = m_.rounded(1 / (1 - static_cast<double>(dropout.p)), 0, 1);
      if (backward)
        arrive(input(i), o, m_.mul(dy_[i][o], scale));
      else
        y_[i][o] = m_.mul(y_[input(i)][o], scale);
    }
  }
  void layer(size_t i, const Add&, bool backward) {
    for (size_t o = 0; o < y_[i].size(); ++o) {
      if (!backward) y_[i][o] = m_.add(y_[input(i, 0)][o], y_[input(i, 1)][o]);
      for (size_t k = 0; k < 2 && backward; ++k) arrive(input(i, k), o, dy_[i][o]);
    }
  }

  void layer(size_t i, const BatchNorm& spec, bool backward) {
    const Bounded &x = y_[input(i)], &gamma = (*weights_)[spec_of(i, ParameterSpec::kGamma)],
                  &beta = (*weights_)[spec_of(i, ParameterSpec::kBeta)];
    const size_t channels = gamma.size();
    const Value per_element{static_cast<double>(channels) / static_cast<double>(x.size()), 0};
    if (!backward) statistics[i] = statistics_of(x, channels, per_element, static_cast<double>(spec.eps));
    const Statistics& s = statistics[i];
    if (!backward) {
      for (size_t o = 0; o < x.size(); ++o) {
        const size_t c = o % channels;
        const Value scale = m_.mul(gamma[c], s.inverse_std[c]);
        y_[i][o] = m_.add(m_.mul(m_.sub(x[o], s.mean[c]), scale), beta[c]);
      }
      return;
    }
    const Bounded& dy = dy_[i];
    std::vector<Sum> offset(channels), slope(channels);
    for (size_t o = 0; o < x.size(); ++o) {
      m_.add_to(offset[o % channels], dy[o]);
      m_.add_to(slope[o % channels], m_.mul(dy[o], m_.sub(x[o], s.mean[o % channels])));
    }
    Bounded dbeta, dgamma;
    for (size_t c = 0; c < channels; ++c) {
      dbeta.push_back(m_.total_in_double(offset[c]));
      dgamma.push_back(m_.mul(m_.total_in_double(slope[c]), s.inverse_std[c]));
    }
    for (size_t o = 0; o < x.size(); ++o) {
      const size_t c = o % channels;
      const Value mean_gradient = m_.mul(dbeta[c], per_element);
      const Value mean_slope = m_.mul(m_.mul(dgamma[c], per_element), s.inverse_std[c]);
      const Value d = m_.sub(m_.sub(dy[o], mean_gradient), m_.mul(m_.sub(x[o], s.mean[c]), mean_slope));
      arrive(input(i), o, m_.mul(m_.mul(gamma[c], s.inverse_std[c]), d));
    }
    gradients[spec_of(i, ParameterSpec::kGamma)] = dgamma;
    gradients[spec_of(i, ParameterSpec::kBeta)] = dbeta;
  }
  // The workers' means are rounded before they are merged, which moves every (x - mean)² a little.
  Statistics statistics_of(const Bounded& x, size_t channels, const Value& per_element, double eps) const {
    std::vector<Sum> sums(channels), squares(channels);
    std::vector<double> largest(channels);
    for (size_t o = 0; o < x.size(); ++o) {
      m_.add_to(sums[o % channels], x[o]);
      largest[o % channels] = std::max(largest[o % channels], std::fabs(x[o].v));
    }
    Statistics s;
    for (const Sum& sum : sums) s.mean.push_back(m_.mul(m_.total_in_double(sum), per_element));
    for (size_t o = 0; o < x.size(); ++o) {
      const size_t c = o % channels;
      const double d = x[o].v - s.mean[c].v;
      m_.add_to(squares[c], d * d, m_.power(2 * d) * (x[o].e + m_.power(m_.kU * largest[c])));
    }
    for (size_t c = 0; c < channels; ++c) {
      s.variance.push_back(m_.mul(m_.total_in_double(squares[c]), per_element));
      s.inverse_std.push_back(m_.inverse_sqrt(m_.add(s.variance[c], {eps, 0})));
    }
    s.elements = 1 / per_element.v;
    return s;
  }

  void layer(size_t i, const Lrn& lrn, bool backward) {
    const Bounded& x = y_[input(i)];
    const int64_t C = shapes_[i][3], window = lrn.window;
    const double beta = static_cast<double>(lrn.beta), k = static_cast<double>(lrn.k);
    const double per_square = static_cast<double>(lrn.alpha) / static_cast<double>(window);
    const Value alpha = m_.rounded(per_square, 0, per_square);
    const auto slope = [&](double power, const Value& s) {
      return power * std::pow(std::max(s.v - m_.bound(s), k), -power - 1);
    };
    for (int64_t first = 0; first < static_cast<int64_t>(x.size()); first += C) {
      Bounded scale, terms;  // s^-beta, and dy · x · s^(-beta - 1), of every channel
      for (int64_t c = 0; c < C; ++c) {
        Sum squares;
        for (int64_t j = std::max<int64_t>(0, c - window / 2); j <= std::min(C - 1, c + (window - 1) / 2);
             ++j)
          m_.add_product(squares, x[static_cast<size_t>(first + j)], x[static_cast<size_t>(first + j)]);
        const Value s = m_.add(m_.mul(m_.total(squares), alpha), {k, 0});
        const auto o = static_cast<size_t>(first + c);
        scale.push_back(m_.apply(std::pow(s.v, -beta), slope(beta, s), s, 4));
        if (!backward) y_[i][o] = m_.mul(x[o], scale.back());
        const Value steep = m_.apply(std::pow(s.v, -beta - 1), slope(beta + 1, s), s, 6);
        terms.push_back(m_.mul(m_.mul(dy_[i][o], x[o]), steep));
      }
      for (int64_t j = 0; j < C && backward; ++j) {
        Sum heard;
        for (int64_t c = std::max<int64_t>(0, j - (window - 1) / 2); c <= std::min(C - 1, j + window / 2);
             ++c)
          m_.add_to(heard, terms[static_cast<size_t>(c)]);
        const auto o = static_cast<size_t>(first + j);
        const Value rest = m_.mul(m_.mul({2 * beta, 0}, alpha), m_.mul(x[o], m_.total(heard)));
        arrive(input(i), o, m_.sub(m_.mul(dy_[i][o], scale[static_cast<size_t>(j)]), rest));
      }
    }
  }

  void compare_with(const std::vector<int32_t>& labels) {
    const auto classes = static_cast<size_t>(shapes_.back().row());
    Sum losses;
    correct = uncertain_rows = 0;
    for (size_t n = 0; n < rows_->size(); ++n) {
      const Value* z = y_.back().data() + n * classes;
      Value* dz = dy_.back().data() + n * classes;
      const auto label = static_cast<size_t>(labels[static_cast<size_t>((*rows_)[n])]);
      bool right = true, open = false;
      for (size_t f = 0; f < classes; ++f) {
        if (f == label) continue;
        right = right && (z[f].v < z[label].v || (z[f].v == z[label].v && f > label));
        open = open || std::fabs(z[f].v - z[label].v) <= m_.bound(z[f]) + m_.bound(z[label]);
      }
      correct += right;
      uncertain_rows += open;
      m_.add_to(losses,
                kind_ == Loss::kSoftmax ? softmax(z, dz, classes, label) : logistic(z, dz, classes, label));
    }
    loss = m_.total(losses);
  }
  // The exponentials' own error: vectorised ones promise 4 units in the last place.
  Value softmax(const Value* z, Value* dz, size_t classes, size_t label) const {
    size_t top = 0;
    for (size_t f = 0; f < classes; ++f)
      if (z[f].v > z[top].v) top = f;
    Sum sum;
    Bounded powers;
    for (size_t f = 0; f < classes; ++f) {
      const Value d = f == top ? Value{} : m_.sub(z[f], z[top]);
      powers.push_back(m_.apply(std::exp(d.v), std::exp(d.v + m_.bound(d)), d, 8));
      m_.add_to(sum, powers.back());
    }
    const Value all = m_.total(sum);
    const Value inverse = m_.inverse(all);
    for (size_t f = 0; f < classes; ++f) {
      dz[f] = m_.mul(powers[f], inverse);
      if (f == label) dz[f] = m_.sub(dz[f], {1, 0});
    }
    return m_.add(m_.apply(std::log(all.v), 1 / (all.v - m_.bound(all)), all, 8), m_.sub(z[top], z[label]));
  }
  Value logistic(const Value* z, Value* dz, size_t classes, size_t label) const {
    Sum sum;
    for (size_t f = 0; f < classes; ++f) {
      const double v = z[f].v, e = std::exp(-std::fabs(v));
      m_.add_to(sum, m_.add({std::max(v, 0.0), z[f].e}, m_.rounded(std::log1p(e), 0, 1, 8)));
      dz[f] = m_.rounded(1 / (1 + std::exp(-v)), m_.power(0.25) * z[f].e, 1, 8);
      if (f == label) dz[f] = m_.sub(dz[f], {1, 0});
    }
    m_.add_to(sum, {-z[label].v, z[label].e});
    return m_.total(sum);
  }

  template <class Other>
  void layer(size_t, const Other&, bool) {
    CONVOY_CHECK(false, "the reference has no such layer");
  }

  const Net& net_;
  std::vector<ParameterSpec> specs_;
  Arithmetic m_;
  Loss kind_;
  const ModelOptions* options_ = nullptr;
  uint32_t step_ = 0;
  const std::vector<int32_t>* rows_ = nullptr;
  const std::vector<Bounded>* weights_ = nullptr;
  int64_t parts_ = 1;
  std::vector<Shape> shapes_;
  std::vector<Bounded> y_, dy_;
  std::vector<std::vector<size_t>>
      passes_;  // which ReLUs pass the gradient on, which input of a pool gets it
};

}  // namespace convoy::reference
