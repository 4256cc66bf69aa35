// A whole net, forward and backward, in double precision with loops of its own: every layer for itself,
// nothing fused, every gradient added up in a full-size array. Batch norm, LRN, sigmoid and tanh are left to
// the parity fixtures.
#pragma once
#include <cmath>
#include <vector>

#include "convoy/net.h"
#include "convoy/philox.h"
#include "reference_loops.h"

namespace convoy::reference {

using Values = std::vector<double>;

struct NetResult {
  std::vector<Values> y, dy;      // one a layer
  std::vector<Values> gradients;  // one a parameter spec
  double largest_sum = 0;         // of |terms|: below 2^24 every float sum of whole numbers is exact
};

class NetReference {
 public:
  NetReference(const Net& net, int64_t rows)
      : net_(net), shapes_(output_shapes(net, rows)), specs_(parameters(net)) {}

  // x: the normalised input; weights: one array a parameter spec, Convoy's layout; dlogits: the gradient at
  // the output.
  NetResult run(const Values& x, const std::vector<Values>& weights, const Values& dlogits, uint64_t seed,
                uint32_t step) {
    seed_ = seed;
    step_ = step;
    weights_ = &weights;
    r_ = NetResult();
    r_.y.resize(shapes_.size());
    for (const Shape& s : shapes_) r_.dy.emplace_back(static_cast<size_t>(s.count()), 0.0);
    for (const ParameterSpec& s : specs_)
      r_.gradients.emplace_back(static_cast<size_t>(s.shape.count()), 0.0);
    r_.y[0] = x;
    for (size_t i = 1; i < shapes_.size(); ++i) {
      r_.y[i].assign(static_cast<size_t>(shapes_[i].count()), 0.0);
      std::visit([&](const auto& spec) { layer(i, spec, false); }, net_.layers[i].spec);
    }
    r_.dy.back() = dlogits;
    for (size_t i = shapes_.size() - 1; i > 0; --i)
      std::visit([&](const auto& spec) { layer(i, spec, true); }, net_.layers[i].spec);
    return r_;
  }

 private:
  size_t input(size_t i, size_t k = 0) const { return static_cast<size_t>(net_.layers[i].inputs[k]); }
  size_t spec_of(size_t i, ParameterSpec::Role role) const {
    for (size_t s = 0; s < specs_.size(); ++s)
      if (specs_[s].layer == static_cast<int>(i) && specs_[s].role == role) return s;
    return specs_.size();
  }
  template <class Taps>
  void linear(size_t i, bool backward, Taps taps) {
    const size_t from = input(i), w = spec_of(i, ParameterSpec::kWeight),
                 b = spec_of(i, ParameterSpec::kBias);
    const Values &x = r_.y[from], &weight = (*weights_)[w];
    const auto features = static_cast<size_t>(specs_[w].shape[0]);
    const size_t outputs = r_.y[i].size();
    Values sum_y(outputs), sum_x(x.size()), sum_w(weight.size()), sum_b(features);  // of |terms|
    if (!backward) {
      taps([&](int64_t a, int64_t j, int64_t o) {
        const double term = x[static_cast<size_t>(a)] * weight[static_cast<size_t>(j)];
        r_.y[i][static_cast<size_t>(o)] += term;
        sum_y[static_cast<size_t>(o)] += std::fabs(term);
      });
      for (size_t o = 0; o < outputs && b < specs_.size(); ++o) {
        r_.y[i][o] += (*weights_)[b][o % features];
        sum_y[o] += std::fabs((*weights_)[b][o % features]);
      }
    } else {
      const Values& dy = r_.dy[i];
      taps([&](int64_t a, int64_t j, int64_t o) {
        const double d = dy[static_cast<size_t>(o)];
        r_.dy[from][static_cast<size_t>(a)] += d * weight[static_cast<size_t>(j)];
        sum_x[static_cast<size_t>(a)] += std::fabs(d * weight[static_cast<size_t>(j)]);
        r_.gradients[w][static_cast<size_t>(j)] += d * x[static_cast<size_t>(a)];
        sum_w[static_cast<size_t>(j)] += std::fabs(d * x[static_cast<size_t>(a)]);
      });
      for (size_t o = 0; o < outputs && b < specs_.size(); ++o) {
        r_.gradients[b][o % features] += dy[o];
        sum_b[o % features] += std::fabs(dy[o]);
      }
    }
    for (const Values* sums : {&sum_y, &sum_x, &sum_w, &sum_b})
      for (const double s : *sums) r_.largest_sum = std::max(r_.largest_sum, s);
  }

  void layer(size_t, const Input&, bool) {}
  void layer(size_t i, const Conv& c, bool backward) {
    linear(i, backward, [&](auto f) { for_conv_taps(shapes_[input(i)], shapes_[i], c, f); });
  }
  void layer(size_t i, const Fc&, bool backward) {
    const int64_t d = shapes_[input(i)].row();
    linear(i, backward, [&](auto f) { for_fc_taps(d, shapes_[i], f); });
  }
  template <class Pool, class F>
  void windows(size_t i, const Pool& pool, F f) {
    for_windows(shapes_[input(i)], shapes_[i], pool, f);
  }
  void layer(size_t i, const MaxPool& pool, bool backward) {
    const Values& x = r_.y[input(i)];
    windows(i, pool, [&](size_t o, const std::vector<size_t>& window) {
      size_t best = window[0];
      for (const size_t a : window)
        if (x[a] > x[best]) best = a;
      if (backward) r_.dy[input(i)][best] += r_.dy[i][o];
      r_.y[i][o] = x[best];
    });
  }
  void layer(size_t i, const AveragePool& pool, bool backward) {
    AveragePool p = pool;
    if (pool.global) p.r = shapes_[input(i)][1], p.s = shapes_[input(i)][2];
    const double scale = 1.0 / static_cast<double>(p.r * p.s);
    windows(i, p, [&](size_t o, const std::vector<size_t>& window) {
      for (const size_t a : window) {
        if (backward)
          r_.dy[input(i)][a] += r_.dy[i][o] * scale;
        else
          r_.y[i][o] += r_.y[input(i)][a] * scale;
      }
    });
  }
  void layer(size_t i, const Relu&, bool backward) {
    for (size_t o = 0; o < r_.y[i].size(); ++o) {
      const double x = r_.y[input(i)][o];
      r_.y[i][o] = x > 0 ? x : 0;
      if (backward && x > 0) r_.dy[input(i)][o] += r_.dy[i][o];
    }
  }
  void layer(size_t i, const Dropout& dropout, bool backward) {
    const auto row = static_cast<size_t>(shapes_[i].row());
    for (size_t o = 0; o < r_.y[i].size(); ++o) {
      const auto unit = static_cast<uint32_t>(o % row);
      const Philox4 v = philox(seed_, unit / 4, static_cast<uint32_t>(o / row), step_,
                               kDropoutStream + static_cast<uint32_t>(i));
      const double m =
          uniform_float(v.v[unit % 4]) >= dropout.p ? 1.0 / (1.0 - static_cast<double>(dropout.p)) : 0.0;
      r_.y[i][o] = r_.y[input(i)][o] * m;
      if (backward) r_.dy[input(i)][o] += r_.dy[i][o] * m;
    }
  }
  void layer(size_t i, const Add&, bool backward) {
    for (size_t o = 0; o < r_.y[i].size(); ++o) {
      r_.y[i][o] = r_.y[input(i, 0)][o] + r_.y[input(i, 1)][o];
      if (!backward) continue;
      r_.dy[input(i, 0)][o] += r_.dy[i][o];
      r_.dy[input(i, 1)][o] += r_.dy[i][o];
    }
  }
  template <class Other>
  void layer(size_t, const Other&, bool) {
    CONVOY_CHECK(false, "the reference has no such layer");
  }

  const Net& net_;
  std::vector<Shape> shapes_;
  std::vector<ParameterSpec> specs_;
  const std::vector<Values>* weights_ = nullptr;
  uint64_t seed_ = 0;
  uint32_t step_ = 0;
  NetResult r_;
};

}  // namespace convoy::reference
