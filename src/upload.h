// Batches on their way to a CUDA device, on a queue of their own beside the one that computes.
#pragma once
#include "convoy/train.h"
#include "device.h"

namespace convoy {

// The next step's batch waits in memory of its own until that step copies it to where the programs read: the recorded
// ones have fixed addresses.
struct UploadQueue {
  CudaQueuePointer queue;
  Exec exec;
  Tensor memory;
  View pixels, labels, index;
  Batch batch;           // what is there, or on its way
  bool waiting = false;  // for the step that takes it
  Event arrived, taken;
};

// Puts the batch on its way; what the compute queue has taken so far may be overwritten. It is made in the first call.
void upload_ahead(Model& model, Exec& compute, const Batch& batch);

// The batch to where the programs read it: from there when it was put on its way, else on the way now.
void take_upload(Model& model, Exec& compute, const Batch& batch);

// On return the memory of every batch that was put on its way is free.
void finish_uploads(Model& model);

}  // namespace convoy
