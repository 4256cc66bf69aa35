#include <zlib.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "atomic_file.h"
#include "convoy/check.h"
#include "convoy/safetensors.h"
#include "safetensors_format.h"

namespace convoy {
namespace {

constexpr size_t kAlignment = 64;  // of the first byte of data

// JSON is UTF-8; a folder's name need not be. What is not gets the replacement character.
std::string as_utf8(const std::string& value) {
  using Json = nlohmann::json;
  return Json::parse(Json(value).dump(-1, ' ', false, Json::error_handler_t::replace)).get<std::string>();
}

// The length, the JSON, and spaces up to the alignment.
std::string header_text(const std::vector<StoredTensor>& in_order,
                        const std::map<std::string, std::string>& metadata) {
  std::string out = "{\"__metadata__\":" + nlohmann::json(metadata).dump();
  for (const StoredTensor& tensor : in_order) {
    nlohmann::ordered_json entry;
    entry["dtype"] = tensor.dtype;
    entry["shape"] = tensor.shape;
    entry["data_offsets"] = {tensor.offset, tensor.offset + tensor.bytes};
    out += "," + nlohmann::json(tensor.name).dump() + ":" + entry.dump();
  }
  out += "}";
  out.resize((8 + out.size() + kAlignment - 1) / kAlignment * kAlignment - 8, ' ');
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(out.size() >> (8 * i) & 0xff);
  return length + out;
}

// Large elements first, so that every tensor is aligned to its element (the format's own order); then by
// name.
std::vector<const TensorSource*> file_order(const std::vector<TensorSource>& tensors) {
  std::vector<const TensorSource*> order;
  order.reserve(tensors.size());
  for (const TensorSource& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorSource* a, const TensorSource* b) {
    const int64_t bytes_a = file_dtype_bytes(a->dtype), bytes_b = file_dtype_bytes(b->dtype);
    return bytes_a != bytes_b ? bytes_a > bytes_b : a->name < b->name;
  });
  return order;
}

uint32_t write_tensor(AtomicFile& out, const TensorSource& source, int64_t offset, int64_t bytes,
                      std::vector<char>& buffer) {
  const int64_t element = file_dtype_bytes(source.dtype);
  uLong crc = crc32_z(0, nullptr, 0);
  for (int64_t done = 0; done < bytes;) {
    const int64_t part = std::min(static_cast<int64_t>(buffer.size()), bytes - done);
    source.fill(done / element, part / element, buffer.data());
    crc = crc32_z(crc, reinterpret_cast<const Bytef*>(buffer.data()), static_cast<size_t>(part));
    out.write(offset + done, buffer.data(), part);
    done += part;
  }
  return static_cast<uint32_t>(crc);
}

}  // namespace

void write_safetensors(const std::string& path, const std::vector<TensorSource>& tensors,
                       std::map<std::string, std::string> metadata) {
  const std::vector<const TensorSource*> order = file_order(tensors);
  std::vector<StoredTensor> stored;
  int64_t end = 0;
  for (auto& [key, value] : metadata) value = as_utf8(value);
  metadata[kChecksumKey] = checksum_text(0);  // the header's size is known before the checksums are
  for (const TensorSource* source : order) {
    const int64_t element = file_dtype_bytes(source->dtype);
    CONVOY_CHECK(element > 0 && source->name != "__metadata__", source->name, " ", source->dtype);
    int64_t bytes = element;
    for (const int64_t extent : source->shape) bytes = checked_product(bytes, extent, "a tensor's size");
    stored.push_back({source->name, source->dtype, source->shape, end, bytes});
    end = checked_sum(end, bytes, "the file's size");
    CONVOY_CHECK(metadata.emplace(checksum_key(source->name), checksum_text(0)).second, source->name,
                 " twice");
  }
  const int64_t data_begin = static_cast<int64_t>(header_text(stored, metadata).size());
  CONVOY_CHECK(data_begin - 8 <= kMaxHeaderBytes, "the header takes ", data_begin, " bytes");

  AtomicFile out(path);
  std::vector<char> buffer(static_cast<size_t>(std::min(TensorFile::kPartBytes, std::max<int64_t>(end, 8))));
  for (size_t i = 0; i < order.size(); ++i) {
    const uint32_t crc = write_tensor(out, *order[i], data_begin + stored[i].offset, stored[i].bytes, buffer);
    metadata[checksum_key(order[i]->name)] = checksum_text(crc);
  }
  FileHeader header{stored, metadata};
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  metadata[kChecksumKey] = checksum_text(header_checksum(header, 0));
  const std::string head = header_text(stored, metadata);
  CONVOY_CHECK(static_cast<int64_t>(head.size()) == data_begin, head.size(), " bytes");
  out.write(0, head.data(), data_begin);
  out.commit();
}

}  // namespace convoy
