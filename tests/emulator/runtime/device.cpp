// The device, its errors, launches.
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

#include "../cuda/cuda.h"
#include "../machine.h"
#include "runtime.h"

namespace emulator {
namespace {

std::string sticky;  // the report of the kernel that faulted
thread_local cudaError_t last_error = cudaSuccess;
std::map<const void*, int> shared_limits;  // cudaFuncSetAttribute
thread_local int current = 0;              // the device
std::set<std::pair<int, int>> peers;       // cudaDeviceEnablePeerAccess

bool exists(int device) {
  return device >= 0 && device < options().devices;
}

// CUDA programming guide, "Technical Specifications per Compute Capability": shared memory a block may ask
// for.
size_t shared_bytes_optin() {
  switch (options().architecture) {
    case 70:
      return 96 << 10;
    case 75:
      return 64 << 10;
    case 80:
      return 163 << 10;
    case 86:
    case 89:
      return 99 << 10;
    default:
      return 227 << 10;
  }
}
constexpr size_t kSharedBytes = 48 << 10;  // without asking

bool legal(const Launch& l) {
  const dim3 &g = l.grid, &b = l.block;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  return threads >= 1 && threads <= kMaxThreads && b.z <= 64 && g.x >= 1 && g.y >= 1 && g.z >= 1 &&
         g.x <= 0x7fffffffu && g.y <= 65535 && g.z <= 65535;
}

}  // namespace

std::recursive_mutex& runtime_lock() {
  static std::recursive_mutex lock;
  return lock;
}

cudaError_t result(cudaError_t error) {
  if (error == cudaSuccess && broken()) error = cudaErrorLaunchFailure;
  if (error != cudaSuccess) last_error = error;
  return error;
}

int current_device() {
  return current;
}

bool reaches(int device, int other) {
  return device == other || (options().peers && peers.count({device, other}) > 0);
}

bool broken() {
  return !sticky.empty();
}

void break_device(const std::string& report) {
  std::fprintf(stderr, "%s\n", report.c_str());
  sticky = report;
}

std::string take_fault() {
  const Guard guard(runtime_lock());
  if (!broken()) finish(nullptr);
  drop_all();
  std::string report;
  report.swap(sticky);
  last_error = cudaSuccess;
  return report;
}

void enqueue(Launch launch, cudaStream_t stream) {
  const Guard guard(runtime_lock());
  if (!legal(launch)) {
    result(cudaErrorInvalidConfiguration);
    return;
  }
  const auto limit = shared_limits.find(launch.function);
  const size_t allowed = limit == shared_limits.end() ? kSharedBytes : static_cast<size_t>(limit->second);
  if (launch.shared_bytes > allowed) {
    result(cudaErrorInvalidValue);
    return;
  }
  launch.device = device_of(stream);
  if (launch.device != current) {
    result(cudaErrorInvalidResourceHandle);
    return;
  }
  submit(stream, [launch = std::move(launch)] {
    try {
      run_grid(launch);
    } catch (const Fault& f) {
      break_device(f.report);
    }
  });
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaGetLastError() {
  const Guard guard(runtime_lock());
  const cudaError_t e = broken() ? cudaErrorLaunchFailure : last_error;
  last_error = cudaSuccess;
  return e;
}
cudaError_t cudaPeekAtLastError() {
  const Guard guard(runtime_lock());
  return broken() ? cudaErrorLaunchFailure : last_error;
}

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorPeerAccessAlreadyEnabled:
      return "cudaErrorPeerAccessAlreadyEnabled";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorPeerAccessAlreadyEnabled:
      return "peer access is already enabled";
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorLaunchFailure: {
      const Guard guard(runtime_lock());
      thread_local std::string text;
      text = broken() ? sticky : "unspecified launch failure";
      return text.c_str();
    }
  }
  return "unrecognized error code";
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = options().devices;
  return result(cudaSuccess);
}
cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return result(cudaSuccess);
}
cudaError_t cudaSetDevice(int device) {
  if (!exists(device)) return result(cudaErrorInvalidDevice);
  current = device;
  return result(cudaSuccess);
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int peer) {
  if (!exists(device) || !exists(peer)) return result(cudaErrorInvalidDevice);
  *can = device != peer && options().peers;
  return result(cudaSuccess);
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned) {
  const Guard guard(runtime_lock());
  if (!exists(peer) || peer == current || !options().peers) return result(cudaErrorInvalidDevice);
  return result(peers.insert({current, peer}).second ? cudaSuccess : cudaErrorPeerAccessAlreadyEnabled);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int device) {
  if (!exists(device)) return result(cudaErrorInvalidDevice);
  *p = {};
  const int architecture = options().architecture;
  std::snprintf(p->name, sizeof p->name, "emulated sm_%d", architecture);
  p->major = architecture / 10;
  p->minor = architecture % 10;
  size_t free = 0;
  cudaMemGetInfo(&free, &p->totalGlobalMem);
  p->sharedMemPerBlock = kSharedBytes;
  p->sharedMemPerBlockOptin = shared_bytes_optin();
  p->multiProcessorCount = 4;  // few: persistent and split kernels take several rounds on small problems
  p->maxThreadsPerBlock = kMaxThreads;
  p->warpSize = 32;
  return result(cudaSuccess);
}
cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return result(cudaSuccess);
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return result(cudaSuccess);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* symbol, void** function, unsigned,
                                             unsigned long long, cudaDriverEntryPointQueryResult* found) {
  *function = nullptr;
  if (!std::strcmp(symbol, "cuTensorMapEncodeTiled"))
    *function = reinterpret_cast<void*>(&cuTensorMapEncodeTiled);
  if (!std::strcmp(symbol, "cuTensorMapEncodeIm2col"))
    *function = reinterpret_cast<void*>(&cuTensorMapEncodeIm2col);
  if (found) *found = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return result(cudaSuccess);
}

cudaError_t emulator_set_shared_limit(const void* function, int bytes) {
  const Guard guard(runtime_lock());
  if (bytes < 0 || static_cast<size_t>(bytes) > shared_bytes_optin()) return result(cudaErrorInvalidValue);
  shared_limits[function] = bytes;
  return result(cudaSuccess);
}
