// The JSON header, read as a stream of events: memory grows with tensors only, and no nesting is followed
// that the format does not have.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "convoy/check.h"
#include "safetensors_format.h"

namespace convoy {
namespace {

constexpr size_t kMaxRank = 64;          // PyTorch's
constexpr size_t kMaxEntries = 1 << 17;  // far more than any net's; what a hostile file could make us keep

class HeaderEvents {
 public:
  HeaderEvents(FileHeader& header, const std::string& file, int64_t data_begin, int64_t data_bytes)
      : header_(header), file_(file), data_begin_(data_begin), data_bytes_(data_bytes) {}

  bool key(std::string& name) {
    if (place_ == kRoot) {
      name_ = name;
    } else {
      field_ = name;
    }
    return true;
  }
  bool start_object(size_t) {
    if (place_ == kStart) {
      place_ = kRoot;
    } else if (place_ == kRoot && name_ == "__metadata__") {
      if (has_metadata_) fail("__metadata__ stands twice");
      has_metadata_ = true;
      place_ = kMetadata;
    } else if (place_ == kRoot) {
      tensor_ = StoredTensor();
      tensor_.name = name_;
      has_dtype_ = has_shape_ = false;
      offsets_.clear();
      place_ = kTensor;
    } else {
      unexpected("an object");
    }
    return true;
  }
  bool end_object() {
    if (place_ == kTensor) add_tensor();
    place_ = place_ == kRoot ? kStart : kRoot;
    return true;
  }
  bool start_array(size_t) {
    if (place_ == kTensor && field_ == "shape" && !has_shape_) {
      has_shape_ = true;
      place_ = kShape;
    } else if (place_ == kTensor && field_ == "data_offsets" && offsets_.empty()) {
      place_ = kOffsets;
    } else {
      unexpected("a list");
    }
    return true;
  }
  bool end_array() {
    if (place_ == kOffsets && offsets_.size() != 2) {
      fail_tensor(text("data_offsets has ", offsets_.size(), " entries, not 2"));
    }
    place_ = kTensor;
    return true;
  }
  bool string(std::string& value) {
    if (place_ == kMetadata) {
      if (header_.metadata.size() == kMaxEntries)
        fail(text("__metadata__ has more than ", kMaxEntries, " entries"));
      if (!header_.metadata.emplace(field_, value).second) {
        fail(text("__metadata__ has ", printable(field_), " twice"));
      }
    } else if (place_ == kTensor && field_ == "dtype" && !has_dtype_) {
      has_dtype_ = true;
      tensor_.dtype = value;
    } else {
      unexpected("a text");
    }
    return true;
  }
  bool number_unsigned(uint64_t value) {
    if (place_ != kShape && place_ != kOffsets) unexpected("a number");
    if (value > static_cast<uint64_t>(INT64_MAX))
      fail_tensor(text(field_, " holds ", value, ", which is too large"));
    std::vector<int64_t>& list = place_ == kShape ? tensor_.shape : offsets_;
    if (list.size() == (place_ == kShape ? kMaxRank : 2)) fail_tensor(text(field_, " has too many entries"));
    list.push_back(static_cast<int64_t>(value));
    return true;
  }
  bool number_integer(int64_t value) {  // only called for a number with a minus sign
    if (place_ != kShape && place_ != kOffsets) unexpected("a number");
    fail_tensor(text(field_, " holds ", value, ", which is negative"));
  }
  bool number_float(double, const std::string&) {
    if (place_ != kShape && place_ != kOffsets) unexpected("a number");
    fail_tensor(text(field_, " holds a number that is not whole, or too large"));
  }
  bool null() { unexpected("null"); }
  bool boolean(bool) { unexpected("true or false"); }
  bool binary(std::vector<uint8_t>&) { unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&, const std::exception&) {
    fail(text("the header is not valid JSON at its byte ", position,
              ": the file is damaged or not a safetensors file"));
  }

 private:
  enum Place { kStart, kRoot, kMetadata, kTensor, kShape, kOffsets };

  [[noreturn]] void fail(const std::string& what) { input_error(file_, ": ", what); }
  [[noreturn]] void fail_tensor(const std::string& what) {
    input_error(file_, ": tensor ", printable(name_), ": ", what);
  }
  [[noreturn]] void unexpected(const char* value) {
    switch (place_) {
      case kStart:
        fail(text("the header is ", value, ", not an object"));
      case kRoot:
        fail(text("the header's ", printable(name_), " is ", value, ", not an object"));
      case kMetadata:
        fail(text("__metadata__ ", printable(field_), " is ", value, ", not a text"));
      case kShape:
      case kOffsets:
        fail_tensor(text(field_, " holds ", value, ", not a whole number"));
      case kTensor:
        break;
    }
    const bool known = field_ == "dtype" || field_ == "shape" || field_ == "data_offsets";
    if (!known) fail_tensor(text("unknown field ", printable(field_)));
    const bool twice = field_ == "dtype" ? has_dtype_ : field_ == "shape" ? has_shape_ : !offsets_.empty();
    if (twice) fail_tensor(text(field_, " stands twice"));
    fail_tensor(text(field_, " is ", value, ", not ", field_ == "dtype" ? "a text" : "a list"));
  }

  void add_tensor() {
    if (header_.tensors.size() == kMaxEntries) fail(text("more than ", kMaxEntries, " tensors"));
    if (!has_dtype_) fail_tensor("dtype is missing");
    if (!has_shape_) fail_tensor("shape is missing");
    if (offsets_.size() != 2) fail_tensor("data_offsets is missing");
    const int64_t element = file_dtype_bytes(tensor_.dtype);
    if (element == 0) fail_tensor(text("unknown dtype ", printable(tensor_.dtype)));
    int64_t bytes = element;
    for (const int64_t extent : tensor_.shape) {
      if (__builtin_mul_overflow(bytes, extent, &bytes)) {
        fail_tensor(text("shape ", extents_text(tensor_.shape), " overflows"));
      }
    }
    const int64_t begin = offsets_[0], end = offsets_[1];
    if (begin > end) fail_tensor(text("data_offsets end before they begin: ", extents_text(offsets_)));
    if (end > data_bytes_) {
      fail_tensor(
          text("its data ends at byte ", end, " of ", data_bytes_, ": the file is cut short or damaged"));
    }
    if (end - begin != bytes) {
      fail_tensor(text(tensor_.dtype, " ", extents_text(tensor_.shape), " takes ", bytes,
                       " bytes, data_offsets give ", end - begin));
    }
    tensor_.offset = data_begin_ + begin;
    tensor_.bytes = bytes;
    header_.tensors.push_back(std::move(tensor_));
  }

  FileHeader& header_;
  const std::string& file_;
  const int64_t data_begin_, data_bytes_;
  Place place_ = kStart;
  bool has_metadata_ = false, has_dtype_ = false, has_shape_ = false;
  std::string name_, field_;
  StoredTensor tensor_;
  std::vector<int64_t> offsets_;
};

// Neighbours in the data must touch: neither overlap nor gap, from its first byte to its last.
void check_cover(std::vector<StoredTensor>& tensors, const std::string& file, int64_t data_begin,
                 int64_t data_bytes) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  int64_t end = data_begin;
  for (const StoredTensor& tensor : tensors) {
    if (tensor.offset < end) {
      input_error(file, ": tensor ", printable(tensor.name), ": its data overlaps another tensor's");
    }
    if (tensor.offset > end) {
      input_error(file, ": ", tensor.offset - end, " bytes before tensor ", printable(tensor.name),
                  " belong to no tensor");
    }
    end += tensor.bytes;
  }
  if (end != data_begin + data_bytes) {
    input_error(file, ": the tensors end ", data_begin + data_bytes - end, " bytes before the file does");
  }
}

}  // namespace

FileHeader parse_header(const std::string& json, const std::string& file, int64_t data_begin,
                        int64_t data_bytes) {
  FileHeader header;
  HeaderEvents events(header, file, data_begin, data_bytes);
  const size_t nul = json.find('\0');  // the parser would take it for the end
  if (nul != std::string::npos) events.parse_error(nul + 1, "", Error(""));
  nlohmann::json::sax_parse(json, &events);
  std::vector<StoredTensor>& tensors = header.tensors;
  check_cover(tensors, file, data_begin, data_bytes);
  std::sort(tensors.begin(), tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  for (size_t i = 1; i < tensors.size(); ++i) {
    if (tensors[i - 1].name == tensors[i].name) {
      input_error(file, ": tensor ", printable(tensors[i].name), " stands twice");
    }
  }
  return header;
}

}  // namespace convoy
