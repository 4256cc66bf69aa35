#include "lowering.h"

#include <algorithm>

#include "kernels/add.h"
#include "kernels/cast.h"
#include "kernels/columns.h"
#include "kernels/relu.h"

namespace convoy {

Lowering::Lowering(const Bindings& bindings, Half half, int64_t rows, int64_t global_rows, bool training,
                   std::byte* base, const MemoryPlan* plan)
    : b_(bindings),
      half_(half),
      begin_(half == Half::kFront ? 0 : b_.plan->cut),
      end_(half == Half::kFront ? b_.plan->cut : static_cast<int>(b_.net->layers.size())),
      world_(b_.plan->options.world),
      rows_(rows),
      global_rows_(global_rows),
      training_(training),
      dtype_(b_.options->precision),
      base_(base),
      plan_(plan) {
  const size_t n = b_.net->layers.size();
  shapes_ = output_shapes(*b_.net, 1);
  whole_.resize(n);
  own_.resize(n);
  whole_grad_.resize(n);
  split_.resize(n);
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
  for (size_t i = static_cast<size_t>(begin_); half_ == Half::kSplit && world_ > 1 && i < n; ++i) {
    const Layer& l = b_.net->layers[i];
    split_[i] = std::holds_alternative<Conv>(l.spec) || std::holds_alternative<Fc>(l.spec);
    for (const int input : l.inputs) split_[i] = split_[i] || split_[static_cast<size_t>(input)];
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

View Lowering::weight(int i) const {
  if (dtype_ == DType::kF32) return parameter(i, ParameterSpec::kWeight);
  for (size_t s = 0; s < b_.specs.size(); ++s)
    if (b_.specs[s].layer == i && b_.specs[s].role == ParameterSpec::kWeight) return b_.low_values[s];
  return {};
}

const StepScalars* Lowering::loss_scalars() const {
  if (dtype_ != DType::kF16) return nullptr;
  return half_ == Half::kSplit ? b_.scalars + 1 : b_.scalars;
}

View Lowering::converted(std::vector<Operation>& list, int i, const View& from, DType to) {
  if (from.dtype == to) return from;
  const View y = buffer(to, from.shape);
  emit(list, i, CastArgs{from, y}, {from, y}, y);
  return y;
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

In Lowering::whole_mask_for(int i) {
  return mask_for(i).empty() ? In() : In(whole(i));
}

View Lowering::new_gradient(int i) {
  const bool home = sent_home(i) && grad(i).dy.empty();
  if (home) return b_.slot.dfeatures.slice_rows(0, rows_).reshaped(out(i).shape);
  return activation(out(i).shape);
}

// Sums over workers are of f32: what is sent home is made there, or converted at the end.
bool Lowering::sent_home(int i) const {
  return half_ == Half::kSplit && i == b_.plan->features && dtype_ == DType::kF32;
}

void Lowering::arrive(int i, const View& dx, bool shared, bool masked) {
  Gradient& g = grad(i);
  if (g.dy.empty()) {
    g = {dx, shared, masked};
    return;
  }
  // Another consumer's share is there: add, into a buffer that nobody else reads. What is sent home stays where it
  // is.
  const bool home = sent_home(i);
  const View target = home ? g.dy : !shared ? dx : !g.shared ? g.dy : new_gradient(i);
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

// The gradients are summed over the workers from the last layer to the first, in pieces that are large enough to be
// worth a message and small enough to start early.
void Lowering::make_buckets() {
  constexpr int64_t kBucketBytes = 1 << 20;
  const std::byte* const begin = b_.gradient_arena.data;
  const auto ready = [&](int of) {  // the operation that writes the layer's gradients
    for (size_t k = 0; k < program.backward.size(); ++k) {
      const std::byte* written = program.backward[k].output.data;
      if (program.backward[k].layer == of && written >= begin && written < begin + b_.gradient_arena.bytes())
        return k;
    }
    return program.backward.size() - 1;
  };
  std::byte* end = b_.gradient_arena.data + b_.front_elements * 4;
  size_t after = 0;
  for (size_t s = b_.specs.size(); s-- > 0;) {
    const View& gradient = b_.gradients[s];
    if (b_.specs[s].layer >= end_ || gradient.empty()) continue;
    after = std::max(after, ready(b_.specs[s].layer));
    const int64_t bytes = end - gradient.data;
    bool last = true;
    for (size_t t = 0; t < s; ++t) last = last && b_.gradients[t].empty();
    if (bytes < kBucketBytes && !last) continue;
    program.buckets.push_back({after, View(gradient.data, DType::kF32, {bytes / 4})});
    end = gradient.data;
  }
}

void Lowering::hand_over_features() {
  const int i = b_.plan->features;
  program.features = out(i);
  touch(out(i));
  ++now_;
  if (!training_ || !wants_gradient(i)) return;
  program.dfeatures = buffer(DType::kF32, out(i).shape);
  touch(out(i));  // the two are there at the same time
  backward_.push_back([=] {
    grad(i) = {converted(program.backward, i, program.dfeatures, dtype_), false, false};
  });
}

void Lowering::hand_back_gradient() {
  const int i = b_.plan->features;
  if (!wants_gradient(i)) return;
  const View dy = grad(i).dy, home = b_.slot.dfeatures.slice_rows(0, rows_).reshaped(dy.shape);
  if (dtype_ != DType::kF32)
    emit(program.backward, i, CastArgs{dy, home}, {dy, home}, home);
  else if (dy.data != home.data)
    emit(program.backward, i, ColumnsSlice{dy, home, 0}, {dy, home}, home);
}

void Lowering::build() {
  program.rows = rows_;
  if (half_ == Half::kSplit) out(b_.plan->features) = b_.slot.features.slice_rows(0, rows_);
  for (int i = begin_; i < end_; ++i)
    if (!fused_[static_cast<size_t>(i)])
      std::visit([&](const auto& spec) { forward(i, spec); }, layer(i).spec);
  const bool whole_net = b_.plan->features < 0;
  if (half_ == Half::kFront && !whole_net)
    hand_over_features();
  else
    loss();
  if (training_) {
    for (auto step = backward_.rbegin(); step != backward_.rend(); ++step) (*step)();
    if (half_ == Half::kSplit) hand_back_gradient();
    if (half_ == Half::kFront) make_buckets();
    update();
  }
  for (const In& result : {program.logits, program.row_loss, program.row_rank})
    touch(result);  // read after the step
}

Program lower(const Bindings& bindings, Half half, int64_t rows, int64_t global_rows, bool training,
              std::byte* activations) {
  Lowering measured(bindings, half, rows, global_rows, training, nullptr, nullptr);
  measured.build();
  const MemoryPlan plan = plan_memory(measured.lifetimes);
  measured.program.activation_bytes = plan.bytes;
  if (activations == nullptr) return measured.program;
  Lowering bound(bindings, half, rows, global_rows, training, activations, &plan);
  bound.build();
  bound.program.activation_bytes = plan.bytes;
  return bound.program;
}

}  // namespace convoy
