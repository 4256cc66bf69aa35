// Reading a checkpoint: any bytes end in a loaded net or in an InputError of one line.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "convoy/checkpoint.h"

namespace {

using namespace convoy;

// A file that lives in memory; its path is good as long as it is open.
int memory_file() {
  static const int fd = memfd_create("fuzz", MFD_CLOEXEC);
  return fd;
}

struct FuzzNet {
  Net net = parse_net("input 4x2x2\nfeatures.0: conv 2 3x3 pad 1\nfeatures.1: bn\nclassifier.0: fc 3\n",
                      "fuzz.net");
  std::vector<std::vector<float>> arrays;
  HostTensors tensors;

  FuzzNet() {
    tensors.state.resize(1);
    tensors.state[0].kind = "momentum";
    for (const ParameterSpec& spec : parameters(net)) {
      tensors.values.push_back(make(spec));
      tensors.state[0].values.push_back(spec.buffer() ? nullptr : make(spec));
    }
  }
  float* make(const ParameterSpec& spec) {
    arrays.emplace_back(static_cast<size_t>(spec.shape.count()), 0.0f);
    return arrays.back().data();
  }
};

template <class Read>
void attempt(const Read& read) {
  try {
    read();
  } catch (const InputError& error) {
    for (const char* c = error.what(); *c != '\0'; ++c) CONVOY_CHECK(*c >= 0x20 && *c < 0x7f, error.what());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
  static FuzzNet fuzz;
  const int fd = memory_file();
  if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, bytes, 0) != static_cast<ssize_t>(bytes))
    std::abort();
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  attempt([&] {
    const TensorFile file(path);
    attempt([&] { file.verify(); });
    attempt([&] { read_record(file); });
    HostTensors weights = fuzz.tensors;
    weights.state.clear();
    attempt([&] { load_parameters(file, fuzz.net, weights); });
    attempt([&] { load_parameters(file, fuzz.net, fuzz.tensors, LoadOptions{true}); });
  });
  return 0;
}
