// synthetic:HxWxC:classes, for speed: every image is a window of one block of random bytes, so that reading
// costs a copy.
#include <cctype>
#include <cstring>

#include "convoy/philox.h"
#include "data_readers.h"

namespace convoy {
namespace {

constexpr uint32_t kSyntheticStream = kShapesStream + 16;  // apart from what `shapes` draws
constexpr int64_t kWindows = 4096;                         // different starts, hence different images

struct Spec {
  Input image;
  int64_t classes = 0;
};

Spec parse_spec(const std::string& name) {
  const auto refuse = [&name](const char* why) {
    input_error("--data ", name, ": ", why,
                "; want synthetic:HxWxC:classes such as synthetic:224x224x3:1000");
  };
  const std::string separators = "xx:";
  size_t at = std::strlen("synthetic:");
  int64_t value[4] = {};
  for (size_t i = 0; i < 4; ++i) {
    if (i > 0 && (at >= name.size() || name[at++] != separators[i - 1])) refuse("cannot be read");
    if (at >= name.size() || !std::isdigit(static_cast<unsigned char>(name[at])))
      refuse("a number is missing");
    for (; at < name.size() && std::isdigit(static_cast<unsigned char>(name[at])); ++at) {
      value[i] = 10 * value[i] + (name[at] - '0');
      if (value[i] > 1000000) refuse("a number is above 1000000");
    }
    if (value[i] < 1) refuse("a number is zero");
  }
  if (at != name.size()) refuse("text follows the classes");
  if (value[0] * value[1] > (1 << 26) || value[0] * value[1] * value[2] > (1 << 26))
    refuse("an image has more than 67108864 values");
  return {Input{value[0], value[1], value[2]}, value[3]};
}

DataSet make_set(const Spec& spec, const std::string& name, int64_t count, uint64_t seed, uint32_t part,
                 const std::shared_ptr<const std::vector<uint8_t>>& block) {
  DataSet set;
  set.name = name;
  set.image = spec.image;
  set.classes = spec.classes;
  set.class_names = numbered_classes(spec.classes);
  for (int64_t i = 0; i < count; ++i) {
    const Philox4 random = philox(seed, 0, static_cast<uint32_t>(i), part, kSyntheticStream);
    set.labels.push_back(static_cast<int32_t>(random.v[0] * static_cast<uint64_t>(spec.classes) >> 32));
  }
  const size_t bytes = static_cast<size_t>(spec.image.h * spec.image.w * spec.image.c);
  set.read = [seed, part, block, bytes](int64_t index, uint8_t* pixels) {
    const Philox4 random = philox(seed, 0, static_cast<uint32_t>(index), part, kSyntheticStream);
    std::memcpy(pixels, block->data() + random.v[1] % kWindows, bytes);
  };
  return set;
}

}  // namespace

DataSets load_synthetic(const DataOptions& options) {
  const Spec spec = parse_spec(options.name);
  const int64_t bytes = spec.image.h * spec.image.w * spec.image.c + kWindows;
  auto block = std::make_shared<std::vector<uint8_t>>(static_cast<size_t>(bytes + 15));
  for (int64_t i = 0; i < bytes; i += 16) {
    const Philox4 random = philox(options.seed, static_cast<uint32_t>(i / 16), 0, 2, kSyntheticStream);
    std::memcpy(block->data() + i, random.v, 16);
  }
  DataSets sets;
  sets.train = make_set(spec, "synthetic train", 10240, options.seed, 0, block);
  sets.test = make_set(spec, "synthetic test", 1024, options.seed, 1, block);
  // Uniform on 0..255: variance (256^2 - 1) / 12.
  sets.normalization.mean.assign(static_cast<size_t>(spec.image.c), 0.5f);
  sets.normalization.stddev.assign(static_cast<size_t>(spec.image.c), 0.28980f);
  return sets;
}

}  // namespace convoy
