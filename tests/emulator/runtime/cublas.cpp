#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <vector>

#include "../machine.h"
#include "runtime.h"

struct cublasContext {
  cudaStream_t stream = nullptr;
};

namespace emulator {
namespace {

size_t bytes_of(cudaDataType type) {
  return type == CUDA_R_32F ? 4 : 2;
}
bool known(cudaDataType type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}
float load(const void* p, cudaDataType type, size_t i) {
  if (type == CUDA_R_16F) return static_cast<const __half*>(p)[i];
  if (type == CUDA_R_16BF) return static_cast<const __nv_bfloat16*>(p)[i];
  return static_cast<const float*>(p)[i];
}
void store(void* p, cudaDataType type, size_t i, float v) {
  if (type == CUDA_R_16F)
    static_cast<__half*>(p)[i] = v;
  else if (type == CUDA_R_16BF)
    static_cast<__nv_bfloat16*>(p)[i] = v;
  else
    static_cast<float*>(p)[i] = v;
}

struct Matrix {
  const void* data;
  cudaDataType type;
  int leading;
  bool transposed;
  // op(matrix) as floats, row after row.
  std::vector<float> floats(int rows, int columns) const {
    std::vector<float> all;
    all.reserve(static_cast<size_t>(rows) * static_cast<size_t>(columns));
    for (int row = 0; row < rows; ++row)
      for (int column = 0; column < columns; ++column)
        all.push_back(load(data, type,
                           transposed ? static_cast<size_t>(row) * leading + column
                                      : static_cast<size_t>(column) * leading + row));
    return all;
  }
  // From its first to its last element; rows and columns are those of op(matrix).
  size_t bytes(int rows, int columns) const {
    const int height = transposed ? columns : rows, width = transposed ? rows : columns;
    return (static_cast<size_t>(leading) * (width - 1) + height) * bytes_of(type);
  }
};

}  // namespace
}  // namespace emulator

using namespace emulator;

cublasStatus_t cublasCreate(cublasHandle_t* out) {
  *out = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void*, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
  return CUBLAS_STATUS_SUCCESS;
}
const char* cublasGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_NOT_SUPPORTED:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
  }
  return "unknown";
}

cublasStatus_t cublasGemmEx(cublasHandle_t handle, cublasOperation_t a, cublasOperation_t b, int m, int n,
                            int k, const void* alpha, const void* A, cudaDataType a_type, int lda,
                            const void* B, cudaDataType b_type, int ldb, const void* beta, void* C,
                            cudaDataType c_type, int ldc, cublasComputeType_t compute, cublasGemmAlgo_t) {
  const Guard guard(runtime_lock());
  if (!handle) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (broken()) return CUBLAS_STATUS_EXECUTION_FAILED;
  // The table of cublasGemmEx: A and B are of one type, C of that or f32.
  if (!known(a_type) || a_type != b_type || (c_type != a_type && c_type != CUDA_R_32F)) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (compute != CUBLAS_COMPUTE_32F && compute != CUBLAS_COMPUTE_32F_PEDANTIC &&
      compute != CUBLAS_COMPUTE_32F_FAST_TF32) {
    return CUBLAS_STATUS_NOT_SUPPORTED;
  }
  if (m < 0 || n < 0 || k < 0 || lda < std::max(1, a == CUBLAS_OP_N ? m : k) ||
      ldb < std::max(1, b == CUBLAS_OP_N ? k : n) || ldc < std::max(1, m)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  if (alpha == nullptr || beta == nullptr || C == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
  const Matrix x{A, a_type, lda, a == CUBLAS_OP_T}, y{B, b_type, ldb, b == CUBLAS_OP_T},
      z{C, c_type, ldc, false};
  // cuBLAS would fault later, or corrupt memory.
  if (!device_range(C, z.bytes(m, n)) ||
      (k > 0 && (!device_range(A, x.bytes(m, k)) || !device_range(B, y.bytes(k, n))))) {
    break_device("emulator: cuBLAS: an operand of a " + std::to_string(m) + " x " + std::to_string(n) +
                 " x " + std::to_string(k) + " product does not lie in device memory");
    return CUBLAS_STATUS_EXECUTION_FAILED;
  }
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  const cudaError_t queued = submit(handle->stream, [=] {
    std::vector<float> left = x.floats(m, k), right = y.floats(k, n);
    if (compute == CUBLAS_COMPUTE_32F_FAST_TF32 && options().architecture >= 80)
      for (std::vector<float>* operand : {&left, &right})
        for (float& v : *operand)
          v = __uint_as_float(__float_as_uint(v) & 0xffffe000u);  // as bits that are left out
    for (int column = 0; column < n; ++column) {
      for (int row = 0; row < m; ++row) {
        float sum = 0;
        for (int i = 0; i < k; ++i)
          sum += left[static_cast<size_t>(row) * k + i] * right[static_cast<size_t>(i) * n + column];
        const size_t at = static_cast<size_t>(column) * ldc + row;
        store(C, c_type, at, keep == 0 ? scale * sum : scale * sum + keep * load(C, c_type, at));
        mark_written(static_cast<char*>(C) + at * bytes_of(c_type), bytes_of(c_type));
      }
    }
  });
  return queued == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t a, cublasOperation_t b, int m, int n,
                           int k, const float* alpha, const float* A, int lda, const float* B, int ldb,
                           const float* beta, float* C, int ldc) {
  return cublasGemmEx(handle, a, b, m, n, k, alpha, A, CUDA_R_32F, lda, B, CUDA_R_32F, ldb, beta, C,
                      CUDA_R_32F, ldc, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
}
