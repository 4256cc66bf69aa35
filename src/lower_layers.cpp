// One function a kind of layer: emits the forward operation and leaves the backward one on the stack.
#include "kernels/add.h"
#include "kernels/batchnorm.h"
#include "kernels/conv.h"
#include "kernels/dropout.h"
#include "kernels/fc.h"
#include "kernels/lrn.h"
#include "kernels/normalize.h"
#include "kernels/pool.h"
#include "kernels/relu.h"
#include "kernels/sgd.h"
#include "kernels/softmax.h"
#include "lowering.h"

namespace convoy {
namespace {

View as_matrix(const View& v) {
  return v.reshaped({v.rows(), v.shape.row()});
}
In as_matrix(const In& v) {
  return v.empty() ? v : v.reshaped({v.rows(), v.shape.row()});
}

template <class Spec>
PoolShape pool_shape(const Shape& x, const Spec& p) {
  PoolShape s;
  s.N = x[0], s.H = x[1], s.W = x[2], s.C = x[3];
  s.R = p.r, s.S = p.s, s.stride_h = p.stride_h, s.stride_w = p.stride_w, s.pad_h = p.pad_h,
  s.pad_w = p.pad_w;
  return s;
}

ConvShape conv_shape(const Shape& x, const Conv& c, int64_t filters) {
  ConvShape s;
  s.N = x[0], s.H = x[1], s.W = x[2], s.C = x[3];
  s.K = filters, s.R = c.r, s.S = c.s;
  s.stride_h = c.stride_h, s.stride_w = c.stride_w, s.pad_h = c.pad_h, s.pad_w = c.pad_w;
  return s;
}

bool is_2x2(const MaxPool& p) {
  return p.r == 2 && p.s == 2 && p.stride_h == 2 && p.stride_w == 2 && p.pad_h == 0 && p.pad_w == 0;
}

}  // namespace

void Lowering::forward(int i, const Input& in) {
  const View y = activation({rows_, in.h, in.w, in.c});
  NormalizeArgs args;
  args.scalars = b_.scalars;
  if (training_ && b_.options->augment) {
    args.augmentation.pad = b_.options->augment_pad;
    args.augmentation.flip = b_.options->augment_flip;
    args.augmentation.seed = b_.options->seed;
  }
  args.pixels = b_.pixels.slice_rows(0, rows_);
  args.index = b_.index.slice_rows(0, rows_);
  args.mean = b_.mean;
  args.stddev = b_.stddev;
  args.y = y;
  emit(program.forward, i, args, {y}, y);
  out(i) = y;
}

void Lowering::forward(int i, const Conv& conv) {
  const int from = layer(i).inputs[0];
  const View x = whole(from);
  const ConvShape shape = conv_shape(x.shape, conv, own_outputs(i, conv.filters));
  ConvForward args;
  args.shape = shape;
  args.x = x;
  args.w = weight(i);
  args.epilogue.bias = parameter(i, ParameterSpec::kBias);
  const int activated = fuse_relu(i, &args.epilogue.relu);
  const bool relu = args.epilogue.relu;

  int last = activated;
  const int pool = sole_consumer<MaxPool>(activated);
  if (pool >= 0 && is_2x2(std::get<MaxPool>(layer(pool).spec)) && shape.P() >= 2 && shape.Q() >= 2) {
    ConvForward pooled = args;
    const Shape y{rows_, shape.P() / 2, shape.Q() / 2, shape.K};
    static std::byte some{};
    pooled.y = View(&some, dtype_, y);
    pooled.pool_index = View(&some, DType::kU8, y);
    if (supported(pooled)) {
      last = pool;
      fused_[static_cast<size_t>(pool)] = true;
      relu_output_[static_cast<size_t>(activated)] = false;  // the un-pooling applies the mask
      pooled.y = activation(y);
      pooled.pool_index = buffer(DType::kU8, y);
      args = pooled;
    }
  }
  if (last == activated) args.y = activation(shape.y());
  out(last) = args.y;
  const View index = args.pool_index;
  emit(program.forward, i, args, {x, args.y, index}, args.y);

  backward_.push_back([=] {
    View dy = index.empty() ? masked_gradient(last, relu) : grad(last).dy;
    if (!index.empty()) {
      MaxPoolBackward unpool;
      unpool.shape = pool_shape(shape.y(), std::get<MaxPool>(layer(last).spec));
      unpool.index = index;
      unpool.dy = dy;
      if (relu) unpool.mask = out(last);
      unpool.dx = activation(shape.y());
      emit(program.backward, last, unpool, {index, dy, unpool.mask, unpool.dx}, unpool.dx);
      dy = unpool.dx;
    }
    const ConvBackwardWeights weights{
        shape, x, dy, gradient(i, ParameterSpec::kWeight), gradient(i, ParameterSpec::kBias), !b_.accumulate};
    emit(program.backward, i, weights, {x, dy}, weights.dw);
    if (!wants_gradient(from)) return;
    const In mask = whole_mask_for(from);
    const ConvBackwardData data{shape, dy, weight(i), new_whole_gradient(from), mask};
    emit(program.backward, i, data, {dy, data.dx, mask}, data.dx);
    arrive_whole(from, data.dx, !mask.empty());
  });
}

void Lowering::forward(int i, const Fc& fc) {
  const int from = layer(i).inputs[0];
  const View x = as_matrix(whole(from));
  FcForward args;
  args.x = x;
  args.w = weight(i);
  args.epilogue.bias = parameter(i, ParameterSpec::kBias);
  const int last = fuse_relu(i, &args.epilogue.relu);
  const bool relu = args.epilogue.relu;
  const bool logits =
      last + 1 == static_cast<int>(b_.net->layers.size()) && !relu;  // the loss is computed of f32
  args.y = buffer(logits ? DType::kF32 : dtype_, {rows_, own_outputs(i, fc.outputs)});
  out(last) = args.y;
  emit(program.forward, i, args, {x, args.y}, args.y);

  backward_.push_back([=] {
    const View dy = masked_gradient(last, relu);
    const FcBackwardWeights weights{x, dy, gradient(i, ParameterSpec::kWeight),
                                    gradient(i, ParameterSpec::kBias), !b_.accumulate};
    emit(program.backward, i, weights, {x, dy}, weights.dw);
    if (!wants_gradient(from)) return;
    const In mask = whole_mask_for(from);
    const View dx = new_whole_gradient(from);
    const FcBackwardData data{dy, weight(i), as_matrix(dx), as_matrix(mask)};
    emit(program.backward, i, data, {dy, dx, mask}, dx);
    arrive_whole(from, dx, !mask.empty());
  });
}

void Lowering::forward(int i, const MaxPool& pool) {
  const int from = layer(i).inputs[0];
  const View x = out(from);
  MaxPoolForward args;
  args.shape = pool_shape(x.shape, pool);
  args.x = x;
  args.y = activation(args.shape.y());
  if (training_) args.index = buffer(DType::kU8, args.shape.y());
  out(i) = args.y;
  emit(program.forward, i, args, {x, args.y, args.index}, args.y);

  backward_.push_back([=] {
    if (!wants_gradient(from)) return;
    // The maximum of a ReLU's outputs is positive where its own gradient passes: y serves as the mask.
    const bool masks = !mask_for(from).empty();
    const MaxPoolBackward data{args.shape, args.index, grad(i).dy, masks ? In(out(i)) : In(),
                               new_gradient(from)};
    emit(program.backward, i, data, {data.index, data.dy, data.mask, data.dx}, data.dx);
    arrive(from, data.dx, false, masks);
  });
}

void Lowering::forward(int i, const AveragePool& pool) {
  const int from = layer(i).inputs[0];
  const View x = out(from);
  AveragePool window = pool;
  if (pool.global) {
    window.r = x.shape[1];
    window.s = x.shape[2];
  }
  AveragePoolForward args;
  args.shape = pool_shape(x.shape, window);
  args.x = x;
  args.y = activation(args.shape.y());
  out(i) = args.y;
  emit(program.forward, i, args, {x, args.y}, args.y);

  backward_.push_back([=] {
    if (!wants_gradient(from)) return;
    const AveragePoolBackward data{args.shape, grad(i).dy, new_gradient(from)};
    emit(program.backward, i, data, {data.dy, data.dx}, data.dx);
    arrive(from, data.dx, false, false);
  });
}

void Lowering::forward(int i, const Relu&) {
  const int from = layer(i).inputs[0];
  const View x = out(from);
  relu_output_[static_cast<size_t>(i)] = true;
  const View y = activation(x.shape);
  out(i) = y;
  emit(program.forward, i, ReluForward{x, y}, {x, y}, y);
  backward_.push_back([=] {
    if (!wants_gradient(from)) return;
    const View dx = masked_gradient(i, true);
    arrive(from, dx, grad(i).shared, false);
  });
}

void Lowering::forward(int i, const Sigmoid&) {
  const int from = layer(i).inputs[0];
  const View x = out(from), y = activation(x.shape);
  out(i) = y;
  emit(program.forward, i, SigmoidForward{x, y}, {x, y}, y);
  backward_.push_back([=] {
    if (!wants_gradient(from)) return;
    const View dy = grad(i).dy, dx = grad(i).shared ? new_gradient(from) : dy;
    emit(program.backward, i, SigmoidBackward{y, dy, dx}, {y, dy, dx}, dx);
    arrive(from, dx, false, false);
  });
}

void Lowering::forward(int i, const Tanh&) {
  const int from = layer(i).inputs[0];
  const View x = out(from), y = activation(x.shape);
  out(i) = y;
  emit(program.forward, i, TanhForward{x, y}, {x, y}, y);
  backward_.push_back([=] {
    if (!wants_gradient(from)) return;
    const View dy = grad(i).dy, dx = grad(i).shared ? new_gradient(from) : dy;
    emit(program.backward, i, TanhBackward{y, dy, dx}, {y, dy, dx}, dx);
    arrive(from, dx, false, false);
  });
}

void Lowering::forward(int i, const Dropout& dropout) {
  const int from = layer(i).inputs[0];
  const View x = out(from);
  if (!training_ || dropout.p == 0) {
    out(i) = x;
    backward_.push_back([=] { arrive(from, grad(i).dy, grad(i).shared, false); });
    return;
  }
  DropoutKey key;
  key.scalars = b_.scalars;
  key.seed = b_.options->seed;
  key.layer = static_cast<uint32_t>(i);
  key.p = dropout.p;
  if (half_ == Half::kSplit) {
    key.scalars = b_.scalars + 1;
    key.rows = b_.slot.row_numbers.slice_rows(0, rows_);
  }
  if (split(i)) {
    key.first_unit = own_columns(i).first;
    key.columns = own_columns(i).count;
    key.unsplit_columns = channels_of(i);
  }
  const View y = activation(x.shape);
  out(i) = y;
  emit(program.forward, i, DropoutForward{key, x, y}, {x, y}, y);
  backward_.push_back([=] {
    if (!wants_gradient(from)) return;
    const View dy = grad(i).dy, dx = grad(i).shared ? new_gradient(from) : dy;
    emit(program.backward, i, DropoutBackward{key, dy, dx}, {dy, dx}, dx);
    arrive(from, dx, false, false);
  });
}

void Lowering::forward(int i, const Add&) {
  const int a = layer(i).inputs[0], b = layer(i).inputs[1];
  const View x = split(i) ? own(a) : out(a), other = split(i) ? own(b) : out(b);
  AddArgs args{x, other, activation(x.shape), false};
  const int last = fuse_relu(i, &args.relu);
  out(last) = args.y;
  emit(program.forward, i, args, {args.a, args.b, args.y}, args.y);
  backward_.push_back([=] {
    const View dy = masked_gradient(last, args.relu);
    const bool shared = grad(last).shared || (wants_gradient(a) && wants_gradient(b));
    for (const int operand : {a, b})
      if (wants_gradient(operand)) arrive_own(operand, dy, shared, split(i));
  });
}

// The window runs over channels: all of them are needed, and this worker's are kept.
void Lowering::forward(int i, const Lrn& lrn) {
  const int from = layer(i).inputs[0];
  const View x = whole(from), y = activation(x.shape);
  const LrnWindow window{lrn.window, lrn.alpha, lrn.beta, lrn.k};
  emit(program.forward, i, LrnForward{window, x, y}, {x, y}, y);
  out(i) = split(i) ? slice(program.forward, i, y) : y;
  backward_.push_back([=] {
    if (!wants_gradient(from)) return;
    const View dy = split(i) ? embed(program.backward, i, grad(i).dy) : grad(i).dy;
    const LrnBackward data{window, x, dy, new_whole_gradient(from)};
    emit(program.backward, i, data, {x, data.dy, data.dx}, data.dx);
    arrive_whole(from, data.dx, false);
  });
}

}  // namespace convoy
