#include <algorithm>
#include <climits>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "convoy/backend.h"
#include "convoy/data.h"
#include "convoy/philox.h"

namespace convoy {

std::vector<int32_t> epoch_order(int64_t count, uint64_t seed, int64_t epoch, bool shuffle) {
  CONVOY_CHECK(count >= 0 && count <= INT32_MAX, count, " images");
  std::vector<int32_t> order(static_cast<size_t>(count));
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  if (!shuffle) return order;
  // Fisher-Yates. A 64-bit number times n, shifted down by 64: each of n values comes up within n / 2^64 of
  // equally often.
  for (uint64_t i = order.size(); i-- > 1;) {
    const uint64_t n = i + 1;
    const Philox4 random =
        philox(seed, static_cast<uint32_t>(i / 2), 0, static_cast<uint32_t>(epoch), kShuffleStream);
    const uint64_t high = random.v[2 * (i % 2)], low = random.v[2 * (i % 2) + 1];
    std::swap(order[i], order[(high * n + (low * n >> 32)) >> 32]);
  }
  return order;
}

namespace {

constexpr int64_t kAlignment = 64;
int64_t aligned(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

struct Release {
  const Backend* backend = nullptr;
  void operator()(std::byte* memory) const {
    if (backend != nullptr)
      backend->release_host(memory);
    else
      ::operator delete (memory, std::align_val_t{kAlignment});
  }
};

// One of the `ahead` places for a batch.
struct Slot {
  std::byte* memory = nullptr;
  Batch batch;
  int64_t global_row = 0;  // of the epoch: where this worker's rows start in its order
  int64_t unread = 0;      // rows that no thread has taken
  int64_t unfinished = 0;  // rows that are not written yet
  int64_t failed_row = 0;  // the first row whose image could not be read, and why
  std::exception_ptr error;
};

}  // namespace

// Batches b of the running epoch lie in slots[b % ahead]. Three counters walk through the epoch:
//   delivered <= b < opened : the slot belongs to batch b (delivered - 1 is the one that the trainer holds).
// Threads take a few rows at a time from the earliest open batch that has some left. Everything is guarded by
// `mutex` except the rows that a thread has taken. Rows land where the epoch's order puts them, whoever reads
// them.
struct Loader::Impl {
  Impl(const DataSet& data_set, const Options& o) : data(data_set), options(o) {
    CONVOY_CHECK(o.batch >= 1 && o.threads >= 1 && o.ahead >= 1, "batch ", o.batch, ", threads ", o.threads,
                 ", ahead ", o.ahead);
    CONVOY_CHECK(o.world >= 1 && o.rank >= 0 && o.rank < o.world, "rank ", o.rank, " of ", o.world);
    CONVOY_CHECK(data.count() >= 1 && data.read, data.name, " is empty");
    image_bytes = data.image.h * data.image.w * data.image.c;
    const int64_t full_batch = std::min(o.batch, data.count());
    const int64_t rows = (full_batch + o.world - 1) / o.world;
    label_offset = aligned(checked_product(rows, image_bytes, "bytes of a batch"));
    index_offset = label_offset + aligned(rows * 4);
    all_labels_offset = o.world == 1 ? label_offset : index_offset + aligned(rows * 4);
    slot_bytes = index_offset + aligned(rows * 4) + (o.world == 1 ? 0 : aligned(full_batch * 4));
    void* const all = options.memory != nullptr
                          ? options.memory->alloc_host(bytes())
                          : ::operator new (static_cast<size_t>(bytes()), std::align_val_t{kAlignment});
    memory = std::unique_ptr<std::byte, Release>(static_cast<std::byte*>(all), Release{options.memory});
    slots.resize(static_cast<size_t>(o.ahead));
    for (size_t i = 0; i < slots.size(); ++i)
      slots[i].memory = memory.get() + static_cast<int64_t>(i) * slot_bytes;
    chunk = std::clamp<int64_t>(rows / (int64_t{4} * o.threads), 1, 32);
  }
  ~Impl() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      stopping = true;
    }
    work.notify_all();
    for (std::thread& thread : threads) thread.join();
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  int64_t batches() const { return (data.count() + options.batch - 1) / options.batch; }
  int64_t bytes() const { return slot_bytes * options.ahead; }
  Slot& slot_of(int64_t batch) { return slots[static_cast<size_t>(batch % options.ahead)]; }

  // Gives free slots to the next batches.
  void open_batches() {
    for (; opened < batches() && opened < delivered + options.ahead - (holding ? 1 : 0); ++opened) {
      Slot& slot = slot_of(opened);
      const int64_t start = opened * options.batch;
      const int64_t global_rows = std::min(options.batch, data.count() - start);
      const int64_t first = options.rank * global_rows / options.world;
      const int64_t rows = (options.rank + 1) * global_rows / options.world - first;
      auto* pixels = reinterpret_cast<uint8_t*>(slot.memory);
      slot.batch.pixels = View(pixels, Shape{rows, data.image.h, data.image.w, data.image.c});
      slot.batch.labels = View(reinterpret_cast<int32_t*>(slot.memory + label_offset), Shape{rows});
      slot.batch.index = View(reinterpret_cast<int32_t*>(slot.memory + index_offset), Shape{rows});
      slot.batch.rows = rows;
      slot.batch.first_row = first;
      auto* all_labels = reinterpret_cast<int32_t*>(slot.memory + all_labels_offset);
      slot.batch.global_rows = global_rows;
      slot.batch.all_labels = View(all_labels, Shape{global_rows});
      if (options.world > 1)  // else they are `labels`, which the threads write
        for (int64_t row = 0; row < global_rows; ++row)
          all_labels[row] = data.labels[static_cast<size_t>(order[static_cast<size_t>(start + row)])];
      slot.global_row = start + first;
      slot.unread = slot.unfinished = rows;
      slot.error = nullptr;
    }
  }

  bool take(int64_t& batch, int64_t& first, int64_t& rows) {
    while (reading < opened && slot_of(reading).unread == 0) ++reading;
    if (reading >= opened) return false;
    Slot& slot = slot_of(reading);
    batch = reading;
    first = slot.batch.rows - slot.unread;
    rows = std::min(chunk, slot.unread);
    slot.unread -= rows;
    return true;
  }

  void run() {
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      int64_t batch = 0, first = 0, rows = 0;
      work.wait(lock, [&] { return stopping || take(batch, first, rows); });
      if (stopping) return;
      ++busy;
      Slot& slot = slot_of(batch);
      lock.unlock();
      int64_t row = first;
      std::exception_ptr error;
      try {
        for (; row < first + rows; ++row) read_row(slot, row);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      --busy;
      if (error && (!slot.error || row < slot.failed_row)) {
        slot.error = error;
        slot.failed_row = row;
      }
      slot.unfinished -= rows;
      if (slot.unfinished == 0 || busy == 0) ready.notify_all();
    }
  }

  void read_row(const Slot& slot, int64_t row) {
    const int32_t image = order[static_cast<size_t>(slot.global_row + row)];
    slot.batch.index.as<int32_t>()[row] = image;
    slot.batch.labels.as<int32_t>()[row] = data.labels[static_cast<size_t>(image)];
    data.read(image, slot.batch.pixels.as<uint8_t>() + row * image_bytes);
  }

  const DataSet& data;
  const Options options;
  int64_t image_bytes = 0, label_offset = 0, index_offset = 0, all_labels_offset = 0, slot_bytes = 0,
          chunk = 1;
  std::unique_ptr<std::byte, Release> memory;
  std::vector<Slot> slots;
  std::vector<std::thread> threads;

  std::mutex mutex;
  std::condition_variable work, ready;
  bool stopping = false, started = false, holding = false;
  int busy = 0;  // threads that are reading
  int64_t delivered = 0, opened = 0, reading = 0;
  std::vector<int32_t> order;
};

Loader::Loader(const DataSet& data, const Options& options) : impl_(std::make_unique<Impl>(data, options)) {
  for (int i = 0; i < options.threads; ++i)
    impl_->threads.emplace_back([impl = impl_.get()] { impl->run(); });
}

Loader::~Loader() = default;

void Loader::start(int64_t epoch, int64_t batch_index) {
  Impl& impl = *impl_;
  CONVOY_CHECK(epoch >= 0 && batch_index >= 0 && batch_index <= impl.batches(), "epoch ", epoch, ", batch ",
               batch_index, " of ", impl.batches());
  std::unique_lock<std::mutex> lock(impl.mutex);
  impl.opened = impl.reading = 0;  // nothing to take any more
  impl.ready.wait(lock, [&] { return impl.busy == 0; });
  impl.order = epoch_order(impl.data.count(), impl.options.seed, epoch, impl.options.shuffle);
  impl.started = true;
  impl.holding = false;
  impl.delivered = impl.opened = impl.reading = batch_index;
  impl.open_batches();
  lock.unlock();
  impl.work.notify_all();
}

const Batch* Loader::next() {
  Impl& impl = *impl_;
  std::unique_lock<std::mutex> lock(impl.mutex);
  CONVOY_CHECK(impl.started, "next() before start()");
  if (impl.holding) {  // the trainer is done with its last batch
    impl.holding = false;
    impl.open_batches();
    impl.work.notify_all();
  }
  if (impl.delivered == impl.batches()) return nullptr;
  Slot& slot = impl.slot_of(impl.delivered);
  impl.ready.wait(lock, [&] { return slot.unfinished == 0; });
  if (slot.error) std::rethrow_exception(slot.error);
  ++impl.delivered;
  impl.holding = true;
  return &slot.batch;
}

int64_t Loader::batches_per_epoch() const {
  return impl_->batches();
}
int64_t Loader::bytes() const {
  return impl_->bytes();
}

}  // namespace convoy
