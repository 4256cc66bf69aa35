#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <sstream>
#include <utility>

#include "convoy/backend.h"
#include "convoy/tensor.h"

namespace convoy {
namespace {

std::string printed(const Shape& s) {
  std::ostringstream out;
  out << s;
  return out.str();
}

TEST(Shape, CountsAndPrints) {
  const Shape s{128, 32, 31, 3};
  EXPECT_EQ(s.count(), 128 * 32 * 31 * 3);
  EXPECT_EQ(s.row(), 32 * 31 * 3);
  EXPECT_EQ(printed(s), "128x32x31x3");
  EXPECT_EQ(printed(s.with_rows(5)), "5x32x31x3");
  EXPECT_EQ(Shape{}.count(), 0);
  EXPECT_EQ(Shape{7}.row(), 1);
  EXPECT_EQ((Shape{2, 3}), (Shape{2, 3}));
  EXPECT_NE((Shape{2, 3}), (Shape{2, 3, 1}));  // the rank counts
  EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
}
TEST(Shape, Errors) {
  EXPECT_THROW((Shape{1, 2, 3, 4, 5}), Error);
  EXPECT_THROW((Shape{2, -1}), Error);
}

TEST(DType, BytesAndNames) {
  EXPECT_EQ(dtype_bytes(DType::kF32), 4);
  EXPECT_EQ(dtype_bytes(DType::kBF16), 2);
  EXPECT_EQ(dtype_bytes(DType::kF16), 2);
  EXPECT_EQ(dtype_bytes(DType::kI32), 4);
  EXPECT_EQ(dtype_bytes(DType::kU8), 1);
  EXPECT_STREQ(dtype_name(DType::kBF16), "bf16");
  EXPECT_STREQ(dtype_name(DType::kF32), "f32");
}

TEST(View, SlicesShareMemory) {
  float data[24];
  for (int i = 0; i < 24; ++i) data[i] = static_cast<float>(i);
  const View v(data, Shape{4, 6});
  const View rows = v.slice_rows(1, 2), columns = v.slice_columns(2, 3), both = columns.slice_rows(3, 1);
  EXPECT_EQ(rows.shape, (Shape{2, 6}));
  EXPECT_EQ(rows.f32()[0], 6);
  EXPECT_TRUE(rows.contiguous());
  EXPECT_EQ(columns.shape, (Shape{4, 3}));
  EXPECT_EQ(columns.row_stride, 6);
  EXPECT_EQ(columns.f32()[6], 8);
  EXPECT_FALSE(columns.contiguous());
  EXPECT_EQ(both.f32()[0], 20);
  EXPECT_TRUE(both.contiguous());  // one row has no gaps
  EXPECT_EQ(v.reshaped({2, 3, 4}).row_stride, 12);
  EXPECT_EQ(v.bytes(), 96);
  const In in = v;
  EXPECT_EQ(in.f32()[5], 5);
  EXPECT_TRUE(View().empty());
}
TEST(View, Errors) {
  float data[24] = {};
  const View v(data, Shape{4, 6});
  EXPECT_THROW(v.as<int32_t>(), Error);
  EXPECT_THROW(v.as<uint8_t>(), Error);
  EXPECT_THROW(v.slice_columns(4, 3), Error);
  EXPECT_THROW(v.slice_columns(-1, 3), Error);
  EXPECT_THROW(v.reshaped({5, 5}), Error);
  EXPECT_THROW(v.slice_columns(0, 3).reshaped({12}), Error);
  EXPECT_THROW(v.reshaped({4, 3, 2}).slice_columns(0, 1), Error);
}

TEST(Tensor, OwnsAlignedMemory) {
  for (const Backend* backend : cpu_backends()) {
    Tensor a(*backend, DType::kF32, {3, 5});
    EXPECT_EQ(reinterpret_cast<uintptr_t>(a.view().data) % 64, 0u);
    std::memset(a.view().data, 0, static_cast<size_t>(a.bytes()));
    const std::byte* memory = a.view().data;
    Tensor b = std::move(a);
    EXPECT_TRUE(a.view().empty());
    EXPECT_EQ(b.view().data, memory);
    Tensor c;
    c = std::move(b);
    EXPECT_EQ(c.view().data, memory);
    EXPECT_EQ(c.view().shape, (Shape{3, 5}));
    EXPECT_EQ(c.bytes(), 60);
    const Tensor none(*backend, DType::kU8, {0, 5});
    EXPECT_EQ(none.bytes(), 0);
  }
}
TEST(Tensor, NoMemoryIsAnError) {
  for (const Backend* backend : cpu_backends()) {
    const int64_t bytes = int64_t{1} << 60;
    try {
      Tensor a(*backend, DType::kU8, {bytes});
      ADD_FAILURE() << backend->name << " gave " << bytes << " bytes";
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(std::to_string(bytes)), std::string::npos) << e.what();
    }
  }
}

TEST(Backend, CopiesAndOrders) {
  for (const Backend* backend : cpu_backends()) {
    Exec ex = cpu_exec(*backend, 1);
    char from[100], to[100] = {};
    for (int i = 0; i < 100; ++i) from[i] = static_cast<char>(i);
    backend->copy(ex, to, from, 100);
    EXPECT_EQ(0, std::memcmp(from, to, 100));
    backend->copy(ex, to, nullptr, 0);
    const Event event = backend->record(ex);
    backend->wait(ex, event);
    backend->synchronize(ex);
  }
}
TEST(Backend, ByName) {
  EXPECT_STREQ(cpu_backend("plain").name, "cpu_plain");
  EXPECT_EQ(&cpu_backend("auto"), cpu_backends().front());
  for (const Backend* backend : cpu_backends())
    EXPECT_EQ(&cpu_backend(std::string(backend->name).substr(4)), backend);
  EXPECT_THROW(cpu_backend("avx3"), InputError);
  EXPECT_THROW(cpu_backend(""), InputError);
}

}  // namespace
}  // namespace convoy
