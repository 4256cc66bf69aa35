#include "average.h"

#include "kernels/fill.h"

namespace convoy {

void average_weights(Model& model, Exec& exec) {
  const Label label{Traffic::kGradients, "average weights"};
  for (const Tensor* arena : {&model.parameters, &model.state[0], &model.state[1], &model.buffers}) {
    const View& values = arena->view();
    if (values.count() == 0) continue;
    model.team.compute->all_reduce(exec, label, values);
    run(exec, ScaleArgs{1.0f / static_cast<float>(model.team.world()), values});
  }
  refresh_low(model, exec);
}

void share_statistics(Model& model, Exec& exec) {
  if (model.buffers.view().count() > 0)
    model.team.compute->broadcast(exec, {Traffic::kOther, "share statistics"}, model.buffers.view(), 0);
}

}  // namespace convoy
