#include "kernels/comm.h"
#include "kernels/each.cuh"

namespace convoy::cuda {
namespace {

int device(const Exec& ex) {
  return queue(ex).device;
}

void* stream_of(const Exec& ex) {
  return queue(ex).stream;
}

void use_device(int number) {
  CONVOY_CUDA(cudaSetDevice(number));
}

bool reachable(const void* memory) {
  cudaPointerAttributes attributes;
  CONVOY_CUDA(cudaPointerGetAttributes(&attributes, memory));
  return attributes.type != cudaMemoryTypeUnregistered;
}

void* make_event() {
  cudaEvent_t event = nullptr;
  CONVOY_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

void end_event(void* event) {
  cudaEventDestroy(static_cast<cudaEvent_t>(event));  // an error is that of an earlier operation
}

void record_event(Exec& ex, void* event) {
  CONVOY_CUDA(cudaEventRecord(static_cast<cudaEvent_t>(event), stream(ex)));
}

void wait_for_event(Exec& ex, void* event) {
  CONVOY_CUDA(cudaStreamWaitEvent(stream(ex), static_cast<cudaEvent_t>(event), 0));
}

bool open_peer(int own, int peer) {
  int can = 0;
  CONVOY_CUDA(cudaDeviceCanAccessPeer(&can, own, peer));
  if (can == 0) return false;
  const cudaError_t error = cudaDeviceEnablePeerAccess(peer, 0);
  if (error == cudaErrorPeerAccessAlreadyEnabled)
    cudaGetLastError();  // it is not sticky: what comes next is not to find it
  else
    CONVOY_CUDA(error);
  return true;
}

// Elements until the next multiple of 16 bytes, where that is the same number for all pointers; else -1.
int64_t elements_to_vectors(const RankSums& s) {
  const auto misalignment = [](const float* p) { return reinterpret_cast<uintptr_t>(p) % sizeof(float4); };
  const uintptr_t first = misalignment(s.from[0]);
  for (int r = 1; r < s.ranks; ++r)
    if (misalignment(s.from[r]) != first) return -1;
  for (int t = 0; t < s.targets; ++t)
    if (misalignment(s.to[t]) != first) return -1;
  return static_cast<int64_t>((sizeof(float4) - first) % sizeof(float4) / sizeof(float));
}

void sum(Exec& ex, const RankSums& s) {
  CONVOY_CHECK(s.ranks >= 1 && s.ranks <= RankSums::kMostRanks && s.targets <= RankSums::kMostRanks, s.ranks,
               " ranks, ", s.targets, " targets");
  const int64_t to_vectors = elements_to_vectors(s);
  const int64_t head = to_vectors < 0 || to_vectors > s.count ? s.count : to_vectors;
  const int64_t vectors = (s.count - head) / 4;
  // A thread each for the vectors, then for the elements before and behind them.
  each(ex, vectors + (s.count - 4 * vectors), [s, head, vectors] __device__(int64_t i) {
    if (i < vectors) {
      const int64_t at = head + 4 * i;
      float4 total = *reinterpret_cast<const float4*>(s.from[0] + at);
      for (int r = 1; r < s.ranks; ++r) {
        const float4 x = *reinterpret_cast<const float4*>(s.from[r] + at);
        total.x += x.x;
        total.y += x.y;
        total.z += x.z;
        total.w += x.w;
      }
      for (int t = 0; t < s.targets; ++t) *reinterpret_cast<float4*>(s.to[t] + at) = total;
    } else {
      int64_t at = i - vectors;
      if (at >= head) at += 4 * vectors;
      float total = s.from[0][at];
      for (int r = 1; r < s.ranks; ++r) total += s.from[r][at];
      for (int t = 0; t < s.targets; ++t) s.to[t][at] = total;
    }
  });
}

}  // namespace

extern const CudaComm kComm;
const CudaComm kComm = {device,    stream_of,    use_device,     reachable, make_event,
                        end_event, record_event, wait_for_event, open_peer, sum};

}  // namespace convoy::cuda
