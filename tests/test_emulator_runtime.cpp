// The emulator's runtime: memory, streams, events, graphs, errors, cuBLAS.
#include <cublas_v2.h>

#include "emulator_kernels.h"
#include "emulator_test.h"

namespace convoy::emulated {
namespace {

class EmulatorRuntime : public testing::Test {
 protected:
  void TearDown() override { emulator::options() = before_; }
  const emulator::Options before_ = emulator::options();
};

TEST_F(EmulatorRuntime, MemoryIsNaNUntilWrittenAndChecked) {
  const Device<float> x(64);
  for (const float v : x.host()) EXPECT_NE(v, v);
  EXPECT_EQ(emulator::unwritten_bytes(x.get(), 256), 256u);
  EXPECT_EQ(cudaMemset(x.get() + 1, 0, 8), cudaSuccess);
  EXPECT_EQ(emulator::unwritten_bytes(x.get(), 256), 248u);
  EXPECT_EQ(cudaMemset(x.get() + 1, 0, 256), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  std::vector<float> host(65);
  EXPECT_EQ(cudaMemcpy(host.data(), x.get(), 65 * 4, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), host.data() + 8, 8, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(x.get() + 1), cudaErrorInvalidValue);
  cudaGetLastError();

  const Device<float> y(64);
  EXPECT_EQ(cudaMemcpy2DAsync(y.get(), 16, x.get() + 1, 4, 4, 2, cudaMemcpyDeviceToDevice), cudaSuccess);
  EXPECT_EQ(emulator::unwritten_bytes(y.get(), 256), 248u) << "marks are copied with the bytes";

  void* huge = &host;
  EXPECT_EQ(cudaMalloc(&huge, size_t{1} << 40), cudaErrorMemoryAllocation);
  EXPECT_EQ(huge, nullptr);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
}

TEST_F(EmulatorRuntime, LateStreamsRunWhenSomethingWaits) {
  emulator::options().late = true;
  cudaStream_t first, second;
  ASSERT_EQ(cudaStreamCreateWithFlags(&first, cudaStreamNonBlocking), cudaSuccess);
  ASSERT_EQ(cudaStreamCreateWithFlags(&second, cudaStreamNonBlocking), cudaSuccess);
  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  float* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 8), cudaSuccess);
  pinned[0] = 1;
  pinned[1] = 0;
  const Device<float> x(1);
  EXPECT_EQ(cudaMemcpyAsync(x.get(), pinned, 4, cudaMemcpyHostToDevice, first), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, first), cudaSuccess);
  EXPECT_EQ(cudaStreamWaitEvent(second, event), cudaSuccess);
  EXPECT_EQ(cudaMemcpyAsync(pinned + 1, x.get(), 4, cudaMemcpyDeviceToHost, second), cudaSuccess);
  pinned[0] = 2;  // too early: the copy has not read it
  EXPECT_EQ(pinned[1], 0) << "nothing has waited";
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  EXPECT_EQ(pinned[1], 2);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(first), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(second), cudaSuccess);
}

TEST_F(EmulatorRuntime, GraphsReplayWhatTwoStreamsDid) {
  for (const bool late : {false, true}) {
    emulator::options().late = late;
    cudaStream_t main, side;
    ASSERT_EQ(cudaStreamCreate(&main), cudaSuccess);
    ASSERT_EQ(cudaStreamCreate(&side), cudaSuccess);
    cudaEvent_t fork, join;
    ASSERT_EQ(cudaEventCreate(&fork), cudaSuccess);
    ASSERT_EQ(cudaEventCreate(&join), cudaSuccess);
    const Device<float> x(std::vector<float>{1, 2}), y(2), z(2);
    ASSERT_EQ(cudaStreamBeginCapture(main, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(y.get(), x.get(), 8, cudaMemcpyDeviceToDevice, main), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(fork, main), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(side, fork), cudaSuccess);
    EXPECT_EQ(cudaMemcpyAsync(z.get(), y.get(), 8, cudaMemcpyDeviceToDevice, side), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(join, side), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(main, join), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(main), cudaErrorStreamCaptureUnsupported);
    cudaGetLastError();
    cudaGraph_t graph;
    ASSERT_EQ(cudaStreamEndCapture(main, &graph), cudaSuccess);
    EXPECT_EQ(emulator::unwritten_bytes(z.get(), 8), 8u) << "capturing runs nothing";
    cudaGraphExec_t exec;
    ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(exec, main), cudaSuccess);
    EXPECT_EQ(z.host(), (std::vector<float>{1, 2}));
    EXPECT_EQ(cudaMemset(x.get(), 0, 4), cudaSuccess);
    EXPECT_EQ(cudaGraphLaunch(exec, main), cudaSuccess);
    EXPECT_EQ(z.host(), (std::vector<float>{0, 2}));
    EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(main), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(side), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(fork), cudaSuccess);
    EXPECT_EQ(cudaEventDestroy(join), cudaSuccess);
  }
}

TEST_F(EmulatorRuntime, KernelsReachOtherDevicesOnceEnabled) {
  emulator::options().devices = 2;
  int count = 0, can = 0;
  EXPECT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  EXPECT_EQ(count, 2);
  EXPECT_EQ(cudaSetDevice(2), cudaErrorInvalidDevice);
  cudaGetLastError();
  const Device<float> x(wholes(8, 1));
  cudaStream_t on_first;
  ASSERT_EQ(cudaStreamCreate(&on_first), cudaSuccess);
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const Device<float> y(8);
  cudaPointerAttributes attributes;
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, y.get()), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeDevice);
  EXPECT_EQ(attributes.device, 1);
  EXPECT_EQ(cudaPointerGetAttributes(&attributes, &count), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeUnregistered);
  EXPECT_EQ(cudaMemcpy(y.get(), x.get(), 32, cudaMemcpyDefault), cudaSuccess) << "copies always do";

  cudaEvent_t event;
  ASSERT_EQ(cudaEventCreate(&event), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(event, on_first), cudaErrorInvalidResourceHandle) << "an event of another device";
  EXPECT_EQ(cudaEventDestroy(event), cudaSuccess);
  cudaGetLastError();
  if (emulator::instrumented()) {
    copy(x.get(), y.get(), 8);
    const std::string fault = emulator::take_fault();
    EXPECT_NE(fault.find("no peer access"), std::string::npos) << fault;
  }
  EXPECT_EQ(cudaDeviceCanAccessPeer(&can, 1, 0), cudaSuccess);
  EXPECT_EQ(can, 1);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaSuccess);
  EXPECT_EQ(cudaDeviceEnablePeerAccess(0, 0), cudaErrorPeerAccessAlreadyEnabled);
  cudaGetLastError();
  copy(x.get(), y.get(), 8);
  EXPECT_EQ(emulator::take_fault(), "");
  EXPECT_EQ(y.host(), wholes(8, 1));
  EXPECT_EQ(cudaSetDevice(0), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(on_first), cudaSuccess);
}

TEST_F(EmulatorRuntime, BadLaunchesAreRefused) {
  const Device<float> x(wholes(8, 1)), y(8);
  copy(x.get(), y.get(), -127);  // a grid of 0 blocks
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidConfiguration);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST_F(EmulatorRuntime, ClaimsTheArchitectureThatIsSet) {
  for (const int architecture : {75, 80, 90}) {
    emulator::options().architecture = architecture;
    cudaDeviceProp p;
    ASSERT_EQ(cudaGetDeviceProperties(&p, 0), cudaSuccess);
    EXPECT_EQ(p.major * 10 + p.minor, architecture);
    EXPECT_EQ(p.sharedMemPerBlockOptin >> 10, architecture == 75 ? 64u : architecture == 80 ? 163u : 227u);
  }
}

// C (column-major, leading dimension ldc) = 2 op(A) op(B) + 3 C.
template <class T>
void check_gemm(cudaDataType type) {
  const int m = 5, n = 4, k = 7;
  const float alpha = 2, beta = 3;
  cublasHandle_t handle;
  ASSERT_EQ(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
  for (const auto ta : {CUBLAS_OP_N, CUBLAS_OP_T}) {
    for (const auto tb : {CUBLAS_OP_N, CUBLAS_OP_T}) {
      const int lda = (ta == CUBLAS_OP_N ? m : k) + 1, ldb = (tb == CUBLAS_OP_N ? k : n) + 2, ldc = m + 3;
      const auto a = wholes<T>(lda * (ta == CUBLAS_OP_N ? k : m), 1),
                 b = wholes<T>(ldb * (tb == CUBLAS_OP_N ? n : k), 2);
      const auto c = wholes(ldc * n, 3);
      const Device<T> da(a), db(b);
      const Device<float> dc(c);
      ASSERT_EQ(cublasGemmEx(handle, ta, tb, m, n, k, &alpha, da.get(), type, lda, db.get(), type, ldb, &beta,
                             dc.get(), CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
                CUBLAS_STATUS_SUCCESS);
      const std::vector<float> got = dc.host();
      for (int j = 0; j < n; ++j) {
        for (int i = 0; i < ldc; ++i) {
          float want = c[j * ldc + i];
          if (i < m) {
            want *= beta;
            for (int l = 0; l < k; ++l) {
              want += alpha * float(a[ta == CUBLAS_OP_N ? l * lda + i : i * lda + l]) *
                      float(b[tb == CUBLAS_OP_N ? j * ldb + l : l * ldb + j]);
            }
          }
          EXPECT_EQ(got[j * ldc + i], want) << i << ", " << j << " transposed " << ta << tb;
        }
      }
    }
  }
  EXPECT_EQ(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
}

TEST_F(EmulatorRuntime, MatrixProducts) {
  check_gemm<float>(CUDA_R_32F);
  check_gemm<__half>(CUDA_R_16F);
  check_gemm<__nv_bfloat16>(CUDA_R_16BF);
}

TEST_F(EmulatorRuntime, MatrixProductsCheckTheirOperands) {
  cublasHandle_t handle;
  ASSERT_EQ(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
  const float one = 1, zero = 0;
  const Device<float> a(wholes(16, 1)), c(16);
  EXPECT_EQ(
      cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, a.get(), 3, a.get(), 4, &zero, c.get(), 4),
      CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(
      cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 4, 4, &one, a.get(), 4, a.get(), 4, &zero, c.get(), 4),
      CUBLAS_STATUS_SUCCESS);
  for (const float v : c.host()) EXPECT_EQ(v, v) << "beta 0 does not read C";
  EXPECT_EQ(emulator::unwritten_bytes(c.get(), 64), 0u);
  expect_report({"cuBLAS", "does not lie in device memory"}, [&] {
    EXPECT_EQ(cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, 4, 5, 4, &one, a.get(), 4, a.get(), 4, &zero,
                          c.get(), 4),
              CUBLAS_STATUS_EXECUTION_FAILED);
  });
  EXPECT_EQ(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
}

}  // namespace
}  // namespace convoy::emulated
