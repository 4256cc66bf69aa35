// Split layers: whose columns are where, and how they travel on the critical path.
#include "kernels/add.h"
#include "kernels/columns.h"
#include "lowering.h"

namespace convoy {

int64_t Lowering::channels_of(int i) const {
  const Shape whole_shape = shapes_[static_cast<size_t>(i)];
  return whole_shape[whole_shape.rank - 1];
}

RowRange Lowering::own_columns(int i) const {
  return part_of(channels_of(i), b_.plan->options.rank, world_);
}

int64_t Lowering::own_outputs(int i, int64_t outputs) const {
  return split(i) ? own_columns(i).count : outputs;
}

Blocks Lowering::column_widths(int i) const {
  Blocks widths;
  for (int r = 0; r < world_; ++r) widths.push_back(part_of(channels_of(i), r, world_).count);
  return widths;
}

Blocks Lowering::column_counts(int i) const {
  Blocks counts = column_widths(i);
  const int64_t pixels =
      rows_ * shapes_[static_cast<size_t>(i)].count() / std::max<int64_t>(channels_of(i), 1);
  for (int64_t& count : counts) count *= pixels;
  return counts;
}

void Lowering::emit_transfer(std::vector<Operation>& list, int i, Label label, std::function<void(Exec&)> run,
                             std::initializer_list<In> views) {
  for (const In& view : views) touch(view);
  ++now_;
  list.push_back({text(label.name, " ", layer(i).name), i, std::move(run), {}, label.traffic});
}

View Lowering::whole(int i) {
  if (!split(i)) return out(i);
  View& gathered = whole_[static_cast<size_t>(i)];
  if (!gathered.empty()) return gathered;
  const Shape shape = shapes_[static_cast<size_t>(i)].with_rows(rows_);
  gathered = gather_columns(program.forward, i, out(i), shape);
  const View y = gathered;
  backward_.push_back([=] {
    const Gradient g = whole_grad_[static_cast<size_t>(i)];
    if (g.dy.empty()) return;
    Communicator* comm = b_.team.compute;
    const auto widths = share(column_widths(i)), counts = share(column_counts(i));
    const View dy = converted(program.backward, i, g.dy, DType::kF32);  // sums over workers are of f32
    const View blocks = buffer(DType::kF32, {y.count()}), dx = buffer(DType::kF32, out(i).shape);
    emit(program.backward, i, ColumnsScatter{dy, blocks, widths.get()}, {dy, blocks}, blocks);
    program.blocks.push_back(widths);
    emit_transfer(program.backward, i, {Traffic::kColumns, "scatter columns"},
                  [=](Exec& exec) {
                    comm->reduce_scatter(exec, {Traffic::kColumns, "scatter columns"}, blocks,
                                         dx.reshaped({dx.count()}), *counts);
                  },
                  {blocks, dx});
    arrive(i, converted(program.backward, i, dx, dtype_), false, g.masked);
  });
  return gathered;
}

View Lowering::gather_columns(std::vector<Operation>& list, int i, const View& mine, const Shape& shape) {
  Communicator* comm = b_.team.compute;
  const auto widths = share(column_widths(i)), counts = share(column_counts(i));
  const View blocks = buffer(mine.dtype, {shape.count()}), y = buffer(mine.dtype, shape);
  emit_transfer(list, i, {Traffic::kColumns, "gather columns"},
                [=](Exec& exec) {
                  comm->all_gather(exec, {Traffic::kColumns, "gather columns"}, mine.reshaped({mine.count()}),
                                   blocks, *counts);
                },
                {mine, blocks});
  program.blocks.push_back(widths);
  emit(list, i, ColumnsGather{blocks, y, widths.get()}, {blocks, y}, y);
  return y;
}

View Lowering::own(int i) {
  if (split(i)) return out(i);
  View& columns = own_[static_cast<size_t>(i)];
  if (columns.empty()) columns = slice(program.forward, i, out(i));
  return columns;
}

View Lowering::slice(std::vector<Operation>& list, int i, const View& from) {
  Shape shape = from.shape;
  shape.dim[static_cast<size_t>(shape.rank - 1)] = own_columns(i).count;
  const View y = buffer(from.dtype, shape);
  emit(list, i, ColumnsSlice{from, y, own_columns(i).first}, {from, y}, y);
  return y;
}

View Lowering::embed(std::vector<Operation>& list, int i, const View& columns) {
  const View x = buffer(columns.dtype, shapes_[static_cast<size_t>(i)].with_rows(rows_));
  emit(list, i, ColumnsEmbed{columns, x, own_columns(i).first}, {columns, x}, x);
  return x;
}

View Lowering::new_whole_gradient(int i) {
  return split(i) ? activation(whole(i).shape) : new_gradient(i);
}

void Lowering::arrive_whole(int i, const View& dx, bool masked) {
  if (!split(i)) return arrive(i, dx, false, masked);
  Gradient& g = whole_grad_[static_cast<size_t>(i)];
  if (!g.dy.empty()) {
    emit(program.backward, i, AddArgs{g.dy, dx, dx, false}, {g.dy, dx}, dx);
    masked = false;
  }
  g = {dx, false, masked};
}

void Lowering::arrive_own(int i, const View& dx, bool shared, bool split_consumer) {
  if (!split_consumer || split(i)) return arrive(i, dx, shared, false);
  // Zeros around this worker's columns: a share of the sum over the workers, like those of whole(i)'s readers.
  arrive(i, embed(program.backward, i, dx), false, false);
}

}  // namespace convoy
