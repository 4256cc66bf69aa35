// The part of NCCL that Convoy uses, in declarations of its own: the library is found at run time. Types and numbers are
// those of nccl.h since 2.14, which later versions keep.
#pragma once
#include <cstddef>
#include <string>

namespace convoy::nccl {

struct UniqueId {
  char internal[128];
};
enum Result : int { kSuccess = 0, kInProgress = 7 };
enum Type : int { kUint8 = 1, kFloat32 = 7 };
enum Operation : int { kSum = 0 };

// ncclConfig_v21400, whose fields all later ones begin with.
struct Config {
  size_t size = sizeof(Config);
  unsigned magic = 0xcafebeef;
  unsigned version = 21400;
  int blocking = 1;
};

using Comm = void*;    // ncclComm_t
using Stream = void*;  // cudaStream_t

struct Library {
  int code = 0;  // 22809
  Result (*get_unique_id)(UniqueId*);
  Result (*init_rank)(Comm*, int world, UniqueId, int rank, Config*);
  Result (*destroy)(Comm);
  Result (*abort)(Comm);
  Result (*async_error)(Comm, Result*);
  const char* (*error_string)(Result);
  const char* (*last_error)(Comm);
  Result (*group_start)();
  Result (*group_end)();
  Result (*all_reduce)(const void* from, void* to, size_t count, Type, Operation, Comm, Stream);
  Result (*broadcast)(const void* from, void* to, size_t count, Type, int root, Comm, Stream);
  Result (*reduce)(const void* from, void* to, size_t count, Type, Operation, int root, Comm, Stream);
  Result (*all_gather)(const void* from, void* to, size_t own_count, Type, Comm, Stream);
  Result (*reduce_scatter)(const void* from, void* to, size_t own_count, Type, Operation, Comm, Stream);
  Result (*send)(const void* from, size_t count, Type, int to, Comm, Stream);
  Result (*recv)(void* to, size_t count, Type, int from, Comm, Stream);
  // Since 2.19; null in a library that has them not.
  Result (*mem_alloc)(void**, size_t bytes);
  Result (*mem_free)(void*);
  Result (*comm_register)(Comm, void*, size_t bytes, void** handle);
  Result (*comm_deregister)(Comm, void* handle);
};

// Loaded once: the file that CONVOY_NCCL names, or libnccl.so.2 where the system's loader finds it. Throws InputError
// when there is none, and for versions before 2.14.
const Library& library();

std::string version_name(int code);  // "2.28.9"

}  // namespace convoy::nccl
