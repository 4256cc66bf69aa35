#include <zlib.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "data_readers.h"

namespace convoy {
namespace {

constexpr int64_t kMaxSide = 4096;

// Fills in count, h, w from the header; returns the bytes of header and elements together.
int64_t parse_header(const uint8_t* header, const std::string& name, int extents, Idx& idx) {
  const auto word = [header](int64_t i) {
    const uint8_t* p = header + 4 * i;
    return int64_t{p[0]} << 24 | int64_t{p[1]} << 16 | int64_t{p[2]} << 8 | int64_t{p[3]};
  };
  const int64_t magic = 0x800 + extents;
  if (word(0) != magic)
    input_error(name, ": offset 0: the magic number is ", word(0), ", want ", magic, " (IDX with ",
                extents == 3 ? "images" : "labels", "): this is another kind of file");
  idx.count = word(1);
  if (idx.count < 1 || idx.count > INT_MAX) input_error(name, ": offset 4: declares ", idx.count, " entries");
  if (extents == 3) {
    idx.h = word(2);
    idx.w = word(3);
    if (idx.h < 1 || idx.w < 1 || idx.h > kMaxSide || idx.w > kMaxSide)
      input_error(name, ": offset 8: declares images of ", idx.h, "x", idx.w, ", want sides of 1 to ",
                  kMaxSide);
  }
  return 4 + 4 * extents + idx.count * idx.h * idx.w;  // below 2^56
}

struct Inflate {
  z_stream z{};
  explicit Inflate(const std::vector<uint8_t>& file) {
    CONVOY_CHECK(inflateInit2(&z, 16 + MAX_WBITS) == Z_OK, "zlib: no memory");
    z.next_in = const_cast<Bytef*>(file.data());
    z.avail_in = static_cast<uInt>(file.size());
  }
  ~Inflate() { inflateEnd(&z); }
  Inflate(const Inflate&) = delete;
  Inflate& operator=(const Inflate&) = delete;

  // Up to `count` bytes; fewer at the end of the stream. Throws for data that are no gzip stream or end
  // early.
  int64_t read(uint8_t* out, int64_t count, const std::string& name) {
    z.next_out = out;
    z.avail_out = static_cast<uInt>(count);
    while (z.avail_out > 0 && !ended_) {
      const int status = inflate(&z, Z_NO_FLUSH);
      ended_ = status == Z_STREAM_END;
      if (status == Z_BUF_ERROR) input_error(name, ": the gzip file ends early (truncated download?)");
      if (status != Z_OK && !ended_)
        input_error(name, ": offset ", z.total_in, ": broken gzip data", z.msg ? text(": ", z.msg) : "");
    }
    return count - z.avail_out;
  }
  bool ended_ = false;
};

std::vector<uint8_t> gunzip_idx(const std::vector<uint8_t>& file, const std::string& name, int extents,
                                Idx& idx) {
  constexpr int64_t kGzipBytes = 18;  // header and trailer
  const int64_t file_bytes = static_cast<int64_t>(file.size());
  if (file_bytes < kGzipBytes) input_error(name, ": the gzip file ends early: ", file_bytes, " bytes");
  Inflate stream(file);
  const int64_t header_bytes = 4 + 4 * extents;
  uint8_t header[16];
  const int64_t got = stream.read(header, header_bytes, name);
  if (got < header_bytes)
    input_error(name, ": ends at byte ", got, " of its header of ", header_bytes, " bytes");
  const int64_t want = parse_header(header, name, extents, idx);
  // A byte of deflate makes at most 1032 (zlib, "Maximum expansion factor"): refuse before allocating.
  if (want / 1032 > file_bytes || want > UINT_MAX)
    input_error(name, ": its header declares ", want, " bytes, more than a gzip file of ", file_bytes,
                " bytes holds");
  std::vector<uint8_t> bytes(static_cast<size_t>(want));
  std::memcpy(bytes.data(), header, static_cast<size_t>(header_bytes));
  const int64_t rest = stream.read(bytes.data() + header_bytes, want - header_bytes, name);
  if (rest < want - header_bytes)
    input_error(name, ": holds ", header_bytes + rest, " bytes, its header declares ", want);
  uint8_t extra;
  if (stream.read(&extra, 1, name) != 0)
    input_error(name, ": holds more than the ", want, " bytes that its header declares");
  if (stream.z.avail_in != 0)
    input_error(name, ": ", stream.z.avail_in, " bytes follow the end of the gzip data");
  return bytes;
}

}  // namespace

Idx parse_idx(std::vector<uint8_t> file, const std::string& name, int extents) {
  Idx idx;
  if (file.size() >= 2 && file[0] == 0x1f && file[1] == 0x8b) {
    idx.bytes = gunzip_idx(file, name, extents, idx);
    return idx;
  }
  const int64_t file_bytes = static_cast<int64_t>(file.size());
  if (file_bytes < 4 + 4 * extents)
    input_error(name, ": ends at byte ", file_bytes, " of its header of ", 4 + 4 * extents, " bytes");
  const int64_t want = parse_header(file.data(), name, extents, idx);
  if (want != file_bytes) input_error(name, ": holds ", file_bytes, " bytes, its header declares ", want);
  idx.bytes = std::move(file);
  return idx;
}

}  // namespace convoy
