#include "lowering.h"

#include <algorithm>

#include "kernels/add.h"
#include "kernels/relu.h"

namespace convoy {

Lowering::Lowering(const Bindings& bindings, int64_t rows, bool training, std::byte* base,
                   const MemoryPlan* plan)
    : b_(bindings), rows_(rows), training_(training), base_(base), plan_(plan) {
  const size_t n = b_.net->layers.size();
  out_.resize(n);
  grad_.resize(n);
  relu_output_.resize(n);
  fused_.resize(n);
  wants_gradient_.resize(n);
  consumers_.resize(n);
  // A layer with parameters needs its dy, and so does every layer that hands it down.
  for (const ParameterSpec& spec : b_.specs) wants_gradient_[static_cast<size_t>(spec.layer)] = true;
  for (size_t i = 0; i < n; ++i)
    for (const int input : b_.net->layers[i].inputs) {
      consumers_[static_cast<size_t>(input)].push_back(static_cast<int>(i));
      if (wants_gradient_[static_cast<size_t>(input)]) wants_gradient_[i] = true;
    }
}

View Lowering::buffer(DType dtype, const Shape& shape) {
  const int id = next_buffer_++;
  View view(nullptr, dtype, shape);
  if (plan_ != nullptr) {
    view.data = base_ + plan_->offset[static_cast<size_t>(id)];
    return view;
  }
  // Measuring: addresses that are never used, only told apart.
  static std::byte* const kNowhere = reinterpret_cast<std::byte*>(uintptr_t{1} << 32);
  view.data = starts_.empty() ? kNowhere
                              : const_cast<std::byte*>(starts_.rbegin()->first) + lifetimes.back().bytes + 64;
  starts_[view.data] = lifetimes.size();
  lifetimes.push_back({view.bytes(), now_, now_});
  return view;
}

void Lowering::touch(const In& view) {
  if (plan_ != nullptr || view.empty()) return;
  auto after = starts_.upper_bound(view.data);
  if (after == starts_.begin()) return;
  Lifetime& life = lifetimes[(--after)->second];
  if (view.data < after->first + std::max<int64_t>(life.bytes, 1)) life.last = now_;
}

View Lowering::parameter(int i, ParameterSpec::Role role) const {
  for (size_t s = 0; s < b_.specs.size(); ++s)
    if (b_.specs[s].layer == i && b_.specs[s].role == role) return b_.values[s];
  return {};
}

View Lowering::gradient(int i, ParameterSpec::Role role) const {
  for (size_t s = 0; s < b_.specs.size(); ++s)
    if (b_.specs[s].layer == i && b_.specs[s].role == role) return b_.gradients[s];
  return {};
}

int Lowering::fuse_relu(int i, bool* relu) {
  const int next = sole_consumer<Relu>(i);
  *relu = next >= 0;
  if (!*relu) return i;
  fused_[static_cast<size_t>(next)] = true;
  relu_output_[static_cast<size_t>(next)] = true;
  return next;
}

In Lowering::mask_for(int i) {
  const bool alone = consumers_[static_cast<size_t>(i)].size() == 1;
  return relu_output_[static_cast<size_t>(i)] && alone ? In(out(i)) : In();
}

void Lowering::arrive(int i, const View& dx, bool shared, bool masked) {
  Gradient& g = grad(i);
  if (g.dy.empty()) {
    g = {dx, shared, masked};
    return;
  }
  // Another consumer's share is there: add, into a buffer that nobody else reads.
  const View target = !shared ? dx : !g.shared ? g.dy : new_gradient(i);
  emit(program.backward, i, AddArgs{g.dy, dx, target, false}, {g.dy, dx, target}, target);
  g = {target, false, false};
}

View Lowering::masked_gradient(int i, bool relu) {
  Gradient& g = grad(i);
  if (!relu || g.masked) return g.dy;
  const View dx = g.shared ? new_gradient(i) : g.dy;
  emit(program.backward, i, ReluBackward{out(i), g.dy, dx}, {out(i), g.dy, dx}, dx);
  g = {dx, false, true};
  return dx;
}

void Lowering::build() {
  const int n = static_cast<int>(b_.net->layers.size());
  program.rows = rows_;
  for (int i = 0; i < n; ++i)
    if (!fused_[static_cast<size_t>(i)])
      std::visit([&](const auto& spec) { forward(i, spec); }, layer(i).spec);
  loss();
  if (training_) {
    for (auto step = backward_.rbegin(); step != backward_.rend(); ++step) (*step)();
    update();
  }
  for (const In& result : {program.logits, program.row_loss, program.row_rank})
    touch(result);  // read after the step
}

Program lower(const Bindings& bindings, int64_t rows, bool training, std::byte* activations) {
  Lowering measured(bindings, rows, training, nullptr, nullptr);
  measured.build();
  const MemoryPlan plan = plan_memory(measured.lifetimes);
  measured.program.activation_bytes = plan.bytes;
  if (activations == nullptr) return measured.program;
  Lowering bound(bindings, rows, training, activations, &plan);
  bound.build();
  bound.program.activation_bytes = plan.bytes;
  return bound.program;
}

}  // namespace convoy
