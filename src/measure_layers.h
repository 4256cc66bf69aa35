// The speed of this machine's layers, for the model of a step (plan_model.h).
#pragma once
#include "plan_model.h"

namespace convoy {

// Times the operations that the division gives each worker, layer by layer in the order of a step but without its
// transfers, on all workers at the same time: workers that share cores, caches and memory slow each other down here as
// they do in a step. Mean over workers of the median of some rounds; with the batch and with half of it, from which
// follow a call and its rows. What a whole step takes beside its operations and its waiting is LayerTimes::step.
//
// Every worker of the team calls it, with its own rank in `plan`; all get the same result.
LayerTimes measure_layers(const Net& net, const Plan& plan, Team& team, const Exec& exec);

// Every worker's numbers, rank by rank; as many on each.
std::vector<double> gather_numbers(Team& team, const std::vector<double>& own);

// All workers are here.
void wait_for_workers(Team& team);

}  // namespace convoy
