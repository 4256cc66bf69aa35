// Tensors. A View points at memory and owns nothing; a Tensor owns memory of one backend.
//
// Extents are row-major, channels last: images x[N,H,W,C], filters w[K,R,S,C], outputs y[N,P,Q,K];
// fully connected x[N,D], w[F,D], y[N,F]. A row is one index of the first extent. Rows lie `row_stride`
// elements apart (at least shape.row()), so a range of columns of a matrix is a View too; within a row
// everything is contiguous. Master weights, weight gradients and optimizer state are always f32.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <type_traits>

#include "convoy/check.h"

namespace convoy {

enum class DType : uint8_t { kF32, kBF16, kF16, kI32, kU8 };

constexpr int64_t dtype_bytes(DType t) {
  return t == DType::kF32 || t == DType::kI32 ? 4 : t == DType::kU8 ? 1 : 2;
}
const char* dtype_name(DType t);  // "f32", ...

template <class T>
struct DTypeOf;
template <>
struct DTypeOf<float> : std::integral_constant<DType, DType::kF32> {};
template <>
struct DTypeOf<int32_t> : std::integral_constant<DType, DType::kI32> {};
template <>
struct DTypeOf<uint8_t> : std::integral_constant<DType, DType::kU8> {};

struct Shape {
  std::array<int64_t, 4> dim{0, 1, 1, 1};  // extents past the rank are 1
  int rank = 1;

  Shape() = default;
  Shape(std::initializer_list<int64_t> extents);
  int64_t operator[](int i) const { return dim[static_cast<size_t>(i)]; }
  int64_t count() const { return dim[0] * dim[1] * dim[2] * dim[3]; }
  int64_t row() const { return dim[1] * dim[2] * dim[3]; }  // elements in one row
  bool operator==(const Shape& o) const { return rank == o.rank && dim == o.dim; }
  bool operator!=(const Shape& o) const { return !(*this == o); }
  Shape with_rows(int64_t rows) const;  // the same with another first extent
};
std::ostream& operator<<(std::ostream&, const Shape&);  // 128x32x32x3

template <class Byte>  // std::byte or const std::byte
struct BasicView {
  Byte* data = nullptr;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t row_stride = 0;  // elements between the starts of two rows

  BasicView() = default;
  BasicView(Byte* d, DType t, const Shape& s) : data(d), dtype(t), shape(s), row_stride(s.row()) {}
  template <class T, class = std::enable_if_t<std::is_const_v<T> <= std::is_const_v<Byte>>,
            DType t = DTypeOf<std::remove_const_t<T>>::value>
  BasicView(T* d, const Shape& s)
      : data(reinterpret_cast<Byte*>(d)), dtype(t), shape(s), row_stride(s.row()) {}
  template <class Other,
            class = std::enable_if_t<std::is_const_v<Byte> && std::is_same_v<const Other, Byte> &&
                                     !std::is_const_v<Other>>>
  BasicView(const BasicView<Other>& v)  // a View is an In wherever one is wanted
      : data(v.data), dtype(v.dtype), shape(v.shape), row_stride(v.row_stride) {}

  bool empty() const { return data == nullptr; }
  int64_t count() const { return shape.count(); }
  int64_t rows() const { return shape[0]; }
  bool contiguous() const { return row_stride == shape.row() || shape[0] <= 1; }
  int64_t bytes() const { return count() * dtype_bytes(dtype); }

  // The elements as T; throws Error when T is not the dtype.
  template <class T>
  auto as() const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    CONVOY_CHECK(DTypeOf<T>::value == dtype, "the view holds ", dtype_name(dtype));
    return reinterpret_cast<Element*>(data);
  }
  auto f32() const { return as<float>(); }

  // Rows [first, first + count), and columns [first, first + count) of a matrix.
  BasicView slice_rows(int64_t first, int64_t count) const {
    BasicView v = *this;
    v.data += first * row_stride * dtype_bytes(dtype);
    v.shape = shape.with_rows(count);
    return v;
  }
  BasicView slice_columns(int64_t first, int64_t count) const {
    CONVOY_CHECK(shape.rank == 2 && first >= 0 && first + count <= shape[1], shape, " columns ", first, "+",
                 count);
    BasicView v = *this;
    v.data += first * dtype_bytes(dtype);
    v.shape.dim[1] = count;
    return v;
  }
  // The same elements under another shape of the same count; the view must be contiguous.
  BasicView reshaped(const Shape& s) const {
    CONVOY_CHECK(contiguous() && s.count() == count(), shape, " as ", s);
    return BasicView(data, dtype, s);
  }
};

using View = BasicView<std::byte>;
using In = BasicView<const std::byte>;  // an operation's operand
using Out = View;                       // an operation's result

struct Backend;

// Owns `shape.count()` elements of a backend's memory, 64-byte aligned, not initialised. Move-only.
class Tensor {
 public:
  Tensor() = default;
  Tensor(const Backend& backend, DType dtype, const Shape& shape);
  // In memory that the host reads and writes, and the backend copies from and to at full speed.
  static Tensor on_host(const Backend& backend, DType dtype, const Shape& shape);
  ~Tensor();
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(Tensor&& other) noexcept;
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  const View& view() const { return view_; }
  int64_t bytes() const { return view_.bytes(); }

 private:
  void (*release_)(void* memory) = nullptr;
  View view_;
};

}  // namespace convoy
