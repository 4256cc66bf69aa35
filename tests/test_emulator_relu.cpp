// kernels/relu.cu on the emulator, exactly, in every type and order.
#include <cmath>

#include "emulator_test.h"
#include "kernels/cuda.h"
#include "kernels/relu.h"

namespace convoy::emulated {
namespace {

template <class T>
struct OnDevice : Device<T> {
  using Device<T>::Device;
  View view(const Shape& shape) const { return View(this->get(), shape); }
};

template <class T>
void check(int count) {
  const Shape shape = {count};
  auto x = wholes<T>(count, 1, 3);
  const auto dy = wholes<T>(count, 2, 100);
  if (count > 1) x[1] = T(NAN);
  if (count > 2) x[2] = T(-0.0f);
  const OnDevice<T> dev_x(x), dev_dy(dy), y(static_cast<size_t>(count)), dx(static_cast<size_t>(count));
  Exec ex;
  cuda::relu_forward(ex, {dev_x.view(shape), y.view(shape)});
  cuda::relu_backward(ex, {y.view(shape), dev_dy.view(shape), dx.view(shape)});
  cuda::relu_forward(ex, {dev_x.view(shape), dev_x.view(shape)});
  const auto got_y = y.host(), got_dx = dx.host(), in_place = dev_x.host();
  for (int i = 0; i < count; ++i) {
    const float v = x[i], want = v < 0 ? 0 : v, gradient = want <= 0 ? 0 : float(dy[i]);
    for (const float got : {float(got_y[i]), float(in_place[i])}) {
      ASSERT_TRUE(got == want || (got != got && v != v)) << "y[" << i << "] = " << got << " of " << v;
    }
    ASSERT_EQ(float(got_dx[i]), gradient) << "dx[" << i << "], x " << v;
  }
}

TEST(EmulatorRelu, ForwardAndBackwardExact) {
  every_way([] {
    for (const int count : {1, 3, 255, 256, 257, 1000}) {
      check<float>(count);
      check<__nv_bfloat16>(count);
      check<__half>(count);
    }
  });
}

TEST(EmulatorRelu, NothingToDo) {
  Exec ex;
  cuda::relu_forward(
      ex, {View(static_cast<float*>(nullptr), {0, 4}), View(static_cast<float*>(nullptr), {0, 4})});
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(EmulatorRelu, Errors) {
  Exec ex;
  const OnDevice<float> x(wholes(6, 1)), y(size_t{6});
  const auto message = [&](const In& in, const Out& out) {
    try {
      cuda::relu_forward(ex, {in, out});
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message(x.view({2, 3}), y.view({3, 2})).find("y is 3x2, expected 2x3"), std::string::npos);
  EXPECT_NE(message(x.view({6}), View(reinterpret_cast<int32_t*>(y.get()), {6})).find("holds i32"),
            std::string::npos);
  EXPECT_NE(
      message(View(reinterpret_cast<int32_t*>(x.get()), {6}), y.view({6})).find("expected f32, bf16 or f16"),
      std::string::npos);
  if (!emulator::instrumented()) return;  // AddressSanitizer would end the program
  testing::internal::CaptureStderr();
  const std::string outside = message(x.view({6}), View(y.get(), {7}).slice_rows(1, 6));
  testing::internal::GetCapturedStderr();
  EXPECT_NE(outside.find("cudaGetLastError(): emulator: device memory overrun"), std::string::npos)
      << outside;
  EXPECT_NE(outside.find("relu.cu:"), std::string::npos) << outside;
  EXPECT_NE(emulator::take_fault(), "");
}

}  // namespace
}  // namespace convoy::emulated
