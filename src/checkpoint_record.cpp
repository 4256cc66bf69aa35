// The training record as metadata. Numbers are text: whole ones decimal, real ones hexadecimal ("0x1.8p+1"),
// exactly.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "convoy/checkpoint.h"
#include "safetensors_format.h"

namespace convoy {
namespace {

constexpr int kFormat = 1;
const std::string kPrefix = "convoy.";
const std::string kSettingPrefix = "convoy.setting.";
constexpr int64_t kMaxExtent = 1 << 20;

std::string real_text(double value) {
  char digits[40];
  std::snprintf(digits, sizeof digits, "%a", value);
  return digits;
}

std::string reals_text(const std::vector<float>& values) {
  std::string out;
  for (const float value : values) out += (out.empty() ? "" : " ") + real_text(value);
  return out;
}

// Reads the fields of one file's record.
struct Fields {
  const TensorFile& file;

  [[noreturn]] void fail(const std::string& name, const std::string& what) const {
    input_error(file.path(), ": ", kPrefix, name, " ", what, ": the file is damaged or not one of Convoy's");
  }
  const std::string& word(const std::string& name) const {
    const auto found = file.metadata().find(kPrefix + name);
    if (found == file.metadata().end()) fail(name, "is missing");
    return found->second;
  }
  template <class Whole>
  Whole whole(const std::string& name, Whole min, Whole max) const {
    const std::string& value = word(name);
    Whole number = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error == std::errc::result_out_of_range) fail(name, text("is out of range: ", printable(value)));
    if (error != std::errc() || end != value.data() + value.size()) {
      fail(name, text("is not a whole number: ", printable(value)));
    }
    if (number < min || number > max) fail(name, text("is ", number, ", not from ", min, " to ", max));
    return number;
  }
  double real(const std::string& name, const std::string& value) const {
    char* end = nullptr;
    const bool odd =
        value.empty() || value.find_first_not_of("0123456789-") == 0;  // strtod would skip spaces
    const double number = std::strtod(value.c_str(), &end);
    if (odd || end != value.c_str() + value.size() || !std::isfinite(number)) {
      fail(name, text("is not a finite number: ", printable(value)));
    }
    return number;
  }
  std::vector<float> reals(const std::string& name, size_t count) const {
    const std::string& value = word(name);
    std::vector<float> numbers;
    for (size_t begin = 0; begin < value.size();) {
      const size_t end = std::min(value.find(' ', begin), value.size());
      const double number = real(name, value.substr(begin, end - begin));
      if (std::abs(number) > 3e38) fail(name, text("is out of range: ", number));
      numbers.push_back(static_cast<float>(number));
      begin = end + 1;
    }
    if (!numbers.empty() && numbers.size() != count) {
      fail(name, text("has ", numbers.size(), " numbers for ", count, " channels"));
    }
    return numbers;
  }
  std::vector<std::string> words(const std::string& name) const {
    using Json = nlohmann::json;
    std::vector<std::string> list;
    bool whole = false;
    try {
      whole = Json::parse(word(name), [&](int depth, Json::parse_event_t event, Json& value) {
                using Event = Json::parse_event_t;
                if (depth == 0 && event == Event::array_start) return true;
                if (depth == 0 && event == Event::array_end) return true;
                if (depth != 1 || event != Event::value || !value.is_string())
                  throw std::invalid_argument("");
                list.push_back(value.get<std::string>());
                return false;  // not kept twice
              }).is_array();
    } catch (const std::invalid_argument&) {
      whole = false;
    } catch (const Json::exception&) {
      whole = false;
    }
    if (!whole) fail(name, "is not a list of texts");
    return list;
  }
};

}  // namespace

std::map<std::string, std::string> record_metadata(const TrainingRecord& record) {
  using Json = nlohmann::json;
  std::map<std::string, std::string> out;
  out["format"] = "pt";  // what PyTorch's own programs write and some ask for
  const auto put = [&out](const std::string& name, const std::string& value) { out[kPrefix + name] = value; };
  put("format", std::to_string(kFormat));
  put("net", record.net_name);
  put("net_text", record.net_text);
  put("input_h", std::to_string(record.input.h));
  put("input_w", std::to_string(record.input.w));
  put("input_c", std::to_string(record.input.c));
  put("classes", Json(record.class_names).dump(-1, ' ', false, Json::error_handler_t::replace));
  put("mean", reals_text(record.normalization.mean));
  put("stddev", reals_text(record.normalization.stddev));
  put("optimizer", record.optimizer == OptimizerKind::kSgd ? "sgd" : "adamw");
  put("seed", std::to_string(record.seed));
  put("world", std::to_string(record.world));
  put("step", std::to_string(record.step));
  put("fc_updates", std::to_string(record.fc_updates));
  put("loss_scale", real_text(static_cast<double>(record.loss_scale.scale)));
  put("loss_scale_steps", std::to_string(record.loss_scale.good_steps));
  put("epoch", std::to_string(record.epoch));
  put("batch_in_epoch", std::to_string(record.batch_in_epoch));
  put("epoch_loss", real_text(record.epoch_so_far.loss));
  put("epoch_correct", std::to_string(record.epoch_so_far.correct));
  put("epoch_rows", std::to_string(record.epoch_so_far.rows));
  put("best_accuracy", real_text(record.best_accuracy));
  for (const auto& [name, value] : record.settings) out[kSettingPrefix + name] = value;
  return out;
}

bool has_record(const TensorFile& file) {
  const auto first = file.metadata().lower_bound(kPrefix);
  return first != file.metadata().end() && first->first.compare(0, kPrefix.size(), kPrefix) == 0;
}

TrainingRecord read_record(const TensorFile& file) {
  if (!has_record(file)) {
    input_error(file.path(),
                ": holds weights but no training record: give it to --init, or a checkpoint of Convoy's");
  }
  const Fields fields{file};
  const auto format = fields.whole<int64_t>("format", 1, INT64_MAX);
  if (format != kFormat) {
    input_error(file.path(), ": written by a newer Convoy (format ", format, ", this one reads ", kFormat,
                ")");
  }
  if (file.metadata().count(kChecksumKey) == 0)
    input_error(file.path(), ": its checksum is missing: the file is damaged");

  TrainingRecord record;
  record.net_name = fields.word("net");
  record.net_text = fields.word("net_text");
  record.input.h = fields.whole<int64_t>("input_h", 1, kMaxExtent);
  record.input.w = fields.whole<int64_t>("input_w", 1, kMaxExtent);
  record.input.c = fields.whole<int64_t>("input_c", 1, kMaxExtent);
  record.class_names = fields.words("classes");
  const auto channels = static_cast<size_t>(record.input.c);
  record.normalization.mean = fields.reals("mean", channels);
  record.normalization.stddev = fields.reals("stddev", channels);
  if (record.normalization.mean.size() != record.normalization.stddev.size())
    fields.fail("stddev", "does not fit mean");
  for (const float deviation : record.normalization.stddev) {
    if (!(deviation > 0)) fields.fail("stddev", text("is ", deviation, ", not positive"));
  }
  const std::string& optimizer = fields.word("optimizer");
  if (optimizer != "sgd" && optimizer != "adamw") {
    fields.fail("optimizer", text("is ", printable(optimizer), ", not sgd or adamw"));
  }
  record.optimizer = optimizer == "sgd" ? OptimizerKind::kSgd : OptimizerKind::kAdamw;
  record.seed = fields.whole<uint64_t>("seed", 0, UINT64_MAX);
  record.world = fields.whole<int64_t>("world", 1, INT32_MAX);
  record.step = fields.whole<int64_t>("step", 0, INT64_MAX);
  const bool counted = file.metadata().count(kPrefix + "fc_updates") > 0;  // not by versions for one worker
  if (file.metadata().count(kPrefix + "loss_scale") > 0) {                 // not by versions without f16
    const double scale = fields.real("loss_scale", fields.word("loss_scale"));
    if (!(scale >= 1 && scale <= 16777216)) fields.fail("loss_scale", text("is out of range: ", scale));
    record.loss_scale.scale = static_cast<float>(scale);
    record.loss_scale.good_steps = fields.whole<int64_t>("loss_scale_steps", 0, LossScale::kRaiseAfter - 1);
  }
  record.fc_updates = counted ? fields.whole<int64_t>("fc_updates", 0, INT64_MAX) : record.step;
  record.epoch = fields.whole<int64_t>("epoch", 0, INT64_MAX);
  record.batch_in_epoch = fields.whole<int64_t>("batch_in_epoch", 0, INT64_MAX);
  record.epoch_so_far.loss = fields.real("epoch_loss", fields.word("epoch_loss"));
  record.epoch_so_far.rows = fields.whole<int64_t>("epoch_rows", 0, INT64_MAX);
  record.epoch_so_far.correct = fields.whole<int64_t>("epoch_correct", 0, record.epoch_so_far.rows);
  record.best_accuracy = fields.real("best_accuracy", fields.word("best_accuracy"));
  if (record.best_accuracy != -1 && !(record.best_accuracy >= 0 && record.best_accuracy <= 1)) {
    fields.fail("best_accuracy", text("is ", record.best_accuracy, ", not a fraction"));
  }
  for (auto it = file.metadata().lower_bound(kSettingPrefix);
       it != file.metadata().end() && it->first.compare(0, kSettingPrefix.size(), kSettingPrefix) == 0;
       ++it) {
    record.settings[it->first.substr(kSettingPrefix.size())] = it->second;
  }
  return record;
}

}  // namespace convoy
