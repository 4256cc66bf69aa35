// A training step allocates nothing after the second one: neither the operations nor the loader. Every way to
// memory of the C library is counted here, new and std containers included.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>

#include "convoy/train.h"

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CONVOY_COUNTS_ALLOCATIONS 1

namespace {
std::atomic<int64_t> allocations{0};
std::atomic<bool> counting{false};
void count() {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1, std::memory_order_relaxed);
}
}  // namespace

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) {
  count();
  return __libc_malloc(bytes);
}
void* calloc(size_t n, size_t bytes) {
  count();
  return __libc_calloc(n, bytes);
}
void* realloc(void* memory, size_t bytes) {
  count();
  return __libc_realloc(memory, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  count();
  return __libc_memalign(alignment, bytes);
}
}
#endif

namespace convoy {
namespace {

#ifdef CONVOY_COUNTS_ALLOCATIONS
class Allocation : public ::testing::TestWithParam<const char*> {};

TEST_P(Allocation, NoneAfterTheSecondStep) {
  DataOptions data_options;
  data_options.name = "synthetic:32x32x3:10";
  const DataSets data = load_data(data_options);
  const Net net = adapt_net(load_net(GetParam()), data.train.image, data.train.classes);
  ModelOptions options;
  options.augment = options.augment_flip = true;
  options.augment_pad = 4;
  options.normalization = data.normalization;
  options.optimizer.clip_norm = 5;
  Exec exec = cpu_exec(cpu_backend("auto"), 2);
  Model model = make_model(net, make_plan(net, 8), options, exec, {8}, {});
  Loader::Options loading;
  loading.batch = 8;
  Loader loader(data.train, loading);
  loader.start(0);
  for (int64_t step = 0; step < 6; ++step) {
    counting = step >= 2;
    const Batch* batch = loader.next();
    train_step(model, exec, *batch, {step, 0, 0.001f});
  }
  counting = false;
  EXPECT_EQ(allocations.load(), 0);
}

INSTANTIATE_TEST_SUITE_P(Nets, Allocation, ::testing::Values("cifar_cnn", "resnet18", "vgg16"),
                         [](const auto& p) { return std::string(p.param); });

TEST(AllocationCounter, Counts) {  // or the tests above could not fail
  counting = true;
  void* volatile memory = std::malloc(100);
  int* volatile number = new int(1);
  counting = false;
  std::free(memory);
  delete number;
  EXPECT_EQ(allocations.exchange(0), 2);
}
#else
TEST(Allocation, NoneAfterTheSecondStep) {
  GTEST_SKIP() << "needs glibc and no sanitizer";
}
#endif

}  // namespace
}  // namespace convoy
