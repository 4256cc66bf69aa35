#include "launcher.h"

#include <cstdlib>

#include "convoy/check.h"

namespace convoy {

Launcher launcher() {
  Launcher found;
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE"})
    found.mpi = found.mpi || std::getenv(variable) != nullptr;
  // The last one is set by srun, not by sbatch: a batch script may start one process on its own.
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (const char* value = std::getenv(variable)) {
      found.processes = std::atoll(value);
      found.source = text(variable, "=", value);
      break;
    }
  if (found.processes > 1)
    for (const char* variable : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
      if (const char* value = std::getenv(variable)) {
        found.rank = std::atoll(value);
        break;
      }
  return found;
}

void check_launcher(const Launcher& launcher, bool mpi_in_build) {
  const int64_t n = launcher.processes;
  if (n > 1 && !mpi_in_build)
    input_error(
        n, " processes were started (", launcher.source,
        "), and this build has no MPI: rebuild with Open MPI and -DCONVOY_MPI=ON, or start one process "
        "with --workers ",
        n);
  if (n > 1 && !launcher.mpi)
    input_error(
        n, " processes were started (", launcher.source,
        ") without MPI, each would believe that it is alone: start them with srun --mpi=pmix or mpirun");
}

}  // namespace convoy
