#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>

#include "convoy/data.h"

// Every allocation of this program is counted.
namespace {
std::atomic<int64_t> allocations{0};
}
void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace convoy {
namespace {

TEST(Loader, AllocatesNothingBetweenStarts) {
  DataSet set;
  set.image = Input{2, 3, 1};
  set.classes = 1;
  set.labels.assign(5000, 0);
  set.read = [](int64_t index, uint8_t* pixels) { std::memset(pixels, static_cast<int>(index % 256), 6); };
  Loader::Options options;
  options.batch = 10;
  options.threads = 2;
  for (const int world : {1, 3}) {
    options.world = world;
    options.rank = world - 1;
    Loader loader(set, options);
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
      loader.start(epoch);
      loader.next();
      const int64_t before = allocations;
      while (loader.next()) {
      }
      EXPECT_EQ(allocations - before, 0);
    }
  }
}

}  // namespace
}  // namespace convoy
