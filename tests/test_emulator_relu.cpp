// An operation of the CUDA backend that leaves its operands: the report reaches whoever calls it, as an Error.
#include "emulator_test.h"
#include "kernels/cuda.h"
#include "kernels/relu.h"

namespace convoy::emulated {
namespace {

std::string relu_error(const In& x, const Out& y) {
  Exec ex;
  testing::internal::CaptureStderr();
  std::string message = "no error";
  try {
    cuda::relu_forward(ex, {x, y});
  } catch (const Error& e) {
    message = e.what();
  }
  testing::internal::GetCapturedStderr();
  return message;
}

TEST(EmulatorRelu, ReportsWhatLeavesItsOperands) {
  if (!emulator::instrumented()) GTEST_SKIP() << "AddressSanitizer would end the program";
  const Device<float> x(wholes(64, 1)), y(64);
  // By a scalar, and by a vector.
  for (const int64_t first : {1, 4}) {
    const View past = View(y.get(), {64 + first}).slice_rows(first, 64);
    const std::string message = relu_error(View(x.get(), {64}), past);
    EXPECT_NE(message.find("cudaGetLastError(): emulator: device memory overrun"), std::string::npos)
        << message;
    EXPECT_NE(message.find("each.cuh:"), std::string::npos) << message;
    EXPECT_NE(emulator::take_fault(), "");
  }
}

}  // namespace
}  // namespace convoy::emulated
