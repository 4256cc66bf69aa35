#include "upload.h"

#include "kernels/comm.h"

namespace convoy {
namespace {

std::shared_ptr<UploadQueue> make_uploads(const Model& m, const Exec& compute) {
  auto u = std::make_shared<UploadQueue>();
  const Cuda& cuda = *find_cuda();
  u->queue = cuda_queue(cuda, cuda_comm()->device(compute));
  u->exec = cuda_exec(cuda, u->queue);
  const auto aligned = [](int64_t bytes) { return (bytes + 63) / 64 * 64; };
  const int64_t labels_at = aligned(m.pixels.bytes()), index_at = labels_at + aligned(m.labels.bytes());
  u->memory = Tensor(*m.backend, DType::kU8, {index_at + m.index.bytes()});
  std::byte* const base = u->memory.view().data;
  u->pixels = View(base, DType::kU8, m.pixels.shape);
  u->labels = View(base + labels_at, DType::kI32, m.labels.shape);
  u->index = View(base + index_at, DType::kI32, m.index.shape);
  return u;
}

void copy_batch(Exec& exec, const Batch& from, const View& pixels, const View& labels, const View& index) {
  exec.backend->copy(exec, pixels.data, from.pixels.data, from.pixels.bytes());
  exec.backend->copy(exec, labels.data, from.labels.data, from.labels.bytes());
  exec.backend->copy(exec, index.data, from.index.data, from.index.bytes());
}

}  // namespace

void upload_ahead(Model& m, Exec& compute, const Batch& batch) {
  if (m.uploads == nullptr) m.uploads = make_uploads(m, compute);
  UploadQueue& u = *m.uploads;
  CONVOY_CHECK(batch.rows <= m.pixels.rows() && batch.pixels.shape == m.pixels.shape.with_rows(batch.rows),
               "a batch of ", batch.pixels.shape, ", ", m.pixels.shape, " at most");
  u.exec.backend->wait(u.exec, u.taken);
  copy_batch(u.exec, batch, u.pixels, u.labels, u.index);
  u.arrived = u.exec.backend->record(u.exec);
  u.batch = batch;
  u.waiting = true;
}

void take_upload(Model& m, Exec& compute, const Batch& batch) {
  const bool there = m.uploads != nullptr && m.uploads->waiting &&
                     m.uploads->batch.pixels.data == batch.pixels.data && m.uploads->batch.rows == batch.rows;
  if (!there) upload_ahead(m, compute, batch);
  UploadQueue& u = *m.uploads;
  compute.backend->wait(compute, u.arrived);
  Batch here = batch;
  here.pixels = u.pixels.slice_rows(0, batch.rows);
  here.labels = u.labels.slice_rows(0, batch.rows);
  here.index = u.index.slice_rows(0, batch.rows);
  copy_batch(compute, here, m.pixels, m.labels, m.index);
  u.taken = compute.backend->record(compute);
  u.waiting = false;
}

void finish_uploads(Model& m) {
  if (m.uploads != nullptr) m.uploads->exec.backend->synchronize(m.uploads->exec);
}

}  // namespace convoy
