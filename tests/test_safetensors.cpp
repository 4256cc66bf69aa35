// Writing and reading safetensors files.
#include <sys/resource.h>

#include <csignal>
#include <map>

#include "checkpoint_cases.h"

namespace convoy {
namespace {

// A tensor of given bytes; notes how it was asked for them.
struct Given {
  std::string name, dtype;
  std::vector<int64_t> shape;
  std::string bytes;
};

TensorSource source_of(const Given& given, int64_t element) {
  return {given.name, given.dtype, given.shape, [given, element](int64_t first, int64_t count, char* to) {
            std::memcpy(to, given.bytes.data() + first * element, static_cast<size_t>(count * element));
          }};
}

std::string pattern(size_t bytes, unsigned salt) {
  std::string out(bytes, '\0');
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>((i * 2654435761u + salt) >> 13);
  return out;
}

std::string bytes_of(const TensorFile& file, const StoredTensor& tensor) {
  std::string out;
  file.read(tensor, [&](const char* data, int64_t bytes) {
    EXPECT_LE(bytes, TensorFile::kPartBytes);
    out.append(data, static_cast<size_t>(bytes));
  });
  return out;
}

TEST(Safetensors, RoundTripIsExact) {
  const Folder folder;
  const std::string file = folder / "a.safetensors";
  const std::vector<std::pair<Given, int64_t>> tensors = {
      {{"f32", "F32", {3, 5}, pattern(60, 1)}, 4},
      {{"f64", "F64", {2}, pattern(16, 2)}, 8},
      {{"f16", "F16", {7}, pattern(14, 3)}, 2},
      {{"bf16", "BF16", {1, 1, 3}, pattern(6, 4)}, 2},
      {{"i64 scalar", "I64", {}, pattern(8, 5)}, 8},
      {{"u8 scalar", "U8", {}, pattern(1, 6)}, 1},
      {{"u8", "U8", {11}, pattern(11, 7)}, 1},
      {{"i32", "I32", {2, 1, 2, 1, 2, 1}, pattern(32, 8)}, 4},
      {{"bool", "BOOL", {5}, pattern(5, 9)}, 1},
      {{"empty", "F32", {0}, ""}, 4},
      {{"empty too", "F32", {4, 0, 3}, ""}, 4},
      {{"", "F32", {1}, pattern(4, 10)}, 4},
      {{"odd \"name\"\n\x01 \xc3\xa9", "F32", {1}, pattern(4, 11)}, 4},
      {{"several parts", "F32", {3, 262144 + 17}, pattern(3 * (262144 + 17) * 4, 12)}, 4},
      {{"one whole part", "F64", {131072}, pattern(1 << 20, 13)}, 8},
  };
  std::vector<TensorSource> sources;
  for (const auto& [given, element] : tensors) sources.push_back(source_of(given, element));
  const std::map<std::string, std::string> metadata = {{"plain", "text"}, {"", ""}, {"é", "a\"b\\c\nd\te"}};
  write_safetensors(file, sources, metadata);

  const TensorFile read(file);
  read.verify();
  EXPECT_EQ(read.tensors().size(), tensors.size());
  for (const auto& [key, value] : metadata) EXPECT_EQ(read.metadata().at(key), value);
  for (const auto& [given, element] : tensors) {
    const StoredTensor* stored = read.find(given.name);
    ASSERT_NE(stored, nullptr) << given.name;
    EXPECT_EQ(stored->dtype, given.dtype);
    EXPECT_EQ(stored->shape, given.shape);
    EXPECT_EQ(stored->offset % element, 0) << given.name;
    EXPECT_EQ(bytes_of(read, *stored), given.bytes) << given.name;
  }
  EXPECT_EQ(read.find("not there"), nullptr);
}

TEST(Safetensors, DataIsAlignedAndTheSameInputGivesTheSameFile) {
  const Folder folder;
  for (size_t letters = 1; letters < 70; ++letters) {
    const Given given{std::string(letters, 'n'), "F32", {2}, pattern(8, 1)};
    write_safetensors(folder / "a", {source_of(given, 4)});
    const std::string bytes = read_bytes(folder / "a");
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), 8);
    EXPECT_EQ((8 + header) % 64, 0u);
    EXPECT_EQ(bytes.size(), 8 + header + 8);
    write_safetensors(folder / "b", {source_of(given, 4)});
    EXPECT_EQ(bytes, read_bytes(folder / "b"));
  }
}

TEST(Safetensors, NoTensorsAtAll) {
  const Folder folder;
  write_safetensors(folder / "a", {}, {{"only", "metadata"}});
  const TensorFile read(folder / "a");
  EXPECT_TRUE(read.tensors().empty());
  EXPECT_EQ(read.metadata().at("only"), "metadata");
  write_bytes(folder / "b", tensor_file("{}", ""));
  EXPECT_TRUE(TensorFile(folder / "b").metadata().empty());
}

TEST(Safetensors, MetadataThatIsNotUtf8GetsTheReplacementCharacter) {
  const Folder folder;
  write_safetensors(folder / "a", {}, {{"class", "caf\xe9"}});
  EXPECT_EQ(TensorFile(folder / "a").metadata().at("class"), "caf\xef\xbf\xbd");
}

TEST(Safetensors, FilesOfOtherProgramsNeedNoChecksumsNorOrder) {
  const Folder folder;
  const std::string header =  // z's data come first, spaces follow, and an empty tensor lies between
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[3,5]},"z":{"data_offsets":[0,3],"shape":[3],"dtype":"U8"},)"
      R"("e":{"dtype":"F64","shape":[0,9],"data_offsets":[3,3]}}   )";
  write_bytes(folder / "a", tensor_file(header, "zzzaa"));
  const TensorFile read(folder / "a");
  read.verify();
  EXPECT_EQ(bytes_of(read, *read.find("a")), "aa");
  EXPECT_EQ(bytes_of(read, *read.find("z")), "zzz");
  EXPECT_EQ(bytes_of(read, *read.find("e")), "");
}

// A tensor of 64 MiB is asked for in order and in parts, so that nothing of its size is ever allocated.
TEST(Safetensors, WritingStreams) {
  const Folder folder;
  int64_t next = 0, largest = 0;
  const TensorSource big{"big", "F32", {1 << 12, 1 << 12}, [&](int64_t first, int64_t count, char* to) {
                           EXPECT_EQ(first, next);
                           next = first + count;
                           largest = std::max(largest, count);
                           std::memset(to, static_cast<int>(first >> 18), static_cast<size_t>(count) * 4);
                         }};
  write_safetensors(folder / "big", {big});
  EXPECT_EQ(next, 1 << 24);
  EXPECT_LE(largest * 4, TensorFile::kPartBytes);
  TensorFile(folder / "big").verify();
}

std::string write_failure(const std::string& file) {
  const Given given{"t", "F32", {1024}, pattern(4096, 1)};
  try {
    write_safetensors(file, {source_of(given, 4)});
  } catch (const InputError&) {
    return "InputError";
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Safetensors, AWriteThatFailsNamesFileCallAndReason) {
  const Folder folder;
  EXPECT_EQ(write_failure(folder / "none/a"),
            "cannot write " + (folder / "none/a") + ": open: No such file or directory");
  std::filesystem::create_directory(folder / "taken");
  write_bytes(folder / "taken/inside", "x");
  EXPECT_SAYS(write_failure(folder / "taken"), "cannot write " + (folder / "taken") + ": rename: ");
  EXPECT_FALSE(std::filesystem::exists(folder / "taken.tmp"));
}

// The limit on a file's size stands in for a full disk: the write fails half-way.
TEST(Safetensors, AFullDiskLeavesTheOldFileAndNothingElse) {
  const Folder folder;
  write_bytes(folder / "a", "the old file");
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  for (const rlim_t bytes : {0, 1, 100, 1000, 4096}) {
    const rlimit limit{bytes, before.rlim_max};
    void (*handler)(int) = std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    const std::string message = write_failure(folder / "a");
    setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    EXPECT_EQ(message, "cannot write " + (folder / "a") + ": write: File too large");
    EXPECT_EQ(read_bytes(folder / "a"), "the old file");
    EXPECT_FALSE(std::filesystem::exists(folder / "a.tmp"));
  }
}

TEST(Safetensors, AnExceptionWhileFillingLeavesNothing) {
  const Folder folder;
  const TensorSource bad{"t", "F32", {4}, [](int64_t, int64_t, char*) { throw Error("no data"); }};
  EXPECT_THROW(write_safetensors(folder / "a", {bad}), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, WrongUseIsRefused) {
  const Folder folder;
  const auto nothing = [](int64_t, int64_t, char*) {};
  EXPECT_THROW(write_safetensors(folder / "a", {{"t", "F31", {1}, nothing}}), Error);
  EXPECT_THROW(write_safetensors(folder / "a", {{"t", "F32", {1}, nothing}, {"t", "F32", {1}, nothing}}),
               Error);
  EXPECT_THROW(write_safetensors(folder / "a", {{"__metadata__", "F32", {1}, nothing}}), Error);
  EXPECT_THROW(write_safetensors(folder / "a", {{"t", "F32", {INT64_MAX, 2}, nothing}}), Error);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

}  // namespace
}  // namespace convoy
