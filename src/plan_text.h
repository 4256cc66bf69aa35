// What `convoy plan` prints: how a step is divided, what travels, and the time that a model gives it.
#pragma once
#include <iosfwd>
#include <string>

#include "plan_model.h"

namespace convoy {

struct PlanReport {
  Net net;
  Plan plan;
  StepModel model;
  double one_worker_images_per_second = 0;  // modelled, with the rows that each worker has here
  LinkFigures links;
  std::string
      speed;  // where the layers' times come from, in words: "measured here", "FILE: conv 1300 GFLOP/s ..."
  DType precision = DType::kF32;  // of activations, for the bytes
};

// Models the step, and one worker with the same rows.
PlanReport make_plan_report(const Net& net, const Plan& plan, const LayerTimes& times,
                            const LinkFigures& links, const std::string& speed,
                            DType precision = DType::kF32);

void print_plan(std::ostream& out, const PlanReport& report);
// One JSON object.
void print_plan_json(std::ostream& out, const PlanReport& report);

const char* parallel_name(Parallel parallel);  // "hybrid"

}  // namespace convoy
