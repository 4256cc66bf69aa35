#include "nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "convoy/check.h"

namespace convoy::nccl {
namespace {

constexpr int kOldest = 21400;  // ncclCommInitRankConfig

Library load() {
  const char* named = std::getenv("CONVOY_NCCL");
  const std::string file = named != nullptr && *named != 0 ? named : "libnccl.so.2";
  void* handle = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    const char* why = dlerror();
    input_error("NCCL was not found (", why == nullptr ? file.c_str() : why,
                "): set CONVOY_NCCL to the path of libnccl.so.2, or let the workers do without it");
  }
  const auto optional = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
  };
  const auto required = [&](auto& function, const char* name) {
    optional(function, name);
    if (function == nullptr)
      input_error(file, " has no function ", name, ": it is not NCCL ", version_name(kOldest), " or later");
  };
  Library nccl{};
  Result (*get_version)(int*) = nullptr;
  required(get_version, "ncclGetVersion");
  if (get_version(&nccl.code) != kSuccess || nccl.code < kOldest)
    input_error(file, " is NCCL ", version_name(nccl.code), "; ", version_name(kOldest),
                " or later is needed");
  required(nccl.get_unique_id, "ncclGetUniqueId");
  required(nccl.init_rank, "ncclCommInitRankConfig");
  required(nccl.destroy, "ncclCommDestroy");
  required(nccl.abort, "ncclCommAbort");
  required(nccl.async_error, "ncclCommGetAsyncError");
  required(nccl.error_string, "ncclGetErrorString");
  required(nccl.last_error, "ncclGetLastError");
  required(nccl.group_start, "ncclGroupStart");
  required(nccl.group_end, "ncclGroupEnd");
  required(nccl.all_reduce, "ncclAllReduce");
  required(nccl.broadcast, "ncclBroadcast");
  required(nccl.reduce, "ncclReduce");
  required(nccl.all_gather, "ncclAllGather");
  required(nccl.reduce_scatter, "ncclReduceScatter");
  required(nccl.send, "ncclSend");
  required(nccl.recv, "ncclRecv");
  optional(nccl.mem_alloc, "ncclMemAlloc");
  optional(nccl.mem_free, "ncclMemFree");
  optional(nccl.comm_register, "ncclCommRegister");
  optional(nccl.comm_deregister, "ncclCommDeregister");
  return nccl;
}

}  // namespace

const Library& library() {
  static const Library one = load();
  return one;
}

std::string version_name(int code) {
  const int major = code < 10000 ? 1000 : 10000;  // NCCL_VERSION changed its digits with 2.9
  return text(code / major, ".", code % major / 100, ".", code % 100);
}

}  // namespace convoy::nccl
