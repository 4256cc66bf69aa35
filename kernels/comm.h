// What communicators over device memory need of CUDA. The host's part is in src/comm_local.cpp, comm_nccl.cpp and
// comm_staged.cpp.
#pragma once
#include <cstdint>

#include "convoy/backend.h"

namespace convoy {

// to[t][i] = from[0][i] + from[1][i] + ..., added in this order in f32, for i in [0, count) and every target t.
// A target may be one of the sources.
struct RankSums {
  static constexpr int kMostRanks = 64;
  int ranks = 0, targets = 0;
  int64_t count = 0;
  const float* from[kMostRanks] = {};
  float* to[kMostRanks] = {};
};

// The Exec is one of CUDA's, and the calling thread works with its device.
struct CudaComm {
  int (*device)(const Exec&);
  void* (*stream)(const Exec&);           // a cudaStream_t
  void (*use_device)(int device);         // of the calling thread, from now on
  bool (*reachable)(const void* memory);  // by the device: its own, another device's, or pinned
  void* (*make_event)();                  // of the thread's device
  void (*end_event)(void* event);
  void (*record)(Exec&, void* event);  // the event stands for what is queued by now
  void (*wait)(Exec&, void* event);    // what is queued from now on starts after that
  bool (*open_peer)(
      int device, int peer);  // kernels of the thread's device may touch the peer's memory; false: they can't
  void (*sum)(Exec&, const RankSums&);
};
const CudaComm* cuda_comm();  // null: this build has no CUDA

// What transfers on device memory ask for.
inline void check_device(const Exec& ex) {
  CONVOY_CHECK(ex.backend == find_cuda()->backend, "an Exec of ", ex.backend->name, " for transfers of CUDA");
}
inline void check_device(const In& view) {
  CONVOY_CHECK(view.count() == 0 || cuda_comm()->reachable(view.data), "the view, of ", view.shape,
               ", lies in memory of the host, which the device does not reach");
}

}  // namespace convoy
