// A Backend is one table of functions per device (or CPU instruction set): memory, ordering, operations.
//
// The operations come from one list, CONVOY_OPERATIONS. Each takes one parameter struct of its own
// (kernels/<operation>.h holds it with the contract), so a swapped table entry does not compile and a missing
// one does not link. Every operation
//   - is queued on the Exec: a CUDA stream, or, on the CPU, run at once by the Exec's threads (operations go to
//     an Exec without a queue; the CPU's queue is a thread for transfers);
//   - overwrites `dx`, adds to `dw` and `db` unless `overwrite` is set; an empty `dx` means "not wanted";
//   - propagates NaN; throws Error when shapes or dtypes do not agree; works with 0 rows;
//   - gives the same bits for any number of threads: how work is cut and summed depends on shapes only;
//   - uses at most `query(...).scratch_bytes` of the Exec's scratch, and allocates nothing.
#pragma once
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <vector>

#include "convoy/tensor.h"

namespace convoy {

// clang-format off
#define CONVOY_OPERATIONS(OP)                         \
  OP(normalize,                NormalizeArgs)         \
  OP(conv_forward,             ConvForward)           \
  OP(conv_backward_data,       ConvBackwardData)      \
  OP(conv_backward_weights,    ConvBackwardWeights)   \
  OP(fc_forward,               FcForward)             \
  OP(fc_backward_data,         FcBackwardData)        \
  OP(fc_backward_weights,      FcBackwardWeights)     \
  OP(max_pool_forward,         MaxPoolForward)        \
  OP(max_pool_backward,        MaxPoolBackward)       \
  OP(average_pool_forward,     AveragePoolForward)    \
  OP(average_pool_backward,    AveragePoolBackward)   \
  OP(relu_forward,             ReluForward)           \
  OP(relu_backward,            ReluBackward)          \
  OP(sigmoid_forward,          SigmoidForward)        \
  OP(sigmoid_backward,         SigmoidBackward)       \
  OP(tanh_forward,             TanhForward)           \
  OP(tanh_backward,            TanhBackward)          \
  OP(dropout_forward,          DropoutForward)        \
  OP(dropout_backward,         DropoutBackward)       \
  OP(batchnorm_statistics,     BatchNormStatistics)   \
  OP(batchnorm_merge,          BatchNormMerge)        \
  OP(batchnorm_forward,        BatchNormForward)      \
  OP(batchnorm_backward_sums,  BatchNormBackwardSums) \
  OP(batchnorm_backward_data,  BatchNormBackwardData) \
  OP(batchnorm_running,        BatchNormRunning)      \
  OP(add,                      AddArgs)               \
  OP(lrn_forward,              LrnForward)            \
  OP(lrn_backward,             LrnBackward)           \
  OP(softmax_cross_entropy,    SoftmaxCrossEntropy)   \
  OP(logistic_cross_entropy,   LogisticCrossEntropy)  \
  OP(label_logit,              LabelLogit)            \
  OP(label_rank,               LabelRank)             \
  OP(columns_gather,           ColumnsGather)         \
  OP(columns_scatter,          ColumnsScatter)        \
  OP(columns_slice,            ColumnsSlice)          \
  OP(columns_embed,            ColumnsEmbed)          \
  OP(sum_of_squares,           SumOfSquares)          \
  OP(sgd_update,               SgdUpdate)             \
  OP(adamw_update,             AdamwUpdate)           \
  OP(count_nonfinite,          CountNonfinite)        \
  OP(scale,                    ScaleArgs)             \
  OP(cast,                     CastArgs)              \
  OP(fill,                     FillArgs)
// clang-format on

#define CONVOY_DECLARE(name, Args) struct Args;
CONVOY_OPERATIONS(CONVOY_DECLARE)
#undef CONVOY_DECLARE

struct Exec;

// A point in a queue: everything that was queued before it is done once it is reached.
struct Event {
  void* handle = nullptr;  // a CUDA event, or the CPU's queue; null: reached
  int64_t ticket = 0;      // of the CPU's queue
};

// Work for a queue: a small function object, kept in place so that queueing allocates nothing.
class Task {
 public:
  Task() = default;
  template <class F>
  Task(F function) {
    static_assert(sizeof(F) <= kBytes && std::is_trivially_copyable_v<F>, "capture pointers and numbers");
    new (memory_) F(function);
    call_ = [](void* memory) { (*static_cast<F*>(memory))(); };
  }
  void operator()() { call_(memory_); }

 private:
  static constexpr size_t kBytes = 256;
  alignas(16) std::byte memory_[kBytes];
  void (*call_)(void*) = nullptr;
};

// Whether an operation takes a problem (lower() asks before it fuses), and the scratch memory that it needs.
struct Support {
  bool supported = true;
  int64_t scratch_bytes = 0;
};

struct Backend {
  const char* name;  // "cpu-avx512", ...
  bool host_memory;  // the host reads and writes its memory, and its work is done when a call returns
  void* (*alloc)(int64_t bytes);  // 64-byte aligned; throws Error naming the bytes when there is no memory
  void (*release)(void* memory);
  void* (*alloc_host)(int64_t bytes);  // for the host and the device alike; on CUDA pinned
  void (*release_host)(void* memory);
  void (*copy)(Exec&, void* to, const void* from, int64_t bytes);
  void (*submit)(Exec&,
                 const Task&);  // runs the task in the queue's order (CUDA: at once, it enqueues itself)
  Event (*record)(Exec&);
  void (*wait)(Exec&, Event);  // what is queued from now on starts after the event; rethrows a task's error
  void (*synchronize)(Exec&);
#define CONVOY_ENTRY(name, Args)    \
  void (*name)(Exec&, const Args&); \
  Support (*name##_query)(const Args&, int threads);
  CONVOY_OPERATIONS(CONVOY_ENTRY)
#undef CONVOY_ENTRY
};

// Where, and in which order, work is queued.
struct Exec {
  const Backend* backend = nullptr;
  void* queue = nullptr;  // a CUDA stream, or the CPU's queue for transfers; null on the CPU: run at once
  int threads = 1;        // OpenMP threads of this worker
  bool tf32 = false;      // on CUDA: products of f32 round their operands to TF32's 11 bits
  View scratch;           // u8; valid until the next operation on this queue
};

// The same entries by their parameter struct: run(exec, ConvForward{...}).
#define CONVOY_BY_ARGS(name, Args)                                                 \
  inline void run(Exec& exec, const Args& args) {                                  \
    exec.backend->name(exec, args);                                                \
  }                                                                                \
  inline Support supports(const Backend& backend, const Args& args, int threads) { \
    return backend.name##_query(args, threads);                                    \
  }                                                                                \
  constexpr const char* operation_name(const Args&) {                              \
    return #name;                                                                  \
  }
CONVOY_OPERATIONS(CONVOY_BY_ARGS)
#undef CONVOY_BY_ARGS

// Numbers that change from step to step. They live in the backend's memory: a recorded step can be replayed.
struct StepScalars {
  int64_t step = 0;       // 0-based; keys dropout
  int64_t update = 0;     // 0-based; counts AdamW's updates
  int64_t epoch = 0;      // keys augmentation
  int64_t first_row = 0;  // row of the global batch that this worker's first row is
  float lr = 0;
  float gradient_scale = 1;  // 1 / (rows of the update · loss_scale): gradients are sums until then
  float loss_scale = 1;      // keeps small gradients above f16's smallest numbers
};

// The CPU tables of this build that this machine runs, best first; and one by name ("auto", "plain", "avx2",
// "avx512"): throws InputError when the build or the machine lacks it.
std::vector<const Backend*> cpu_backends();
const Backend& cpu_backend(const std::string& isa);

// An Exec of `threads` OpenMP threads (0: all that this process may use), pinned unless OMP_PROC_BIND says
// otherwise, with denormals flushed to zero on every one of them. The scratch is empty: lower() says how much
// is needed.
// A worker that shares the process or the machine with others uses the `first_cpu`-th and following of those.
Exec cpu_exec(const Backend& backend, int threads, int first_cpu = 0);

// CUDA, in a build that has it.
struct CudaDevice {
  std::string name;             // "NVIDIA H200"
  int major = 0, minor = 0;     // compute capability
  int64_t bytes = 0, free = 0;  // of its memory
};
struct Cuda {
  const Backend* backend;
  const char* architectures;  // that the kernels were compiled for: "75 80 86 89 90"
  bool emulated;              // the device is this machine's CPU (CONVOY_CUDA=EMULATED)
  int (*devices)();           // how many there are; 0 without a driver
  CudaDevice (*describe)(int device);
  // A stream of the device and what the operations on it need: an Exec's queue. The calling thread works with that
  // device from now on. Throws InputError when the kernels were not compiled for the device.
  void* (*make_queue)(int device);
  void (*end_queue)(void* queue);  // once everything on it is done
  // What is queued on the Exec between the two is recorded, not run, and so is what other queues that wait for it then
  // do. launch queues a recording as one.
  void (*begin_recording)(Exec&);
  void* (*end_recording)(Exec&);  // a graph
  void (*launch)(Exec&, void* graph);
  void (*release_graph)(void* graph);
  // Marks between which the device measures: a mark is reached once everything that was queued before it is done. They
  // are of the calling thread's device. seconds is for marks that are reached.
  void* (*make_mark)();
  void (*end_mark)(void* mark);
  void (*set_mark)(Exec&, void* mark);
  double (*seconds)(void* from, void* to);
  void (*profile)(bool on);         // what a profiler that was told to wait for it records
  void (*range)(const char* name);  // begins a named range of the profiler's timeline; null: ends it
};
const Cuda* find_cuda();  // null: this build has none

// A queue for transfers: a thread that runs tasks in order. After a task that throws, the others are dropped,
// and wait() and synchronize() rethrow. cpu_queue_exec's result is valid as long as the queue.
class CpuQueue;
struct CpuQueueDelete {
  void operator()(CpuQueue* queue) const;  // runs what is queued, then ends the thread
};
using CpuQueuePointer = std::unique_ptr<CpuQueue, CpuQueueDelete>;
CpuQueuePointer cpu_queue();
Exec cpu_queue_exec(const Backend& backend, const CpuQueuePointer& queue);

// Lets the calling thread run on every core of the process again: a thread starts on the cores of the one
// that starts it, so the helpers of a pinned thread (readers, transfers) call this first.
void cpu_unpin();

}  // namespace convoy
