// Which backends this build holds: the only conditional compilation on the host.
#include "comm_mpi.h"
#include "convoy/backend.h"
#include "kernels/comm.h"

namespace convoy {

namespace cpu_plain {
extern const Backend kTable;
}
namespace cpu_avx2 {
extern const Backend kTable;
}
namespace cpu_avx512 {
extern const Backend kTable;
}

namespace {

struct Isa {
  const char* name;
  const Backend* table;
  bool runs;
};

std::vector<Isa> isas() {
#ifdef CONVOY_X86
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return {{"avx512", &cpu_avx512::kTable, avx512},
          {"avx2", &cpu_avx2::kTable, avx2},
          {"plain", &cpu_plain::kTable, true}};
#else
  return {{"plain", &cpu_plain::kTable, true}};
#endif
}

}  // namespace

const Backend& cpu_backend(const std::string& isa) {
  for (const Isa& candidate : isas()) {
    if (isa == "auto" ? candidate.runs : isa == candidate.name && candidate.runs) return *candidate.table;
    if (isa == candidate.name) input_error("--isa ", isa, ": this CPU does not have it; use --isa auto");
  }
  input_error("--isa ", isa, ": this build has auto, plain, avx2 and avx512 (x86-64 only)");
}

std::vector<const Backend*> cpu_backends() {
  std::vector<const Backend*> found;
  for (const Isa& candidate : isas())
    if (candidate.runs) found.push_back(candidate.table);
  return found;
}

#ifdef CONVOY_HAS_MPI
extern const Mpi kMpi;
const Mpi* mpi() {
  return &kMpi;
}
#else
const Mpi* mpi() {
  return nullptr;
}
#endif

#ifdef CONVOY_HAS_CUDA
namespace cuda {
extern const Cuda kCuda;
extern const CudaComm kComm;
}  // namespace cuda
const Cuda* find_cuda() {
  return &cuda::kCuda;
}
const CudaComm* cuda_comm() {
  return &cuda::kComm;
}
#else
const Cuda* find_cuda() {
  return nullptr;
}
const CudaComm* cuda_comm() {
  return nullptr;
}
#endif

}  // namespace convoy
