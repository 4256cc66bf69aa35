// What the operations' tests share: operands between guard zones, data, bounds, and a driver that runs an
// operation on every table of this machine with 1, 2 and 3 threads. The references themselves are plain loops
// in double in each test.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "convoy/backend.h"
#include "convoy/tensor.h"
#include "test_device.h"

namespace convoy::reference {

using Doubles = std::vector<double>;

// ---- Bounds. u is the unit roundoff of float; n roundings of a sum cost at most gamma(n) · sum of |terms|
// (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1), in any order and with or without
// FMA. Results below FLT_MIN are flushed to zero, which costs another FLT_MIN each.
//
// Looser, with reasons; everything else that the tests use is gamma(n) with n counted from the formula:
constexpr double kUnit = 0x1p-24;
// An ulp is at most 2u relative. CUDA's functions (CUDA C++ Programming Guide, "Mathematical Functions") are the
// less exact ones; glibc's are within 1 ulp, tanhf and log1pf within 2 (manual, "Errors in Math Functions").
constexpr double kExpf = 4 * kUnit;    // 2 ulp
constexpr double kPowf = 8 * kUnit;    // 4 ulp
constexpr double kLog1pf = 4 * kUnit;  // 2 ulp
constexpr double kTanhf = 4 * kUnit;   // 2 ulp
// Tensor cores cut the products and the sum so far off at the last bit of the largest of them, which costs up to 2u for
// each, and there is a sum for every 8 or 16 products (NVIDIA documents none of this; Fasi, Higham, Mikaitis and Pranesh,
// "Numerical behavior of NVIDIA tensor cores", 2021): 2 · 9/8 of gamma(n).
constexpr double kTensorCore = 2.25;
// Sums that the header promises in double: 2^-53 per term, n terms, far below one float rounding of the
// result.
constexpr double kUnitDouble = 0x1p-53;

inline double gamma(double n) {
  return n * kUnit / (1 - n * kUnit);
}
inline double bound(double n, double sum_of_magnitudes) {
  return gamma(n) * sum_of_magnitudes + n * FLT_MIN;
}

// A sum in double that remembers the magnitudes of its terms.
struct Sum {
  double value = 0, magnitude = 0;
  void add(double term) {
    value += term;
    magnitude += std::abs(term);
  }
};
// What the reference says of one output: the values, and either a bound each or none, which means ==. Whole
// numbers are exact as long as the sum of |terms| stays under 2^24: add() asserts it.
struct Want {
  Doubles values, bounds;
  void exact(double value) { values.push_back(value); }
  void exact(const Sum& s) {
    EXPECT_FALSE(s.magnitude >= 16777216.0) << "the test's numbers are too large to be exact";
    values.push_back(s.value);
  }
  void within(double value, double error) {
    values.push_back(value);
    bounds.push_back(error);
  }
  // Exact whole numbers, or n roundings.
  void add(const Sum& s, double n, bool whole) { whole ? exact(s) : within(s.value, bound(n, s.magnitude)); }
};

// ---- Data.
class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int64_t whole(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  double uniform() { return (engine_() + 0.5) / 4294967296.0; }
  double normal() { return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform()); }

 private:
  std::mt19937 engine_;
};

// ---- bf16 and f16: 8 and 11 bits of significand, the smallest normal numbers 2^-126 and 2^-14.
inline double half_unit(DType dtype) {
  return dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : kUnit;
}
inline double from_half(DType dtype, uint16_t bits) {
  const int mantissa_bits = dtype == DType::kBF16 ? 7 : 10, bias = dtype == DType::kBF16 ? 127 : 15;
  const int exponent = (bits & 0x7fff) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 2 * bias + 1) return mantissa != 0 ? std::nan("") : sign * HUGE_VAL;
  const int whole = exponent > 0 ? mantissa + (1 << mantissa_bits) : mantissa;
  return sign * std::ldexp(whole, (exponent > 0 ? exponent : 1) - bias - mantissa_bits);
}
inline uint16_t to_half(DType dtype, double value) {
  const int mantissa_bits = dtype == DType::kBF16 ? 7 : 10, bias = dtype == DType::kBF16 ? 127 : 15;
  const int largest = (2 * bias + 1) << mantissa_bits;  // infinity
  const int sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return static_cast<uint16_t>(sign | largest | 1);
  if (value == 0 || std::isinf(value)) return static_cast<uint16_t>(sign | (value == 0 ? 0 : largest));
  const int exponent = std::max(std::ilogb(value), 1 - bias);
  const double ulps = std::nearbyint(std::ldexp(std::abs(value), mantissa_bits - exponent));
  const int bits = static_cast<int>(ulps) + ((exponent + bias - 1) << mantissa_bits);
  return static_cast<uint16_t>(sign | std::min(bits, largest));
}

inline double rounded_to(DType dtype, double value) {
  return dtype == DType::kF32 ? static_cast<float>(value) : from_half(dtype, to_half(dtype, value));
}
// What is said of f32 results, of results that are rounded once more to be stored in dtype.
inline Want stored(DType dtype, Want w) {
  if (dtype == DType::kF32) return w;
  const double unit = half_unit(dtype),
               least = dtype == DType::kF16 ? 0x1p-25 : FLT_MIN;  // half of a subnormal's step
  for (size_t i = 0; i < w.bounds.size(); ++i)
    w.bounds[i] += unit * (std::abs(w.values[i]) + w.bounds[i]) + least;
  if (w.bounds.empty())
    for (double& value : w.values) value = rounded_to(dtype, value);
  return w;
}

// ---- Operands: `shape` elements whose rows lie `row_stride` apart, between guard zones as wide as a kernel
// may read past the end of an input. Guards, gaps between rows and unset outputs hold a pattern that is a NaN
// in f32.
class Array {
 public:
  static constexpr int64_t kGuard = 64;  // bytes
  static constexpr unsigned char kPattern = 0xFF;

  Array() = default;
  Array(DType dtype, const Shape& shape, int64_t row_stride = 0)
      : dtype_(dtype),
        shape_(shape),
        stride_(row_stride > 0 ? row_stride : shape.row()),
        bytes_(shape[0] * stride_ * dtype_bytes(dtype)),
        memory_(operand_memory(), DType::kU8, {bytes_ + 2 * kGuard}) {
    poison();
  }

  View view() const {
    View v(memory_.view().data + kGuard, dtype_, shape_);
    v.row_stride = stride_;
    return v;
  }
  const Shape& shape() const { return shape_; }
  DType dtype() const { return dtype_; }
  int64_t count() const { return shape_.count(); }
  void poison() { std::memset(memory_.view().data, kPattern, static_cast<size_t>(memory_.bytes())); }

  template <class T>
  T& at(int64_t i) const {
    return view().as<T>()[i / larger_row() * stride_ + i % larger_row()];
  }
  float& operator[](int64_t i) const { return at<float>(i); }
  float* data() const { return view().f32(); }
  Doubles values() const {
    Doubles all;
    for (int64_t i = 0; i < count(); ++i) all.push_back(value(i));
    return all;
  }
  double value(int64_t i) const {
    switch (dtype_) {
      case DType::kF32:
        return at<float>(i);
      case DType::kI32:
        return at<int32_t>(i);
      case DType::kU8:
        return at<uint8_t>(i);
      default:
        return from_half(dtype_, half(i));
    }
  }
  // Rounded to nearest, ties to even.
  void set(int64_t i, double value) const {
    if (dtype_ == DType::kF32) at<float>(i) = static_cast<float>(value);
    if (dtype_ == DType::kI32) at<int32_t>(i) = static_cast<int32_t>(value);
    if (dtype_ == DType::kU8) at<uint8_t>(i) = static_cast<uint8_t>(value);
    if (dtype_ == DType::kBF16 || dtype_ == DType::kF16) half(i) = to_half(dtype_, value);
  }
  template <class F>
  Array& each(const F& make) {
    for (int64_t i = 0; i < count(); ++i) set(i, make(i));
    return *this;
  }
  // Whether everything but the elements still holds the pattern.
  bool guards_intact() const {
    const auto* all = reinterpret_cast<const unsigned char*>(memory_.view().data);
    const int64_t element = dtype_bytes(dtype_), row = shape_.row() * element, step = stride_ * element;
    for (int64_t i = 0; i < memory_.bytes(); ++i) {
      const int64_t inside = i - kGuard;
      const bool mine = inside >= 0 && inside < bytes_ && inside % (step > 0 ? step : 1) < row;
      if (!mine && all[i] != kPattern) return false;
    }
    return true;
  }
  std::vector<unsigned char> raw() const {
    const auto* all = reinterpret_cast<const unsigned char*>(memory_.view().data);
    return std::vector<unsigned char>(all, all + memory_.bytes());
  }

 private:
  uint16_t& half(int64_t i) const {
    return reinterpret_cast<uint16_t*>(view().data)[i / larger_row() * stride_ + i % larger_row()];
  }
  int64_t larger_row() const { return shape_.row() > 0 ? shape_.row() : 1; }
  DType dtype_ = DType::kF32;
  Shape shape_;
  int64_t stride_ = 0, bytes_ = 0;
  Tensor memory_;
};

inline Array whole_numbers(const Shape& shape, int64_t magnitude, uint32_t seed, int64_t row_stride = 0) {
  Random random(seed);
  Array a(DType::kF32, shape, row_stride);
  a.each([&](int64_t) { return static_cast<double>(random.whole(-magnitude, magnitude)); });
  return a;
}
inline Array normals(const Shape& shape, uint32_t seed, double scale = 1, int64_t row_stride = 0) {
  Random random(seed);
  Array a(DType::kF32, shape, row_stride);
  a.each([&](int64_t) { return scale * random.normal(); });
  return a;
}
inline Array numbers(const Shape& shape, bool whole, int64_t magnitude, uint32_t seed,
                     int64_t row_stride = 0) {
  return whole ? whole_numbers(shape, magnitude, seed, row_stride) : normals(shape, seed, 1, row_stride);
}
// The same numbers as dtype, each rounded.
inline Array as(DType dtype, const Array& a) {
  Array b(dtype, a.shape(), a.count() > 0 ? a.view().row_stride : 0);
  b.each([&](int64_t i) { return a.value(i); });
  return b;
}
// The elements of a behind the first `skip`, as `shape`: operands that lie at no multiple of 16 bytes.
inline View behind(const Array& a, int64_t skip, const Shape& shape) {
  return a.view().reshaped({a.count()}).slice_rows(skip, shape.count()).reshaped(shape);
}
// <a, b>, exact for whole numbers.
inline double dot(const Array& a, const Array& b) {
  Sum s;
  for (int64_t i = 0; i < a.count(); ++i) s.add(a.value(i) * b.value(i));
  EXPECT_LT(s.magnitude, 0x1p53);
  return s.value;
}
inline Array filled(const Shape& shape, double value) {
  Array a(DType::kF32, shape);
  a.each([&](int64_t) { return value; });
  return a;
}
inline Array labels_of(const std::vector<int32_t>& values) {
  Array a(DType::kI32, {static_cast<int64_t>(values.size())});
  a.each([&](int64_t i) { return values[static_cast<size_t>(i)]; });
  return a;
}

// StepScalars where operations read them: in the backends' memory.
class Scalars {
 public:
  explicit Scalars(const StepScalars& scalars = {})
      : memory_(operand_memory(), DType::kU8, {static_cast<int64_t>(sizeof(StepScalars))}) {
    *get() = scalars;
  }
  StepScalars* get() const { return reinterpret_cast<StepScalars*>(memory_.view().data); }

 private:
  Tensor memory_;
};

// ---- Comparing. One failure a tensor: the first wrong element, and how many there are.
inline std::string place(const Shape& shape, int64_t i) {
  std::string out;
  for (int d = shape.rank - 1; d >= 0; --d) {
    out = std::to_string(i % shape[d]) + (out.empty() ? "" : ",") + out;
    i /= shape[d];
  }
  return "[" + out + "]";
}
inline void compare(const std::string& title, const std::string& name, const Array& got, const Want& want) {
  ASSERT_EQ(got.count(), static_cast<int64_t>(want.values.size())) << title << " " << name;
  ASSERT_TRUE(want.bounds.empty() || want.bounds.size() == want.values.size()) << title << " " << name;
  int64_t wrong = 0;
  std::string first;
  for (int64_t i = 0; i < got.count(); ++i) {
    const size_t at = static_cast<size_t>(i);
    const double value = got.value(i), expected = want.values[at],
                 limit = want.bounds.empty() ? 0 : want.bounds[at];
    const bool right =
        std::isnan(expected) ? std::isnan(value) : value == expected || std::abs(value - expected) <= limit;
    if (right || wrong++ > 0) continue;
    std::ostringstream line;
    line.precision(9);
    line << name << place(got.shape(), i) << " = " << value << ", want " << expected << ", bound " << limit;
    first = line.str();
  }
  if (wrong > 0)
    ADD_FAILURE() << title << " " << first << " (" << wrong << " of " << got.count() << " wrong)";
}

// ---- Running.
// Runs one operation with the scratch memory that its query asks for, poisoned, and no byte more.
template <class Args>
void invoke(Exec& ex, void (*operation)(Exec&, const Args&), Support (*query)(const Args&, int),
            const Args& args) {
  const Support support = query(args, ex.threads);
  ASSERT_TRUE(support.supported);
  Array scratch(DType::kU8, {support.scratch_bytes});
  ex.scratch = scratch.view();
  operation(ex, args);
  ex.backend->synchronize(ex);
  ex.scratch = View();
  EXPECT_TRUE(scratch.guards_intact())
      << ex.backend->name << " wrote past its scratch of " << support.scratch_bytes;
}
#define CONVOY_INVOKE(ex, name, ...) \
  ::convoy::reference::invoke(ex, (ex).backend->name, (ex).backend->name##_query, __VA_ARGS__)

// One output: where it goes, what it holds before (poison when empty), what the reference says.
struct Output {
  std::string name;
  Array* array;
  Want want;
  Doubles before = {};
};

// call(ex) on every backend in each of its ways; outputs are set, guarded, compared with the reference, and with the
// bits of the first way.
inline void check_everywhere(const std::string& title, std::vector<Output> outputs,
                             const std::function<void(Exec&)>& call) {
  for (const Backend* backend : test_backends()) {
    if (left_out(*backend)) continue;
    std::vector<std::vector<unsigned char>> first;
    for (const Way& way : ways(*backend)) {
      const std::string full = text(backend->name, " ", title, " (", way.name, ")");
      for (Output& o : outputs) {
        o.array->poison();
        for (size_t i = 0; i < o.before.size(); ++i) o.array->set(static_cast<int64_t>(i), o.before[i]);
      }
      Exec ex = test_exec(*backend, way);
      call(ex);
      backend->synchronize(ex);
      const bool compare_bits = !first.empty();
      for (size_t i = 0; i < outputs.size(); ++i) {
        const Output& o = outputs[i];
        EXPECT_TRUE(o.array->guards_intact()) << full << " " << o.name << ": wrote outside of its elements";
        if (compare_bits) {
          EXPECT_TRUE(first[i] == o.array->raw())
              << full << " " << o.name << ": other bits than the first way";
        } else {
          compare(full, o.name, *o.array, o.want);
          first.push_back(o.array->raw());
        }
      }
      if (testing::Test::HasFailure()) return;  // one rerunnable line, not thousands
    }
  }
}

// call(ex) must throw Error on every backend, with `part` in its text.
inline void expect_error(const std::string& part, const std::function<void(Exec&)>& call) {
  for (const Backend* backend : test_backends()) {
    Exec ex = test_exec(*backend);
    try {
      call(ex);
      ADD_FAILURE() << backend->name << ": no error, expected one with '" << part << "'";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << backend->name << ": " << e.what();
    }
  }
}

// body(ex) once on every backend, with one thread.
inline void for_every_table(const std::function<void(Exec&)>& body) {
  for (const Backend* backend : test_backends()) {
    if (left_out(*backend)) continue;
    Exec ex = test_exec(*backend);
    body(ex);
    backend->synchronize(ex);
  }
}

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
inline double relu(double v) {
  return v < 0 ? 0 : v;
}  // NaN stays

}  // namespace convoy::reference
