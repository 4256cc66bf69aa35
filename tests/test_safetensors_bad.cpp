// Bad safetensors files: each is refused with one line that says what is wrong.
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint_cases.h"

namespace convoy {
namespace {

std::string refusal_of(const std::string& file) {
  return refusal(file, [&] { TensorFile(file).verify(); });
}

std::string tensor(const std::string& fields) {
  return "{\"t\":{" + fields + "}}";
}
std::string shaped(const std::string& shape, const std::string& offsets = "[0,8]") {
  return tensor("\"dtype\":\"F32\",\"shape\":" + shape + ",\"data_offsets\":" + offsets);
}
std::string two(const std::string& first, const std::string& second) {  // offsets of two U8 tensors
  const auto entry = [](const char* name, const std::string& shape_and_offsets) {
    return text("\"", name, "\":{\"dtype\":\"U8\",", shape_and_offsets, "}");
  };
  return "{" + entry("a", first) + "," + entry("b", second) + "}";
}

struct Bad {
  const char* what;
  std::string header, says;
};

const std::string kDtype = R"("dtype":"F32")", kShape = R"("shape":[2])",
                  kOffsets = R"("data_offsets":[0,8])";

// All with eight bytes of data.
const std::vector<Bad> kBadHeaders = {
    // not JSON, or not an object of objects
    {"empty", "", "begin with '{'"},
    {"spaces", "    ", "begin with '{'"},
    {"a leading space", " {}", "begin with '{'"},
    {"a list", "[]", "begin with '{'"},
    {"NUL bytes", std::string(40, '\0'), "begin with '{'"},
    {"a byte order mark", "\xef\xbb\xbf{}", "begin with '{'"},
    {"text", "{hello}", "not valid JSON"},
    {"unclosed", R"({"t":{)", "not valid JSON"},
    {"unclosed text", R"({"t)", "not valid JSON"},
    {"text after the end", shaped("[2]") + "x", "not valid JSON"},
    {"NUL after the end", shaped("[2]") + std::string(8, '\0'), "not valid JSON"},
    {"two objects", shaped("[2]") + "{}", "not valid JSON"},
    {"a comma too many", R"({"t":{"dtype":"F32",}})", "not valid JSON"},
    {"a comment", "{/* */}", "not valid JSON"},
    {"bad UTF-8", "{\"\xff\":{}}", "not valid JSON"},
    {"a lone surrogate", R"({"\ud800":{}})", "not valid JSON"},
    {"a control character", "{\"\n\":{}}", "not valid JSON"},
    {"NaN", shaped("[NaN]"), "not valid JSON"},
    {"nothing but an empty header", "{}", "end 8 bytes before the file does"},
    {"a tensor that is a number", R"({"t":3})", "'t' is a number"},
    {"a tensor that is a list", R"({"t":[]})", "'t' is a list"},
    {"a tensor that is a text", R"({"t":"F32"})", "'t' is a text"},
    {"a tensor that is null", R"({"t":null})", "'t' is null"},
    {"a tensor that is true", R"({"t":true})", "'t' is true or false"},
    // the fields of a tensor
    {"no fields", R"({"t":{}})", "dtype is missing"},
    {"no dtype", tensor(kShape + "," + kOffsets), "dtype is missing"},
    {"no shape", tensor(kDtype + "," + kOffsets), "shape is missing"},
    {"no offsets", tensor(kDtype + "," + kShape), "data_offsets is missing"},
    {"an unknown field", tensor(kDtype + R"(,"stride":[1])"), "unknown field 'stride'"},
    {"an unknown text field", tensor(kDtype + R"(,"device":"cpu")"), "unknown field 'device'"},
    {"dtype twice", tensor(kDtype + "," + kDtype), "dtype stands twice"},
    {"shape twice", tensor(kShape + "," + kShape), "shape stands twice"},
    {"offsets twice", tensor(kOffsets + "," + kOffsets), "data_offsets stands twice"},
    {"dtype a number", tensor(R"("dtype":32)"), "dtype is a number, not a text"},
    {"dtype a list", tensor(R"("dtype":["F32"])"), "dtype is a list, not a text"},
    {"dtype null", tensor(R"("dtype":null)"), "dtype is null"},
    {"unknown dtype", tensor(R"("dtype":"F31",)" + kShape + "," + kOffsets), "unknown dtype 'F31'"},
    {"empty dtype", tensor(R"("dtype":"",)" + kShape + "," + kOffsets), "unknown dtype ''"},
    {"dtype in small letters", tensor(R"("dtype":"f32",)" + kShape + "," + kOffsets), "unknown dtype 'f32'"},
    {"dtype of four bits", tensor(R"("dtype":"F4",)" + kShape + "," + kOffsets), "unknown dtype 'F4'"},
    {"shape a number", shaped("2"), "shape is a number, not a list"},
    {"shape an object", shaped("{}"), "shape is an object"},
    {"a negative extent", shaped("[-2]"), "shape holds -2, which is negative"},
    {"two negative extents", shaped("[-1,-2]"), "which is negative"},
    {"a real extent", shaped("[2.0]"), "not whole"},
    {"an extent with exponent", shaped("[2e0]"), "not whole"},
    {"an extent as text", shaped(R"(["2"])"), "shape holds a text"},
    {"an extent null", shaped("[null]"), "shape holds null"},
    {"an extent true", shaped("[true]"), "shape holds true or false"},
    {"an extent list", shaped("[[2]]"), "shape holds a list"},
    {"an extent object", shaped("[{}]"), "shape holds an object"},
    {"an extent of 2^63", shaped("[9223372036854775808]"), "too large"},
    {"an extent of 2^64", shaped("[18446744073709551616]"), "too large"},
    {"an extent of 10^400", shaped("[1" + std::string(400, '0') + "]"), "not valid JSON"},
    {"a product of 2^64 + 2", shaped("[4194305,4194305,211106198978564]"), "overflows"},
    {"a product of 2^64", shaped("[4294967296,4294967296]"), "overflows"},
    {"bytes of 2^63", shaped("[2305843009213693952]"), "overflows"},
    {"bytes of 2^64 + 8", shaped("[4611686018427387906]"), "overflows"},
    {"overflow before a zero", shaped("[4294967296,4294967296,0]", "[0,0]"), "overflows"},
    {"65 extents",
     shaped("[" +
            [] {
              std::string ones = "1";
              for (int i = 0; i < 64; ++i) ones += ",1";
              return ones;
            }() +
            "]"),
     "too many entries"},
    {"an extent too large", shaped("[3]"), "takes 12 bytes, data_offsets give 8"},
    {"an extent too small", shaped("[1]"), "takes 4 bytes, data_offsets give 8"},
    {"a zero extent", shaped("[0]"), "takes 0 bytes, data_offsets give 8"},
    {"a scalar of eight bytes", shaped("[]"), "takes 4 bytes, data_offsets give 8"},
    {"leading zero", shaped("[02]"), "not valid JSON"},
    // offsets
    {"offsets a number", shaped("[2]", "8"), "data_offsets is a number"},
    {"no offset", shaped("[2]", "[]"), "has 0 entries, not 2"},
    {"one offset", shaped("[2]", "[8]"), "has 1 entries, not 2"},
    {"three offsets", shaped("[2]", "[0,8,8]"), "too many entries"},
    {"a negative offset", shaped("[2]", "[-8,0]"), "data_offsets holds -8, which is negative"},
    {"a real offset", shaped("[2]", "[0,8.0]"), "not whole"},
    {"a text offset", shaped("[2]", R"(["0",8])"), "data_offsets holds a text"},
    {"an offset of 2^63", shaped("[2]", "[0,9223372036854775808]"), "too large"},
    {"an offset of 2^64 + 8", shaped("[2]", "[0,18446744073709551624]"), "too large"},
    {"end before begin", shaped("[2]", "[8,0]"), "end before they begin"},
    {"past the end", shaped("[2]", "[1,9]"), "ends at byte 9 of 8"},
    {"far past the end", shaped("[2]", "[9223372036854775799,9223372036854775807]"), "of 8"},
    {"huge and past the end", shaped("[1000000000000]", "[0,4000000000000]"), "of 8"},
    {"overlap", two(R"("shape":[5],"data_offsets":[0,5])", R"("shape":[4],"data_offsets":[4,8])"),
     "overlaps"},
    {"the same data", two(R"("shape":[8],"data_offsets":[0,8])", R"("shape":[8],"data_offsets":[0,8])"),
     "overlaps"},
    {"one within another", two(R"("shape":[8],"data_offsets":[0,8])", R"("shape":[1],"data_offsets":[3,4])"),
     "overlaps"},
    {"a gap", two(R"("shape":[3],"data_offsets":[0,3])", R"("shape":[4],"data_offsets":[4,8])"),
     "1 bytes before tensor 'b' belong to no tensor"},
    {"a gap at the front", tensor(R"("dtype":"U8","shape":[6],"data_offsets":[2,8])"),
     "2 bytes before tensor 't'"},
    {"a gap at the end", tensor(R"("dtype":"U8","shape":[6],"data_offsets":[0,6])"), "end 2 bytes before"},
    {"an empty tensor elsewhere",
     two(R"("shape":[8],"data_offsets":[0,8])", R"("shape":[0],"data_offsets":[3,3])"), "overlaps"},
    {"a name twice",
     R"({"t":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"t":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
     "'t' stands twice"},
    {"a name twice, once escaped",
     R"({"t":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},"\u0074":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
     "'t' stands twice"},
    // metadata
    {"metadata a text", R"({"__metadata__":"x"})", "__metadata__"},
    {"metadata a list", R"({"__metadata__":[]})", "'__metadata__' is a list"},
    {"metadata null", R"({"__metadata__":null})", "'__metadata__' is null"},
    {"metadata twice", R"({"__metadata__":{},"__metadata__":{}})", "__metadata__ stands twice"},
    {"a metadata number", R"({"__metadata__":{"step":3}})", "'step' is a number, not a text"},
    {"a metadata object", R"({"__metadata__":{"a":{}}})", "'a' is an object"},
    {"a metadata list", R"({"__metadata__":{"a":[]}})", "'a' is a list"},
    {"a metadata null", R"({"__metadata__":{"a":null}})", "'a' is null"},
    {"a metadata key twice", R"({"__metadata__":{"a":"1","a":"1"}})", "'a' twice"},
    {"a wrong checksum of the header", R"({"__metadata__":{"crc32":"00000000"}})", "end 8 bytes before"},
    // names that would spoil a message
    {"a name with new lines", "{\"a\\nb\\u0000c\\u001b[31m\":{}}", R"('a\x0ab\x00c\x1b[31m')"},
    {"a name of 100000 letters", "{\"" + std::string(100000, 'n') + "\":{}}", "...'"},
};

TEST(BadSafetensors, EveryHeaderIsRefusedWithItsReason) {
  const Folder folder;
  const std::string file = folder / "bad.safetensors";
  for (const Bad& bad : kBadHeaders) {
    SCOPED_TRACE(bad.what);
    write_bytes(file, tensor_file(bad.header, "12345678"));
    EXPECT_SAYS(refusal_of(file), bad.says);
  }
  EXPECT_GE(kBadHeaders.size(), 90u);
}

TEST(BadSafetensors, TheHeaderThatTheCasesAreMadeFromIsGood) {
  const Folder folder;
  write_bytes(folder / "good", tensor_file(shaped("[2]"), "12345678"));
  TensorFile(folder / "good").verify();
}

TEST(BadSafetensors, HeaderLengths) {
  const Folder folder;
  const std::string file = folder / "bad.safetensors";
  const std::string good = tensor_file(shaped("[2]"), "12345678");
  const uint64_t header = good.size() - 16;
  for (const uint64_t bytes :
       {uint64_t{0}, uint64_t{1}, header - 1, header + 1, header + 8, header + 9, uint64_t{100'000'000},
        uint64_t{100'000'001}, uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{1} << 62, uint64_t{1} << 63,
        UINT64_MAX - 7, UINT64_MAX}) {
    SCOPED_TRACE(bytes);
    std::string changed = good;
    std::memcpy(changed.data(), &bytes, 8);
    write_bytes(file, changed);
    EXPECT_FALSE(refusal_of(file).empty());
  }
}

TEST(BadSafetensors, CutShortAtEveryByteAndTooLong) {
  const Folder folder;
  const std::string file = folder / "bad.safetensors";
  save_small(file);
  const auto whole = std::filesystem::file_size(file);
  ASSERT_GT(whole, 3000u);
  for (const size_t more : {4096, 8, 7, 1}) {
    std::filesystem::resize_file(file, whole + more);
    EXPECT_SAYS(refusal_of(file), text("end ", more, " bytes before the file does"));
  }
  for (auto bytes = whole; bytes-- > 0;) {
    std::filesystem::resize_file(file, bytes);
    ASSERT_FALSE(refusal_of(file).empty()) << bytes << " of " << whole << " bytes";
  }
}

// Loading a checkpoint notices any single bit: length, JSON, padding, checksums and data.
TEST(BadSafetensors, EveryBitFlipIsNoticed) {
  const Folder folder;
  const std::string file = folder / "bad.safetensors";
  save_small(file, 1, {});
  const std::string good = read_bytes(file);
  std::fstream out(file, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&out](size_t place, int value) {
    out.seekp(static_cast<std::streamoff>(place)).put(static_cast<char>(value)).flush();
    ASSERT_TRUE(out.good());
  };
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    const size_t place = bit / 8;
    put(place, good[place] ^ 1 << bit % 8);
    const std::string message = refusal(file, [&] {
      const TensorFile read(file);
      read_record(read);
      read.verify();
    });
    put(place, good[place]);
    ASSERT_FALSE(message.empty()) << "bit " << bit % 8 << " of byte " << place << " of " << good.size();
  }
  TensorFile(file).verify();
}

TEST(BadSafetensors, WhatIsNotAFile) {
  const Folder folder;
  EXPECT_SAYS(refusal_of(folder / "none"), "No such file or directory");
  EXPECT_SAYS(refusal_of(folder.path()), "is a folder");
  ASSERT_EQ(mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_SAYS(refusal_of(folder / "pipe"), "not a regular file");  // and does not wait for a writer
  EXPECT_SAYS(refusal_of("/dev/zero"), "not a regular file");
  write_bytes(folder / "empty", "");
  EXPECT_SAYS(refusal_of(folder / "empty"), "0 bytes are too few");
}

TEST(BadSafetensors, WithoutPermission) {
  if (geteuid() == 0) GTEST_SKIP() << "root reads everything";
  const Folder folder;
  write_bytes(folder / "locked", "x");
  ASSERT_EQ(chmod((folder / "locked").c_str(), 0), 0);
  EXPECT_SAYS(refusal_of(folder / "locked"), "Permission denied");
}

int64_t peak_kilobytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

// Deep nesting and sizes that are not there cost no memory. (Before the sanitizers' own memory, 32 MB is a
// lot.)
TEST(BadSafetensors, BombsTakeNoMemory) {
  const Folder folder;
  const std::string file = folder / "bomb";
  const std::string deep(1 << 20, '[');
  std::string objects;
  for (int i = 0; i < 1 << 16; ++i) objects += R"({"a":)";
  const std::vector<std::string> headers = {R"({"t":)" + deep, R"({"__metadata__":{"a":)" + deep, objects,
                                            R"({"t":{"shape":)" + deep,
                                            shaped("[4611686018427387904]", "[0,8]")};
  write_bytes(file, tensor_file(headers[0], "12345678"));
  EXPECT_FALSE(refusal_of(file).empty());
  const int64_t before = peak_kilobytes();
  for (const std::string& header : headers) {
    write_bytes(file, tensor_file(header, "12345678"));
    EXPECT_FALSE(refusal_of(file).empty());
  }
  // A file that says of itself that it is large: a hole on the disk.
  write_bytes(file, tensor_file("{}", ""));
  std::filesystem::resize_file(file, int64_t{1} << 40);
  EXPECT_SAYS(refusal_of(file), "bytes before the file does");
  EXPECT_LT(peak_kilobytes() - before, 32 << 10);
}

TEST(BadSafetensors, EntriesAreCounted) {
  const Folder folder;
  const std::string file = folder / "many";
  const auto header = [](int entries, const std::string& value) {
    std::string out;
    for (int i = 0; i < entries; ++i) out += text(i ? "," : "", "\"", i, "\":", value);
    return out;
  };
  const std::string empty = R"({"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  write_bytes(file, tensor_file("{" + header(1 << 17, empty) + "}", ""));
  EXPECT_EQ(TensorFile(file).tensors().size(), size_t{1} << 17);
  write_bytes(file, tensor_file("{" + header((1 << 17) + 1, empty) + "}", ""));
  EXPECT_SAYS(refusal_of(file), "more than 131072 tensors");
  write_bytes(file, tensor_file("{\"__metadata__\":{" + header((1 << 17) + 1, "\"\"") + "}}", ""));
  EXPECT_SAYS(refusal_of(file), "__metadata__ has more than 131072 entries");
}

TEST(BadSafetensors, AFileThatShrinksWhileItIsReadIsNoticed) {
  const Folder folder;
  save_small(folder / "a");
  const TensorFile open(folder / "a");
  std::filesystem::resize_file(folder / "a", std::filesystem::file_size(folder / "a") - 1);
  EXPECT_SAYS(refusal(folder / "a", [&] { open.verify(); }), "became shorter");
}

}  // namespace
}  // namespace convoy
