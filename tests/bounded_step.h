// The whole training step with bounds: passes, loss, gradients, clipping, update.
#pragma once
#include "bounded_net.h"
#include "parallel_state.h"

namespace convoy::reference {

struct StepCase {
  const Net* net = nullptr;
  int cut = 0;  // the first split layer
  ModelOptions options;
  StepSettings settings;
  int64_t split_updates = 0;  // before the step
  // The rows of each pass after which the split half is updated; one pass with all of them: at the end.
  std::vector<std::vector<int32_t>> passes;
};

class BoundedStep {
 public:
  BoundedStep(const StepCase& given, bool worst)
      : c_(given), m_(worst), net_(*given.net, m_, given.options.loss) {}

  std::vector<Bounded> gradients, weights;  // gradients of the split half: of the last pass
  Value loss;
  int64_t correct = 0, uncertain_rows = 0;

  void run(const Examples& examples, const State& from, const std::vector<int64_t>& flipped = {}) {
    net_.flipped = {flipped.begin(), flipped.end()};
    const std::vector<ParameterSpec> specs = parameters(*c_.net);
    const auto exact = [](const Tensors& tensors) {
      std::vector<Bounded> values;
      for (const std::vector<float>& tensor : tensors) {
        values.emplace_back();
        for (const float v : tensor) values.back().push_back({static_cast<double>(v), 0});
      }
      return values;
    };
    weights = exact(from.values);
    moments_ = {exact(from.moments[0]), exact(from.moments[1])};
    gradients.assign(specs.size(), {});
    loss = {};
    correct = uncertain_rows = 0;
    int64_t split_updates = c_.split_updates;
    const bool each_pass = c_.passes.size() > 1;
    for (const std::vector<int32_t>& rows : c_.passes) {
      net_.run(c_.options, static_cast<uint32_t>(c_.settings.step), examples.pixels, examples.labels, rows,
               weights, static_cast<int64_t>(c_.passes.size()));
      loss = m_.add(loss, net_.loss);
      correct += net_.correct;
      uncertain_rows += net_.uncertain_rows;
      for (size_t i = 0; i < specs.size(); ++i) {
        Bounded& g = gradients[i];
        if (g.empty() || specs[i].layer >= c_.cut)
          g = net_.gradients[i];
        else
          for (size_t j = 0; j < g.size(); ++j) g[j] = m_.add(g[j], net_.gradients[i][j]);
      }
      if (each_pass) update(specs, true, per_row(rows.size()), split_updates++);
    }
    for (size_t i = 0; i < specs.size(); ++i)
      if (specs[i].buffer()) running(specs[i], weights[i]);
    const Value factor = clipped(per_row(static_cast<size_t>(examples.rows)));
    update(specs, false, factor, c_.settings.step);
    if (!each_pass) update(specs, true, factor, split_updates);
  }

  int64_t decisions() const { return net_.decisions; }
  const std::vector<int64_t>& undecided() const { return net_.undecided; }
  std::string name(size_t spec) const { return parameters(*c_.net)[spec].name; }
  double bound(const Value& value) const { return m_.bound(value); }

 private:
  Value per_row(size_t rows) const {
    return m_.rounded(1.0 / static_cast<double>(rows), 0, 1.0 / static_cast<double>(rows));
  }

  Value clipped(const Value& scale) const {
    const double most = static_cast<double>(c_.options.optimizer.clip_norm);
    if (most == 0) return scale;
    Sum squares;
    for (const Bounded& tensor : gradients)
      for (const Value& g : tensor) m_.add_product(squares, g, g);
    const Value norm = m_.mul(m_.square_root(m_.total(squares)), scale);
    EXPECT_GT(norm.v, 1.5 * most) << "nothing is clipped";
    return m_.mul(scale, m_.mul({most, 0}, m_.inverse(m_.add(norm, {1e-6, 0}))));
  }

  void running(const ParameterSpec& spec, Bounded& values) const {
    const auto layer = static_cast<size_t>(spec.layer);
    const double momentum = static_cast<double>(std::get<BatchNorm>(c_.net->layers[layer].spec).momentum);
    const Statistics& now = net_.statistics[layer];
    const double unbiased = now.elements / (now.elements - 1);
    for (size_t c = 0; c < values.size(); ++c) {
      const Value fresh = spec.role == ParameterSpec::kRunningMean
                              ? now.mean[c]
                              : m_.mul(now.variance[c], m_.rounded(unbiased, 0, unbiased));
      const Value keep = m_.rounded(1 - momentum, 0, 1 - momentum);
      values[c] = m_.add(m_.mul(keep, values[c]), m_.mul({momentum, 0}, fresh));
    }
  }

  void update(const std::vector<ParameterSpec>& specs, bool split, const Value& factor, int64_t updates) {
    const float lr = split ? c_.settings.split_lr.value_or(c_.settings.lr) : c_.settings.lr;
    for (size_t i = 0; i < specs.size(); ++i)
      for (size_t j = 0; j < gradients[i].size() && (specs[i].layer >= c_.cut) == split; ++j) {
        const Value g = m_.mul(gradients[i][j], factor);
        if (c_.options.optimizer.kind == OptimizerKind::kSgd)
          sgd(weights[i][j], g, moments_[0][i][j], static_cast<double>(lr));
        else
          adamw(weights[i][j], g, moments_[0][i][j], moments_[1][i][j], static_cast<double>(lr), updates);
      }
  }
  void sgd(Value& w, const Value& gradient, Value& velocity, double lr) const {
    const Optimizer& o = c_.options.optimizer;
    const Value momentum{static_cast<double>(o.momentum), 0};
    const Value g = m_.add(gradient, m_.mul({static_cast<double>(o.weight_decay), 0}, w));
    velocity = m_.add(m_.mul(momentum, velocity), g);
    const Value step = o.nesterov ? m_.add(g, m_.mul(momentum, velocity)) : velocity;
    w = m_.sub(w, m_.mul({lr, 0}, step));
  }
  void adamw(Value& w, const Value& g, Value& m, Value& v, double lr, int64_t updates) const {
    const Optimizer& o = c_.options.optimizer;
    const double b1 = static_cast<double>(o.beta1), b2 = static_cast<double>(o.beta2),
                 t = static_cast<double>(updates + 1);
    const auto constant = [this](double x) { return m_.rounded(x, 0, x, 2); };
    m = m_.add(m_.mul({b1, 0}, m), m_.mul(constant(1 - b1), g));
    v = m_.add(m_.mul({b2, 0}, v), m_.mul(constant(1 - b2), m_.mul(g, g)));
    const Value root = m_.mul(m_.square_root(v), constant(1 / std::sqrt(1 - std::pow(b2, t))));
    const Value over = m_.inverse(m_.add(root, {static_cast<double>(o.eps), 0}));
    const Value step = m_.mul(m_.mul(constant(lr / (1 - std::pow(b1, t))), m), over);
    w = m_.sub(m_.mul(constant(1 - lr * static_cast<double>(o.weight_decay)), w), step);
  }

  StepCase c_;
  Arithmetic m_;
  BoundedNet net_;
  std::array<std::vector<Bounded>, 2> moments_;
};

// The step, and the same with other sides taken of the decisions that are too close: a run's is one of them.
class PossibleSteps {
 public:
  PossibleSteps(const StepCase& given, bool worst, const Examples& examples, const State& from) {
    constexpr size_t kMost = 8;  // decisions; twice the work for each
    steps_.emplace_back(given, worst);
    steps_[0].run(examples, from);
    const std::vector<int64_t> open = steps_[0].undecided();
    EXPECT_LE(open.size(), kMost) << "the bounds say too little";
    for (size_t sides = 1; sides < size_t{1} << std::min(open.size(), kMost); ++sides) {
      std::vector<int64_t> flipped;
      for (size_t i = 0; i < open.size(); ++i)
        if ((sides >> i & 1) != 0) flipped.push_back(open[i]);
      steps_.emplace_back(given, worst);
      steps_.back().run(examples, from, flipped);
    }
  }

  const BoundedStep& first() const { return steps_[0]; }

  // Reports what is wrong with a run, of which this is everything that its workers have afterwards. Returns the largest
  // difference in bounds: of gradients and of weights.
  std::array<double, 2> check(const State& seen, const StepReport& report, const std::string& what) const {
    std::string wrong;
    for (const BoundedStep& step : steps_) {
      std::string found;
      const std::array<double, 2> off{compare(step, step.gradients, seen.gradients, "gradient of ", found),
                                      compare(step, step.weights, seen.values, "", found)};
      if (!(std::fabs(report.loss - step.loss.v) <= step.bound(step.loss)))
        found += text("loss ", report.loss, ", want ", step.loss.v, "; ");
      if (std::abs(report.correct - step.correct) > step.uncertain_rows)
        found += text(report.correct, " right, want ", step.correct, "; ");
      if (found.empty()) return off;
      if (wrong.empty()) wrong = found;
    }
    ADD_FAILURE() << what << ": " << wrong;
    return {INFINITY, INFINITY};
  }

 private:
  static double compare(const BoundedStep& step, const std::vector<Bounded>& want, const Tensors& seen,
                        const char* kind, std::string& found) {
    double largest = 0;
    int64_t wrong = 0, all = 0;
    std::string first;
    for (size_t i = 0; i < want.size(); ++i)
      for (size_t j = 0; j < want[i].size(); ++j, ++all) {
        const double off = std::fabs(static_cast<double>(seen[i][j]) - want[i][j].v),
                     bound = step.bound(want[i][j]) + 1e-37;  // denormals are flushed
        if (off <= bound)
          largest = std::max(largest, off / bound);
        else if (++wrong == 1)
          first = text(kind, step.name(i), "[", j, "] = ", seen[i][j], ", want ", want[i][j].v, ", bound ",
                       bound);
      }
    if (wrong > 0) found += text(first, " (", wrong, " of ", all, " wrong); ");
    return largest;
  }

  std::vector<BoundedStep> steps_;
};

}  // namespace convoy::reference
