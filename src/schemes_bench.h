// The measurements of `convoy bench-schemes`: steps of one net, divided in every way that is asked for.
#pragma once
#include "plan_model.h"
#include "schemes_page.h"
#include "workers.h"

namespace convoy {

struct Division {
  Parallel parallel = Parallel::kData;
  Scheme scheme = Scheme::kA;
};

struct SchemesBench {
  Net net;
  int64_t batch = 128, fc_batch_size = 0;
  int64_t steps = 10;        // that are measured, after those that are checked (schemes_check.h)
  bool plan = false;         // model the steps too
  std::vector<int> workers;  // one group after the other; none: 2, or as many as there are CUDA devices
  std::vector<Division> divisions;
  std::string precision = "f32";
  WorkersOptions options;  // its workers are not looked at
};

struct SchemesResult {
  std::vector<SchemeRow> rows;  // one worker first
  std::vector<StepTimeline> timelines;
  Facts left_out;                // divisions that this net cannot have, and why
  int workers = 1, threads = 1;  // the most workers, and the threads of each when there were as many
};

// Complete on the leader alone; other processes of an MPI run get nothing to print. Under MPI the workers are the
// processes: `bench.workers` is empty, or that one number.
SchemesResult run_schemes(const SchemesBench& bench);

}  // namespace convoy
