// What the environment tells about the launcher of this process.
#pragma once
#include <cstdint>
#include <string>

namespace convoy {

struct Launcher {
  bool mpi = false;       // a launcher that MPI understands: mpirun, or srun --mpi=pmix
  int64_t processes = 1;  // that were started together, as far as the environment says
  std::string source;     // the variable that says so
  int64_t rank = 0;       // of this process among them
};

Launcher launcher();

// Throws InputError where several processes were started that cannot find each other.
void check_launcher(const Launcher& launcher, bool mpi_in_build);

}  // namespace convoy
