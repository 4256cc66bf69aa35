// The state of lower(): buffers, emitted operations, gradients of layers. Used by lower*.cpp only.
#pragma once
#include <map>

#include "lower.h"
#include "memory_plan.h"

namespace convoy {

class Lowering {
 public:
  Lowering(const Bindings& bindings, Half half, int64_t rows, int64_t global_rows, bool training,
           std::byte* base, const MemoryPlan* plan);
  void build();

  Program program;
  std::vector<Lifetime> lifetimes;  // one a buffer, in order of creation: the same in every run

 private:
  // --- buffers and operations (lowering.cpp)
  View buffer(DType dtype, const Shape& shape);
  View activation(const Shape& shape) { return buffer(dtype_, shape); }
  void touch(const In& view);  // alive until now
  View converted(std::vector<Operation>& list, int i, const View& from,
                 DType to);  // itself, or a copy in another dtype
  template <class Args>
  void emit(std::vector<Operation>& list, int layer, const Args& args, std::initializer_list<In> views,
            const In& output);
  template <class Args>
  void emit_update(const Args& args);
  // A transfer on the critical path, of which its readers wait for the end.
  void emit_transfer(std::vector<Operation>& list, int layer, Label label, std::function<void(Exec&)> run,
                     std::initializer_list<In> views);
  template <class Args>
  bool supported(const Args& args) const {
    return supports(*b_.backend, args, b_.threads).supported;
  }
  View parameter(int layer, ParameterSpec::Role role) const;  // empty when the layer has none
  View gradient(int layer, ParameterSpec::Role role) const;
  View weight(int layer) const;             // in the precision of the activations
  const StepScalars* loss_scalars() const;  // null: gradients are not scaled
  const Layer& layer(int i) const { return b_.net->layers[static_cast<size_t>(i)]; }
  View& out(int i) { return out_[static_cast<size_t>(i)]; }
  template <class Spec>
  int sole_consumer(int i) const;  // the layer that alone reads layer i, if it is a Spec; else -1

  // --- forward, one function a kind of layer; each leaves its backward part on the stack (lower_layers.cpp)
  void forward(int i, const Input&);
  void forward(int i, const Conv&);
  void forward(int i, const Fc&);
  void forward(int i, const MaxPool&);
  void forward(int i, const AveragePool&);
  void forward(int i, const Relu&);
  void forward(int i, const Sigmoid&);
  void forward(int i, const Tanh&);
  void forward(int i, const Dropout&);
  void forward(int i, const BatchNorm&);
  void forward(int i, const Add&);
  void forward(int i, const Lrn&);
  int fuse_relu(int i, bool* relu);  // absorbs a ReLU that alone reads layer i; the last layer of the group
  void loss();
  View shared_logistic_loss(int last, const View& logits, const View& labels,
                            const View& row_loss);                       // the rows' ranks
  void merge_statistics(int i, const View& statistics, int64_t pixels);  // of batch norm
  void sum_over_workers(std::vector<Operation>& list, int i, const View& view, const char* name);
  void hand_over_features();
  void hand_back_gradient();
  void guard();
  void norm();
  void update();

  // --- split layers (lower_split.cpp)
  bool split(int i) const { return split_[static_cast<size_t>(i)]; }
  int64_t channels_of(int i) const;   // of the whole layer
  RowRange own_columns(int i) const;  // this worker's part of them
  int64_t own_outputs(int i, int64_t outputs) const;
  Blocks column_widths(int i) const;  // every worker's
  Blocks column_counts(int i) const;  // their elements in this program's rows
  View whole(int i);                  // layer i with all columns, gathered where it is split
  View own(int i);                    // this worker's columns of it
  View gather_columns(std::vector<Operation>& list, int i, const View& mine, const Shape& shape);
  View slice(std::vector<Operation>& list, int i, const View& from);     // this worker's columns
  View embed(std::vector<Operation>& list, int i, const View& columns);  // zeros around them
  View new_whole_gradient(int i);
  void arrive_whole(int i, const View& dx, bool masked);  // a share of the gradient of whole(i)
  void arrive_own(int i, const View& dx, bool shared, bool split_consumer);  // of own(i)
  std::shared_ptr<const Blocks> share(Blocks blocks) const {
    return std::make_shared<const Blocks>(std::move(blocks));
  }

  // --- gradients (lowering.cpp)
  struct Gradient {
    View dy;
    bool shared = false;  // another layer's gradient lies in the same buffer: do not write into it
    bool masked = false;  // the ReLU at the layer's output is already applied
  };
  Gradient& grad(int i) { return grad_[static_cast<size_t>(i)]; }
  bool wants_gradient(int i) const { return wants_gradient_[static_cast<size_t>(i)]; }
  In mask_for(int i);        // what a consumer of layer i multiplies into its dx, or empty
  In whole_mask_for(int i);  // the same for a consumer of all columns
  View new_gradient(int i);
  bool sent_home(int i) const;
  void arrive(int i, const View& dx, bool shared,
              bool masked);                // dx is one consumer's share of layer i's gradient
  View masked_gradient(int i, bool relu);  // the gradient before layer i's ReLU
  void make_buckets();

  Bindings b_;
  Half half_;
  int begin_, end_;  // layers of this half
  int world_;
  int64_t rows_, global_rows_;
  bool training_;
  DType dtype_;                // of activations and their gradients
  std::vector<Shape> shapes_;  // of every whole layer, one row
  std::byte* base_;
  const MemoryPlan* plan_;
  int next_buffer_ = 0;
  int now_ = 0;                                // operations emitted so far
  std::map<const std::byte*, size_t> starts_;  // buffers by their start, while measuring
  std::vector<View> out_;
  std::vector<Gradient> grad_;
  std::vector<View> whole_, own_;  // where they were asked for
  std::vector<Gradient> whole_grad_;
  std::vector<bool> relu_output_, fused_, wants_gradient_, split_;
  std::vector<std::vector<int>> consumers_;
  std::vector<std::function<void()>> backward_;  // run last to first
  std::vector<std::function<void()>> running_;   // batch norm's running statistics: part of the update
};

template <class Args>
void Lowering::emit(std::vector<Operation>& list, int i, const Args& args, std::initializer_list<In> views,
                    const In& output) {
  for (const In& view : views) touch(view);
  ++now_;
  const Support support = supports(*b_.backend, args, b_.threads);
  CONVOY_CHECK(support.supported, operation_name(args), " does not take layer ", layer(i).name);
  program.scratch_bytes = std::max(program.scratch_bytes, support.scratch_bytes);
  list.push_back({text(operation_name(args), " ", layer(i).name),
                  i,
                  [args](Exec& exec) { run(exec, args); },
                  output,
                  {}});
}

template <class Args>
void Lowering::emit_update(const Args& args) {
  program.update.push_back({operation_name(args), begin_, [args](Exec& exec) { run(exec, args); }, {}, {}});
  program.scratch_bytes =
      std::max(program.scratch_bytes, supports(*b_.backend, args, b_.threads).scratch_bytes);
}

template <class Spec>
int Lowering::sole_consumer(int i) const {
  const std::vector<int>& readers = consumers_[static_cast<size_t>(i)];
  if (readers.size() != 1 || readers[0] >= end_) return -1;
  if (!std::holds_alternative<Spec>(layer(readers[0]).spec)) return -1;
  return readers[0];
}

}  // namespace convoy
