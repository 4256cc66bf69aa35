// The Backend table of one CPU instruction set, and its memory.
#include "kernels/cpu.h"

#include <cstring>

#include "kernels/add.h"
#include "kernels/batchnorm.h"
#include "kernels/cast.h"
#include "kernels/columns.h"
#include "kernels/conv.h"
#include "kernels/cpu_queue.h"
#include "kernels/dropout.h"
#include "kernels/fc.h"
#include "kernels/fill.h"
#include "kernels/lrn.h"
#include "kernels/normalize.h"
#include "kernels/pool.h"
#include "kernels/relu.h"
#include "kernels/sgd.h"
#include "kernels/softmax.h"

namespace convoy::CONVOY_CPU {
namespace {

void copy(Exec&, void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

#define CONVOY_STRING(x) #x
#define CONVOY_NAME(x) CONVOY_STRING(x)

}  // namespace

const Backend kTable = {CONVOY_NAME(CONVOY_CPU),
                        true,
                        cpu_alloc,
                        cpu_release,
                        cpu_alloc,
                        cpu_release,
                        copy,
                        cpu_submit,
                        cpu_record,
                        cpu_wait,
                        cpu_synchronize,
#define CONVOY_ENTRY(name, Args) name, [](const Args& args, int threads) { return query(args, threads); },
                        CONVOY_OPERATIONS(CONVOY_ENTRY)
#undef CONVOY_ENTRY
};

}  // namespace convoy::CONVOY_CPU
