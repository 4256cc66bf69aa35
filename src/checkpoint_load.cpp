#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>

#include "checkpoint_names.h"
#include "convoy/checkpoint.h"
#include "safetensors_format.h"

namespace convoy {
namespace {

struct Target {
  const StoredTensor* stored = nullptr;
  FileLayout layout;
  float* values = nullptr;
  RowRange own;           // the rows that `values` holds
  bool variance = false;  // never negative
};

float from_bf16(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value = 0;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

float from_f16(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return mantissa ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -24);
  return sign * std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
}

template <class Element, class Convert>
void convert(const char* data, std::vector<float>& to, const Convert& to_float) {
  for (size_t i = 0; i < to.size(); ++i) {
    Element element;
    std::memcpy(&element, data + i * sizeof element, sizeof element);
    to[i] = to_float(element);
  }
}

void to_floats(const std::string& dtype, const char* data, std::vector<float>& to) {
  if (dtype == "F32") {
    if (!to.empty()) std::memcpy(to.data(), data, to.size() * sizeof(float));
  } else if (dtype == "F64") {
    convert<double>(data, to,
                    [](double v) { return std::abs(v) > 3.4028235e38 ? NAN : static_cast<float>(v); });
  } else if (dtype == "F16") {
    convert<uint16_t>(data, to, from_f16);
  } else {
    convert<uint16_t>(data, to, from_bf16);
  }
}

bool is_float(const std::string& dtype) {
  return dtype == "F32" || dtype == "F64" || dtype == "F16" || dtype == "BF16";
}

bool ends_with(const std::string& name, const std::string& end) {
  return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
}

// "'a', 'b', 'c' and 5 more"
std::string list_text(const std::vector<std::string>& names) {
  constexpr size_t kShown = 3;
  std::string out;
  for (size_t i = 0; i < names.size() && i < kShown; ++i) out += (i ? ", " : "") + printable(names[i]);
  return names.size() > kShown ? text(out, " and ", names.size() - kShown, " more") : out;
}

void check_names(const TensorFile& file, const Net& net, const std::set<std::string>& wanted) {
  std::vector<std::string> missing, unexpected;
  for (const std::string& name : wanted) {
    if (file.find(name) == nullptr) missing.push_back(name);
  }
  for (const StoredTensor& tensor : file.tensors()) {
    const bool passed_over = tensor.name.compare(0, std::strlen(kStatePrefix), kStatePrefix) == 0 ||
                             ends_with(tensor.name, text(".", kBatchCount));
    if (!passed_over && wanted.count(tensor.name) == 0) unexpected.push_back(tensor.name);
  }
  if (missing.empty() && unexpected.empty()) return;
  input_error(file.path(), ": does not fit the net ", printable(net.name), ":",
              missing.empty() ? "" : text(" tensors that are missing: ", list_text(missing)),
              missing.empty() || unexpected.empty() ? "" : ";",
              unexpected.empty() ? "" : text(" tensors that the net does not have: ", list_text(unexpected)));
}

bool only_outputs_differ(const std::vector<int64_t>& a, const std::vector<int64_t>& b) {
  return a.size() == b.size() && !a.empty() && a[0] != b[0] &&
         std::equal(a.begin() + 1, a.end(), b.begin() + 1);
}

bool good_value(const Target& target, float value) {
  return std::isfinite(value) && !(target.variance && value < 0);
}

// `index` in the file's order.
[[noreturn]] void report_bad_value(const TensorFile& file, const Target& target, int64_t index, float value) {
  std::vector<int64_t> place(target.layout.shape.size());
  int64_t rest = index;
  for (size_t i = place.size(); i-- > 0;) {
    place[i] = rest % target.layout.shape[i];
    rest /= target.layout.shape[i];
  }
  input_error(file.path(), ": tensor ", printable(target.stored->name), " holds ", value, " at ",
              extents_text(place),
              std::isfinite(value) ? ": a variance is never negative" : ": the weights are of no use");
}

void load_tensor(const TensorFile& file, const Target& target) {
  const StoredTensor& stored = *target.stored;
  const int64_t element = file_dtype_bytes(stored.dtype);
  const int64_t own_first = target.own.first * target.layout.row();
  const int64_t own_end = target.own.end() * target.layout.row();
  std::vector<float> values;
  int64_t done = 0, bad = -1;
  float bad_value = 0;
  file.read(stored, [&](const char* data, int64_t bytes) {
    const int64_t count = bytes / element;
    values.resize(static_cast<size_t>(count));
    to_floats(stored.dtype, data, values);
    for (size_t i = 0; i < values.size() && bad < 0; ++i) {
      if (good_value(target, values[i])) continue;
      bad = done + static_cast<int64_t>(i);
      bad_value = values[i];
    }
    const int64_t begin = std::clamp<int64_t>(own_first - done, 0, count);
    const int64_t end = std::clamp<int64_t>(own_end - done, 0, count);
    if (begin < end)
      from_file_order(target.layout, values.data() + begin, done + begin - own_first, end - begin,
                      target.values);
    done += count;
  });
  // After the checksum, which explains a damaged value better.
  if (bad >= 0) report_bad_value(file, target, bad, bad_value);
}

}  // namespace

LoadReport load_parameters(const TensorFile& file, const Net& net, const HostTensors& to,
                           const LoadOptions& options) {
  const std::vector<ParameterSpec> specs = parameters(net);
  const std::vector<FileLayout> layouts = file_layouts(net);
  CONVOY_CHECK(to.values.size() == specs.size(), to.values.size(), " tensors for ", specs.size());
  CONVOY_CHECK(to.own.empty() || to.own.size() == specs.size(), to.own.size(), " for ", specs.size());
  std::map<std::string, Target> targets;
  int last_layer = 0;
  for (size_t i = 0; i < specs.size(); ++i) {
    const RowRange own = to.own.empty() ? RowRange{0, specs[i].shape[0]} : to.own[i];
    targets[specs[i].name] = {nullptr, layouts[i], to.values[i], own,
                              specs[i].role == ParameterSpec::kRunningVar};
    if (specs[i].role == ParameterSpec::kWeight) last_layer = std::max(last_layer, specs[i].layer);
    for (const HostTensors::State& state : to.state) {
      if (specs[i].buffer()) continue;
      targets[state_name(state.kind, specs[i])] = {nullptr, layouts[i], state.values[i], own,
                                                   state.kind == "v"};
    }
  }
  std::set<std::string> wanted;
  for (const auto& [name, target] : targets) wanted.insert(name);
  check_names(file, net, wanted);

  LoadReport report;
  for (size_t i = 0; i < specs.size(); ++i) {
    if (!options.other_classes || specs[i].layer != last_layer || specs[i].role != ParameterSpec::kWeight)
      continue;
    report.last_layer_kept = only_outputs_differ(file.find(specs[i].name)->shape, layouts[i].shape);
  }
  for (size_t i = 0; i < specs.size() && report.last_layer_kept; ++i) {
    if (specs[i].layer == last_layer) targets.erase(specs[i].name);
  }
  for (auto& [name, target] : targets) {
    target.stored = file.find(name);
    if (target.stored->shape != target.layout.shape) {
      input_error(file.path(), ": tensor ", printable(name), " is ", extents_text(target.stored->shape),
                  ", the net ", printable(net.name), " needs ", extents_text(target.layout.shape));
    }
    if (!is_float(target.stored->dtype)) {
      input_error(file.path(), ": tensor ", printable(name), " is ", target.stored->dtype,
                  ", not F32, F16, BF16 or F64: save the model in one of these");
    }
  }
  for (const auto& [name, target] : targets) load_tensor(file, target);
  return report;
}

}  // namespace convoy
