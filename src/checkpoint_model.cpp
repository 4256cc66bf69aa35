#include "convoy/checkpoint.h"

namespace convoy {
namespace {

std::array<const Tensor*, 4> arenas(const Model& m) {
  return {&m.parameters, &m.buffers, &m.state[0], &m.state[1]};
}

// Where the host sees what lies at `device` in one of the model's arenas.
float* on_host(const Model& model, const HostTensors& out, const View& device) {
  if (out.copies.empty()) return device.f32();
  const std::array<const Tensor*, 4> all = arenas(model);
  for (size_t i = 0; i < all.size(); ++i) {
    const View& arena = all[i]->view();
    if (device.data < arena.data || device.data > arena.data + arena.bytes()) continue;
    return reinterpret_cast<float*>(out.copies[i]->view().data + (device.data - arena.data));
  }
  throw Error("a tensor outside of the model's arenas");
}

}  // namespace

HostTensors host_tensors(const Model& model, Exec& exec) {
  HostTensors out;
  const bool sgd = model.options.optimizer.kind == OptimizerKind::kSgd;
  const std::vector<std::string> kinds =
      sgd ? std::vector<std::string>{"momentum"} : std::vector<std::string>{"m", "v"};
  out.own = model.own;
  if (!model.backend->host_memory) {
    for (const Tensor* arena : arenas(model)) {
      const View& from = arena->view();
      out.copies.push_back(std::make_shared<Tensor>(Tensor::on_host(*model.backend, from.dtype, from.shape)));
      exec.backend->copy(exec, out.copies.back()->view().data, from.data, from.bytes());
    }
    exec.backend->synchronize(exec);
  }
  for (const View& view : model.values) out.values.push_back(on_host(model, out, view));
  for (size_t kind = 0; kind < kinds.size(); ++kind) {
    if (model.state[kind].view().empty()) continue;  // not training, or without momentum
    out.state.push_back({kinds[kind], {}});
    for (size_t i = 0; i < model.specs.size(); ++i) {
      const View view = state_of(model, i, static_cast<int>(kind));
      out.state.back().values.push_back(view.empty() ? nullptr : on_host(model, out, view));
    }
  }
  return out;
}

void put_back(const HostTensors& from, Model& model, Exec& exec) {
  const std::array<const Tensor*, 4> all = arenas(model);
  for (size_t i = 0; i < from.copies.size(); ++i)
    exec.backend->copy(exec, all[i]->view().data, from.copies[i]->view().data, all[i]->view().bytes());
  refresh_low(model, exec);
  exec.backend->synchronize(exec);
}

}  // namespace convoy
