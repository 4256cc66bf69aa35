// Real numbers with a bound of how far off a float computation of them may be, in whatever order it adds up.
//
// Two models of rounding (u = 2^-24):
//   worst   running error analysis: an operation is off by at most u of its result, a sum of n terms by
//           gamma(n) = n·u / (1 - n·u) of its terms' absolute values (N. Higham, Accuracy and Stability of Numerical
//           Algorithms, sections 3.1 and 4.2), errors of operands add up. No computation is further off.
//   likely  roundings are independent random numbers of mean 0, so that their squares add up and a sum of n terms is
//           off by about sqrt(n)·u of its terms' absolute values (N. Higham, T. Mary, SIAM J. Sci. Comput. 41(5), 2019).
//           The bound is kDeviations of that. Deep nets need it: the worst case grows by the square root of a layer's
//           inputs with every layer, and soon says nothing.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace convoy::reference {

struct Value {
  double v = 0, e = 0;  // e: the bound, or the variance
};
using Bounded = std::vector<Value>;

struct Sum {
  double v = 0, e = 0, magnitude = 0;
  int64_t n = 0;
};

class Arithmetic {
 public:
  static constexpr double kU = 1.0 / 16777216, kDeviations = 4;

  explicit Arithmetic(bool worst) : worst_(worst) {}

  double power(double x) const { return worst_ ? std::fabs(x) : x * x; }
  double bound(const Value& a) const { return worst_ ? a.e : kDeviations * std::sqrt(a.e); }
  // A result, after so many roundings of numbers as large as `magnitude`.
  Value rounded(double v, double e, double magnitude, double roundings = 1) const {
    const double off = roundings * kU * (std::fabs(magnitude) + (worst_ ? e : 0));
    return {v, e + power(off)};
  }
  double product_error(const Value& a, const Value& b) const {
    return power(a.v) * b.e + power(b.v) * a.e + a.e * b.e;
  }
  Value add(const Value& a, const Value& b) const {
    return rounded(a.v + b.v, a.e + b.e, std::fabs(a.v) + std::fabs(b.v));
  }
  Value sub(const Value& a, const Value& b) const { return add(a, {-b.v, b.e}); }
  Value mul(const Value& a, const Value& b) const {
    const double v = a.v * b.v;
    return rounded(v, product_error(a, b), v);
  }
  // f(x), where |f'| is at most `slope` within the bound of x.
  Value apply(double f, double slope, const Value& x, double roundings = 1) const {
    return rounded(f, power(slope) * x.e, f, roundings);
  }
  // 1 / x, and 1 / sqrt(x), of what is positive within its bound.
  Value inverse(const Value& x) const {
    const double low = x.v - bound(x);
    return apply(1 / x.v, 1 / (low * low), x, 2);
  }
  Value inverse_sqrt(const Value& x) const {
    const double low = x.v - bound(x);
    return apply(1 / std::sqrt(x.v), 0.5 / (low * std::sqrt(low)), x, 3);
  }

  // Of x >= 0, which may be as small as its bound: |sqrt(x) - sqrt(x')| <= |x - x'| / sqrt(x), and <= sqrt(|x - x'|).
  Value square_root(const Value& x) const {
    const double root = std::sqrt(x.v), b = bound(x);
    const double off = b == 0 ? 0 : root > 0 ? std::min(b / root, std::sqrt(b)) : std::sqrt(b);
    return rounded(root, power(worst_ ? off : off / kDeviations), root);
  }

  void add_to(Sum& sum, double v, double e) const {
    sum.v += v;
    sum.e += e;
    sum.magnitude += std::fabs(v) + (worst_ ? e : 0);
    ++sum.n;
  }
  void add_to(Sum& sum, const Value& a) const { add_to(sum, a.v, a.e); }
  void add_product(Sum& sum, const Value& a, const Value& b) const {
    add_to(sum, a.v * b.v, product_error(a, b));
  }
  // Its terms may themselves be products, and may be added in parts: by several workers, in `parts` passes.
  Value total(const Sum& sum, int64_t parts = 1) const {
    constexpr double kMore = 12;  // a product, eight workers' parts, what was there before
    const double n = static_cast<double>(sum.n * parts) + kMore;
    const double off = worst_ ? n * kU / (1 - n * kU) : std::sqrt(n) * kU;
    return {sum.v, sum.e + power(off * sum.magnitude)};
  }
  // Of a sum in double, whose result alone is rounded, by each worker.
  Value total_in_double(Sum sum) const {
    sum.n = 0;
    return total(sum);
  }

 private:
  bool worst_;
};

}  // namespace convoy::reference
