// The Backend table of CUDA: memory, streams, and the operations of the other .cu sources.
#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

#include "kernels/add.h"
#include "kernels/batchnorm.h"
#include "kernels/cast.h"
#include "kernels/columns.h"
#include "kernels/conv.h"
#include "kernels/cuda.h"
#include "kernels/dropout.h"
#include "kernels/fc.h"
#include "kernels/fill.h"
#include "kernels/launch.cuh"
#include "kernels/lrn.h"
#include "kernels/normalize.h"
#include "kernels/pool.h"
#include "kernels/relu.h"
#include "kernels/sgd.h"
#include "kernels/softmax.h"

namespace convoy::cuda {
namespace {

// NVIDIA's recommendation for Hopper, and enough for the others (cuBLAS manual, cublasSetWorkspace).
constexpr size_t kWorkspaceBytes = CONVOY_IS_EMULATED ? 1 << 10 : 32 << 20;

void* alloc(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t error =
      cudaMalloc(&memory, static_cast<size_t>(bytes > 0 ? bytes : 1));  // nothing has a place too
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is not sticky: what comes next is not to find it
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw Error(text("the device has no memory for ", bytes, " bytes, ", free, " of ", total, " are free"));
  }
  CONVOY_CHECK(error == cudaSuccess, "cudaMalloc of ", bytes, " bytes: ", cudaGetErrorString(error));
  return memory;
}

void release(void* memory) {
  cudaFree(memory);  // an error is that of an earlier operation, which has been reported
}

void* alloc_host(int64_t bytes) {
  void* memory = nullptr;
  const cudaError_t error = cudaMallocHost(&memory, static_cast<size_t>(bytes > 0 ? bytes : 1));
  CONVOY_CHECK(error == cudaSuccess, "no pinned memory for ", bytes, " bytes: ", cudaGetErrorString(error));
  return memory;
}

void release_host(void* memory) {
  cudaFreeHost(memory);
}

void copy(Exec& ex, void* to, const void* from, int64_t bytes) {
  if (bytes == 0) return;
  CONVOY_CUDA(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDefault, stream(ex)));
}

void submit(Exec&, const Task& task) {
  Task own = task;
  own();
}

Event record(Exec& ex) {
  Queue& q = queue(ex);
  // An event that comes round again stands for a later point: whoever still has it waits longer than needed.
  cudaEvent_t event = q.events[q.next_event++ % Queue::kEvents];
  CONVOY_CUDA(cudaEventRecord(event, q.stream));
  return {event, 0};
}

void wait(Exec& ex, Event event) {
  if (event.handle == nullptr) return;
  CONVOY_CUDA(cudaStreamWaitEvent(stream(ex), static_cast<cudaEvent_t>(event.handle), 0));
}

void synchronize(Exec& ex) {
  const cudaError_t error = cudaStreamSynchronize(stream(ex));
  CONVOY_CHECK(error == cudaSuccess, cudaGetErrorString(error), "; the last operation queued was ",
               queue(ex).operation, ", CUDA_LAUNCH_BLOCKING=1 tells which one failed");
}

template <class Args>
void run_named(Exec& ex, const Args& args, const char* name, void (*operation)(Exec&, const Args&)) {
  if (ex.queue != nullptr) queue(ex).operation = name;
  operation(ex, args);
  const cudaError_t error = cudaPeekAtLastError();
  CONVOY_CHECK(error == cudaSuccess, name, ": ", cudaGetErrorString(error));
}

}  // namespace

const Backend kTable = {"cuda",
                        false,
                        alloc,
                        release,
                        alloc_host,
                        release_host,
                        copy,
                        submit,
                        record,
                        wait,
                        synchronize,
#define CONVOY_ENTRY(name, Args)                                                    \
  [](Exec& ex, const Args& args) { run_named<Args>(ex, args, #name, cuda::name); }, \
      [](const Args& args, int) { return query(args); },
                        CONVOY_OPERATIONS(CONVOY_ENTRY)
#undef CONVOY_ENTRY
};

namespace {

int devices() {
  int count = 0;
  if (cudaGetDeviceCount(&count) == cudaSuccess) return count;
  cudaGetLastError();
  return 0;
}

CudaDevice describe(int device) {
  cudaDeviceProp p;
  CONVOY_CUDA(cudaGetDeviceProperties(&p, device));
  CONVOY_CUDA(cudaSetDevice(device));
  size_t free = 0, total = 0;
  CONVOY_CUDA(cudaMemGetInfo(&free, &total));
  return {p.name, p.major, p.minor, static_cast<int64_t>(total), static_cast<int64_t>(free)};
}

// Whether the program holds kernels for the device: it starts one.
__global__ void probe(int) {}

bool runs_here() {
  CONVOY_LAUNCH(probe, dim3(1), dim3(1), 0, nullptr, 0);
  return cudaGetLastError() == cudaSuccess && cudaDeviceSynchronize() == cudaSuccess;
}

void end_queue(void* memory) {
  Queue* q = static_cast<Queue*>(memory);
  if (q->stream != nullptr) cudaStreamSynchronize(q->stream);
  if (q->cublas != nullptr) cublasDestroy(q->cublas);
  for (cudaEvent_t event : q->events)
    if (event != nullptr) cudaEventDestroy(event);
  if (q->stream != nullptr) cudaStreamDestroy(q->stream);
  cudaFree(q->workspace);
  delete q;
}

void* make_queue(int device) {
  CONVOY_CUDA(cudaSetDevice(device));
  cudaDeviceProp p;
  CONVOY_CUDA(cudaGetDeviceProperties(&p, device));
  if (!runs_here())
    input_error("device ", device, ", ", p.name, ", has compute capability ", p.major, ".", p.minor,
                "; this program was built for ", CONVOY_CUDA_ARCHITECTURES,
                ": build it with -DCMAKE_CUDA_ARCHITECTURES=", p.major, p.minor);
  struct End {
    void operator()(Queue* q) const { end_queue(q); }
  };
  std::unique_ptr<Queue, End> q(new Queue);
  q->device = device;
  q->architecture = 10 * p.major + p.minor;
  q->multiprocessors = p.multiProcessorCount;
  CONVOY_CUDA(cudaStreamCreateWithFlags(&q->stream, cudaStreamNonBlocking));
  for (cudaEvent_t& event : q->events) CONVOY_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  q->workspace = alloc(kWorkspaceBytes);
  CONVOY_CUBLAS(cublasCreate(&q->cublas));
  CONVOY_CUBLAS(cublasSetStream(q->cublas, q->stream));
  CONVOY_CUBLAS(cublasSetWorkspace(q->cublas, q->workspace, kWorkspaceBytes));
  // Partial sums of bf16 and f16 products stay in f32.
  CONVOY_CUBLAS(cublasSetMathMode(q->cublas, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION));
  return q.release();
}

void begin_recording(Exec& ex) {
  CONVOY_CUDA(cudaStreamBeginCapture(stream(ex), cudaStreamCaptureModeThreadLocal));
}

void* end_recording(Exec& ex) {
  cudaGraph_t graph = nullptr;
  CONVOY_CUDA(cudaStreamEndCapture(stream(ex), &graph));
  cudaGraphExec_t ready = nullptr;
  const cudaError_t error = cudaGraphInstantiate(&ready, graph, 0);
  cudaGraphDestroy(graph);
  CONVOY_CHECK(error == cudaSuccess, "a recorded step cannot be made ready: ", cudaGetErrorString(error));
  return ready;
}

void launch(Exec& ex, void* graph) {
  queue(ex).operation = "a recorded step";
  CONVOY_CUDA(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), stream(ex)));
}

void release_graph(void* graph) {
  cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph));
}

void* make_mark() {
  cudaEvent_t mark = nullptr;
  CONVOY_CUDA(cudaEventCreate(&mark));
  return mark;
}

void end_mark(void* mark) {
  cudaEventDestroy(static_cast<cudaEvent_t>(mark));  // an error is that of an earlier operation
}

void set_mark(Exec& ex, void* mark) {
  CONVOY_CUDA(cudaEventRecord(static_cast<cudaEvent_t>(mark), stream(ex)));
}

double seconds(void* from, void* to) {
  float milliseconds = 0;
  CONVOY_CUDA(
      cudaEventElapsedTime(&milliseconds, static_cast<cudaEvent_t>(from), static_cast<cudaEvent_t>(to)));
  return 1e-3 * static_cast<double>(milliseconds);
}

void profile(bool on) {
  CONVOY_CUDA(on ? cudaProfilerStart() : cudaProfilerStop());
}

void range(const char* name) {
  if (name != nullptr)
    nvtxRangePushA(name);
  else
    nvtxRangePop();
}

}  // namespace

extern const Cuda kCuda;
const Cuda kCuda = {&kTable,
                    CONVOY_CUDA_ARCHITECTURES,
                    CONVOY_IS_EMULATED,
                    devices,
                    describe,
                    make_queue,
                    end_queue,
                    begin_recording,
                    end_recording,
                    launch,
                    release_graph,
                    make_mark,
                    end_mark,
                    set_mark,
                    seconds,
                    profile,
                    range};

}  // namespace convoy::cuda
