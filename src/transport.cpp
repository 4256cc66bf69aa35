#include "transport.h"

#include <cstdlib>
#include <numeric>

#include "comm_cuda.h"

namespace convoy {
namespace {

// Why NCCL cannot be used; empty: it can.
std::string without_nccl() {
  try {
    nccl_version();
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

void need_nccl(const Cuda& cuda, int workers_here) {
  if (cuda.devices() < workers_here)
    input_error("--transport nccl: ", workers_here, " workers of this machine for ", cuda.devices(),
                " devices; NCCL wants a device for each, --transport local shares them");
  const std::string why = without_nccl();
  if (!why.empty()) input_error("--transport nccl: ", why);
}

}  // namespace

std::string cuda_transport(const Cuda& cuda, const std::string& transport, int workers) {
  if (transport == "staged")
    input_error("--transport staged is for workers that are processes; threads use local or nccl");
  if (transport == "nccl") need_nccl(cuda, workers);
  const bool nccl = transport == "nccl" || (transport == "auto" && workers > 1 && cuda.devices() >= workers &&
                                            without_nccl().empty());
  return nccl ? "nccl" : "local";
}

std::vector<std::unique_ptr<Communicator>> cuda_communicators(const Cuda& cuda, const std::string& transport,
                                                              int workers) {
  if (cuda_transport(cuda, transport, workers) == "local") return local_communicators(workers);
  std::vector<int> devices(static_cast<size_t>(workers));
  std::iota(devices.begin(), devices.end(), 0);
  return nccl_communicators(devices);
}

std::unique_ptr<Communicator> cuda_communicator(const Cuda& cuda, const std::string& transport,
                                                std::unique_ptr<Communicator> host, const MpiProcess& self) {
  if (transport == "local")
    input_error("--transport local is for workers that are threads; processes use nccl or staged");
  const int device = device_of_process(cuda);
  if (transport == "nccl") need_nccl(cuda, device + 1);
  const bool nccl = transport == "nccl" || (transport == "auto" && self.world > 1 && without_nccl().empty());
  return nccl ? nccl_communicator(std::move(host), device) : staged_communicator(std::move(host));
}

// The launcher numbers the processes of a machine.
int device_of_process(const Cuda& cuda) {
  for (const char* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID", "MPI_LOCALRANKID"})
    if (const char* value = std::getenv(name)) return std::atoi(value) % cuda.devices();
  return 0;
}

}  // namespace convoy
