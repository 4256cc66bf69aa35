#include "convoy/tensor.h"

#include <ostream>
#include <utility>

#include "convoy/backend.h"

namespace convoy {

const char* dtype_name(DType t) {
  switch (t) {
    case DType::kF32:
      return "f32";
    case DType::kBF16:
      return "bf16";
    case DType::kF16:
      return "f16";
    case DType::kI32:
      return "i32";
    case DType::kU8:
      return "u8";
  }
  return "?";
}

Shape::Shape(std::initializer_list<int64_t> extents) : rank(static_cast<int>(extents.size())) {
  CONVOY_CHECK(rank >= 1 && rank <= 4, "rank ", rank);
  size_t i = 0;
  for (const int64_t e : extents) {
    CONVOY_CHECK(e >= 0, "extent ", e);
    dim[i++] = e;
  }
}

Shape Shape::with_rows(int64_t rows) const {
  Shape s = *this;
  s.dim[0] = rows;
  return s;
}

std::ostream& operator<<(std::ostream& out, const Shape& s) {
  for (int i = 0; i < s.rank; ++i) out << (i > 0 ? "x" : "") << s[i];
  return out;
}

Tensor::Tensor(const Backend& backend, DType dtype, const Shape& shape)
    : release_(backend.release), view_(nullptr, dtype, shape) {
  view_.data = static_cast<std::byte*>(backend.alloc(view_.bytes()));
}

Tensor Tensor::on_host(const Backend& backend, DType dtype, const Shape& shape) {
  Tensor t;
  t.view_ = View(nullptr, dtype, shape);
  t.view_.data = static_cast<std::byte*>(backend.alloc_host(t.view_.bytes()));
  t.release_ = backend.release_host;
  return t;
}

Tensor::~Tensor() {
  if (release_ != nullptr && view_.data != nullptr) release_(view_.data);
}

Tensor::Tensor(Tensor&& other) noexcept
    : release_(std::exchange(other.release_, nullptr)), view_(std::exchange(other.view_, View())) {}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  std::swap(release_, other.release_);
  std::swap(view_, other.view_);
  return *this;
}

}  // namespace convoy
