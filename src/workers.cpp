#include "workers.h"

#include <algorithm>
#include <mutex>
#include <thread>

#include "comm_mpi.h"
#include "delay_line.h"
#include "device.h"
#include "launcher.h"
#include "status_board.h"
#include "transport.h"

namespace convoy {
namespace {

using Body = std::function<int(Team&, const Exec&)>;

bool is_aborted(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Aborted&) {
    return true;
  } catch (...) {
    return false;
  }
}

// A group for each queue, and on CUDA one for host memory.
struct Groups {
  std::unique_ptr<Communicator> compute, transfer, host = nullptr;
  StatusBoard* board = nullptr;
};

// Both groups of a worker, on one simulated link where one is asked for.
Groups groups_of(const WorkersOptions& options, std::unique_ptr<Communicator> compute,
                 std::unique_ptr<Communicator> transfer) {
  if (options.link_gbps > 0) {
    const LinkSpeed speed{options.link_gbps, options.link_us};
    const auto link = std::make_shared<Link>();
    compute = std::make_unique<DelayLine>(std::move(compute), speed, link);
    transfer = std::make_unique<DelayLine>(std::move(transfer), speed, link);
  }
  return {std::move(compute), std::move(transfer)};
}

// The CPUs that each of n workers of this process or machine gets when none were asked for.
int threads_of_each(const WorkersOptions& options, int workers) {
  if (options.threads > 0) return static_cast<int>(options.threads);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / workers);
}

int work(const WorkersOptions& options, Groups& groups, int threads, int first_cpu, const Body& body) {
  const Backend& backend = cpu_backend(options.isa);
  const CpuQueuePointer queue = cpu_queue();
  Team team;
  if (groups.compute->world() > 1)
    team = {groups.compute.get(), groups.transfer.get(), cpu_queue_exec(backend, queue)};
  team.board = groups.board;
  try {
    return body(team, cpu_exec(backend, threads, first_cpu));
  } catch (...) {
    end_team(team);
    throw;
  }
}

// The same on a CUDA device, where the host's part of the work has one thread.
int work(const WorkersOptions& options, const Cuda& cuda, Groups& groups, int device, const Body& body) {
  const CudaQueuePointer compute = cuda_queue(cuda, device), transfer = cuda_queue(cuda, device);
  Team team;
  if (groups.compute != nullptr && groups.compute->world() > 1) {
    team = {groups.compute.get(), groups.transfer.get(), cuda_exec(cuda, transfer)};
    team.host_group = groups.host.get();
    team.host_queue.backend = &cpu_backend(options.isa);
  }
  team.board = groups.board;
  try {
    return body(team, cuda_exec(cuda, compute));
  } catch (...) {
    end_team(team);
    throw;
  }
}

std::vector<Groups> thread_groups(const WorkersOptions& options, int workers) {
  auto compute = thread_communicators(workers), transfer = thread_communicators(workers);
  std::vector<Groups> groups;
  for (size_t r = 0; r < compute.size(); ++r)
    groups.push_back(groups_of(options, std::move(compute[r]), std::move(transfer[r])));
  return groups;
}

std::vector<Groups> cuda_thread_groups(const WorkersOptions& options, const Cuda& cuda, int workers) {
  auto compute = cuda_communicators(cuda, options.transport, workers);
  auto transfer = cuda_communicators(cuda, options.transport, workers);
  auto host = thread_communicators(workers);
  std::vector<Groups> groups;
  for (size_t r = 0; r < host.size(); ++r)
    groups.push_back({std::move(compute[r]), std::move(transfer[r]), std::move(host[r])});
  return groups;
}

int run_threads(const WorkersOptions& options, const Cuda* cuda, int workers, const Body& body) {
  std::vector<Groups> groups =
      cuda != nullptr ? cuda_thread_groups(options, *cuda, workers) : thread_groups(options, workers);
  StatusBoard board(workers);
  for (Groups& one : groups) one.board = &board;
  const int threads = cuda != nullptr ? 1 : threads_of_each(options, workers);
  std::mutex mutex;
  std::exception_ptr first;
  int status = 0;
  const auto worker = [&](int rank) {
    Groups& own_groups = groups[static_cast<size_t>(rank)];
    std::exception_ptr error;
    int own = 0;
    try {
      own = cuda != nullptr ? work(options, *cuda, own_groups, rank % cuda->devices(), body)
                            : work(options, own_groups, threads, rank * threads, body);
    } catch (...) {
      error = std::current_exception();
    }
    const std::lock_guard<std::mutex> lock(mutex);
    status = std::max(status, own);
    if (error && (!first || (is_aborted(first) && !is_aborted(error)))) first = error;
  };
  std::vector<std::thread> ranks;
  ranks.reserve(static_cast<size_t>(workers));
  for (int rank = 0; rank < workers; ++rank) ranks.emplace_back(worker, rank);
  for (std::thread& rank : ranks) rank.join();
  if (first) std::rethrow_exception(first);
  return status;
}

int run_processes(const WorkersOptions& options, const Cuda* cuda, const Launcher& started,
                  const Body& body) {
  const MpiProcess self = mpi()->init();
  StatusBoard board(self.world);
  std::unique_ptr<Heartbeats> heartbeats;
  Groups groups;
  int status = 0;
  try {
    if (cuda != nullptr) groups.host = mpi()->communicator();
    auto compute = mpi()->communicator(), transfer = mpi()->communicator();
    if (cuda != nullptr) {
      groups.compute = cuda_communicator(*cuda, options.transport, std::move(compute), self);
      groups.transfer = cuda_communicator(*cuda, options.transport, std::move(transfer), self);
    } else {
      groups = groups_of(options, std::move(compute), std::move(transfer));
    }
    groups.board = &board;
    heartbeats = mpi()->heartbeats(board);
    if (self.world != started.processes && started.processes > 1)
      input_error(started.processes, " processes were started (", started.source, "), MPI knows of ",
                  self.world, ": use the mpirun of the MPI that Convoy was built with, or srun --mpi=pmix");
    if (options.workers > 0 && options.workers != self.world)
      input_error("--workers ", options.workers, " contradicts the number of processes that were started, ",
                  self.world, ": each is a worker; leave --workers out");
    const int threads = threads_of_each(options, self.sharers);
    status = cuda != nullptr ? work(options, *cuda, groups, device_of_process(*cuda), body)
                             : work(options, groups, threads, self.sharer * threads, body);
  } catch (...) {
    // The group of MPI that is there ends all ranks with this error; it does not return.
    Communicator* const group = groups.host != nullptr ? groups.host.get() : groups.compute.get();
    if (group == nullptr) throw;
    group->abort();
  }
  heartbeats.reset();
  mpi()->finalize();
  return status;
}

// On CUDA, how many workers when nobody says: one a device.
int default_workers(const Cuda* cuda) {
  return cuda != nullptr ? cuda->devices() : 1;
}

}  // namespace

void end_team(Team& team) noexcept {
  if (team.world() == 1) return;
  team.compute->abort();
  team.transfer->abort();
  if (team.host_group != nullptr) team.host_group->abort();
  try {
    team.queue.backend->synchronize(team.queue);
  } catch (...) {  // the queue's own error, or Aborted: the caller is handling the one that counts
  }
}

bool workers_are_processes() {
  return launcher().mpi && mpi() != nullptr;
}

int run_workers(const WorkersOptions& options, const Body& body) {
  const Launcher started = launcher();
  check_launcher(started, mpi() != nullptr);
  const Cuda* cuda = choose_device(options.device);
  if (cuda != nullptr && options.link_gbps > 0)
    input_error("--link-gbps: the simulated link is for workers on the CPU; use --device cpu");
  if (workers_are_processes()) return run_processes(options, cuda, started, body);
  const int workers = options.workers > 0 ? static_cast<int>(options.workers) : default_workers(cuda);
  if (workers > 1) return run_threads(options, cuda, workers, body);
  Groups none;
  if (cuda != nullptr) return work(options, *cuda, none, 0, body);
  Team alone;
  return body(alone, cpu_exec(cpu_backend(options.isa), static_cast<int>(options.threads)));
}

}  // namespace convoy
