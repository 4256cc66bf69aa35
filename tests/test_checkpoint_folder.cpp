// The folder of a run: which checkpoints stay, which one is found.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "checkpoint_cases.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

std::string save(const Folder& folder, int64_t step, int64_t keep = 3, bool best = false) {
  const Net net = small_net();
  const Memory memory(net, {"momentum"}, static_cast<int>(step));
  const TrainingRecord record = small_record(step);
  return save_checkpoint(folder.path(), checkpoint_tensors(net, memory.tensors, record), record,
                         {keep, best});
}

std::vector<std::string> names(const Folder& folder) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(folder.path()))
    found.push_back(entry.path().filename().string());
  std::sort(found.begin(), found.end());
  return found;
}
using Names = std::vector<std::string>;

void damage(const std::string& file) {  // one bit of the last tensor
  std::string bytes = read_bytes(file);
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  write_bytes(file, bytes);
}

int64_t step_of(const std::string& file) {
  return read_record(TensorFile(file)).step;
}

TEST(CheckpointFolder, TheNewestStayAndLatestNamesTheLast) {
  const Folder folder;
  for (const int64_t step : {8, 9, 10, 11}) EXPECT_EQ(save(folder, step, 2), "");
  EXPECT_EQ(names(folder), (Names{"checkpoint-10.safetensors", "checkpoint-11.safetensors", "latest"}));
  EXPECT_EQ(read_bytes(folder / "latest"), "checkpoint-11.safetensors\n");
  const FoundCheckpoint found = find_latest(folder.path());
  EXPECT_EQ(found.file, checkpoint_path(folder.path(), 11));
  EXPECT_EQ(found.warning, "");
  EXPECT_EQ(step_of(found.file), 11);
}

TEST(CheckpointFolder, ZeroKeepsAllAndOneKeepsOne) {
  const Folder folder;
  for (const int64_t step : {1, 2, 3, 4}) save(folder, step, 0);
  EXPECT_EQ(checkpoint_files(folder.path()).size(), 4u);
  save(folder, 5, 1);
  EXPECT_EQ(names(folder), (Names{"checkpoint-5.safetensors", "latest"}));
}

TEST(CheckpointFolder, TheBestIsACopyThatStays) {
  const Folder folder;
  save(folder, 1, 1, true);
  save(folder, 2, 1);
  save(folder, 3, 1);
  EXPECT_EQ(names(folder), (Names{"best.safetensors", "checkpoint-3.safetensors", "latest"}));
  EXPECT_EQ(step_of(folder / "best.safetensors"), 1);
  save(folder, 4, 1, true);
  EXPECT_EQ(step_of(folder / "best.safetensors"), 4);
  EXPECT_EQ(read_bytes(folder / "best.safetensors"), read_bytes(folder / "checkpoint-4.safetensors"));
}

TEST(CheckpointFolder, LaterCheckpointsOfAnAbandonedRunAreLeftAlone) {
  const Folder folder;
  for (const int64_t step : {5, 6, 900}) save(folder, step, 0);
  save(folder, 7, 2);
  EXPECT_EQ(names(folder), (Names{"checkpoint-6.safetensors", "checkpoint-7.safetensors",
                                  "checkpoint-900.safetensors", "latest"}));
  EXPECT_EQ(step_of(find_latest(folder.path()).file), 7);
}

TEST(CheckpointFolder, OnlyCheckpointsAreListed) {
  const Folder folder;
  for (const char* name :
       {"checkpoint-.safetensors", "checkpoint--1.safetensors", "checkpoint-1x.safetensors",
        "checkpoint-1.safetensors.tmp", "Checkpoint-1.safetensors", "checkpoint-1.safetensor",
        "checkpoint-99999999999999999999.safetensors", "config.toml"}) {
    write_bytes(folder / name, "x");
  }
  EXPECT_TRUE(checkpoint_files(folder.path()).empty());
  EXPECT_EQ(find_latest(folder.path()).file, "");
  save(folder, 3);
  EXPECT_EQ(checkpoint_files(folder.path()), Names{folder / "checkpoint-3.safetensors"});
}

TEST(CheckpointFolder, NoFolderIsNoCheckpointAndAFileIsNoFolder) {
  const Folder folder;
  EXPECT_EQ(find_latest(folder / "none").file, "");
  write_bytes(folder / "file", "x");
  EXPECT_SAYS(refusal(folder / "file", [&] { find_latest(folder / "file"); }), "cannot list");
}

TEST(CheckpointFolder, LeftOversOfDeadSavesGoAndNothingElse) {
  const Folder folder;
  save(folder, 1, 3, true);
  const Names kept = {"best.safetensors", "checkpoint-1.safetensors", "config.toml.tmp", "latest",
                      "notes.tmp"};
  for (const char* name : {"checkpoint-2.safetensors.tmp", "best.safetensors.tmp", "latest.tmp", "notes.tmp",
                           "config.toml.tmp"}) {
    write_bytes(folder / name, "half");
  }
  EXPECT_EQ(step_of(find_latest(folder.path()).file), 1);
  remove_temporaries(folder.path());
  EXPECT_EQ(names(folder), kept);
  remove_temporaries(folder / "none");
}

TEST(CheckpointFolder, ASaveWritesOverALeftOverOfItsName) {
  const Folder folder;
  write_bytes(folder / "checkpoint-2.safetensors.tmp", std::string(100000, 'x'));
  save(folder, 2);
  EXPECT_EQ(names(folder), (Names{"checkpoint-2.safetensors", "latest"}));
  TensorFile(folder / "checkpoint-2.safetensors").verify();
}

TEST(CheckpointFolder, FallsBackWithAWarningOfOneLine) {
  struct Case {
    const char* what;
    std::function<void(const Folder&)> spoil;
    int64_t want;
    const char* says;
  };
  const std::vector<Case> cases = {
      {"no latest", [](const Folder& f) { fs::remove(f / "latest"); }, 30, "has no file 'latest'"},
      {"latest empty", [](const Folder& f) { write_bytes(f / "latest", ""); }, 30, "latest is damaged"},
      {"latest long", [](const Folder& f) { write_bytes(f / "latest", std::string(1 << 20, 'x')); }, 30,
       "damaged"},
      {"latest outside", [](const Folder& f) { write_bytes(f / "latest", "../checkpoint-1.safetensors\n"); },
       30, "damaged"},
      {"latest with two lines",
       [](const Folder& f) {
         write_bytes(f / "latest", "checkpoint-10.safetensors\ncheckpoint-20.safetensors\n");
       },
       30, "damaged"},
      {"latest a folder",
       [](const Folder& f) {
         fs::remove(f / "latest");
         fs::create_directory(f / "latest");
       },
       30, "damaged"},
      {"latest names a file that is gone",
       [](const Folder& f) { write_bytes(f / "latest", "checkpoint-31.safetensors\n"); }, 30,
       "names checkpoint-31.safetensors, which is not there"},
      {"the newest damaged", [](const Folder& f) { damage(f / "checkpoint-30.safetensors"); }, 20,
       "checksum differs"},
      {"the newest cut short",
       [](const Folder& f) { fs::resize_file(f / "checkpoint-30.safetensors", 1000); }, 20, "cut short"},
      {"the newest empty", [](const Folder& f) { write_bytes(f / "checkpoint-30.safetensors", ""); }, 20,
       "too few"},
      {"the newest a folder",
       [](const Folder& f) {
         fs::remove(f / "checkpoint-30.safetensors");
         fs::create_directory(f / "checkpoint-30.safetensors");
       },
       20, "is a folder"},
      {"the two newest damaged",
       [](const Folder& f) {
         damage(f / "checkpoint-30.safetensors");
         damage(f / "checkpoint-20.safetensors");
       },
       10, "checkpoint-30.safetensors: tensor"},
      {"latest missing and the newest damaged",
       [](const Folder& f) {
         fs::remove(f / "latest");
         damage(f / "checkpoint-30.safetensors");
       },
       20, "checksum differs"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.what);
    const Folder folder;
    for (const int64_t step : {10, 20, 30}) save(folder, step);
    c.spoil(folder);
    const FoundCheckpoint found = find_latest(folder.path());
    EXPECT_EQ(found.file, checkpoint_path(folder.path(), c.want));
    EXPECT_SAYS(found.warning, c.says);
    EXPECT_SAYS(found.warning, "going on from " + found.file);
    EXPECT_EQ(found.warning.find('\n'), std::string::npos) << found.warning;
  }
}

TEST(CheckpointFolder, LatestMayNameAnOlderOne) {  // killed between a checkpoint and `latest`
  const Folder folder;
  for (const int64_t step : {10, 20}) save(folder, step);
  write_bytes(folder / "latest", "checkpoint-10.safetensors\n");
  const FoundCheckpoint found = find_latest(folder.path());
  EXPECT_EQ(step_of(found.file), 10);
  EXPECT_EQ(found.warning, "");
}

TEST(CheckpointFolder, NoneGoodIsAnError) {
  const Folder folder;
  for (const int64_t step : {10, 20}) save(folder, step);
  for (const int64_t step : {10, 20}) damage(checkpoint_path(folder.path(), step));
  const std::string message = refusal(folder.path(), [&] { find_latest(folder.path()); });
  EXPECT_SAYS(message, "checkpoint-20.safetensors: tensor");
  EXPECT_SAYS(message, "holds no checkpoint that is good");
}

TEST(CheckpointFolder, TheCallerMayReadTheFilesItself) {
  const Folder folder;
  for (const int64_t step : {10, 20, 30}) save(folder, step);
  std::vector<int64_t> tried;
  const FoundCheckpoint found = find_latest(folder.path(), [&](const std::string& file) {
    tried.push_back(step_of(file));
    if (tried.back() == 30) input_error(file, ": not this one");
  });
  EXPECT_EQ(tried, (std::vector<int64_t>{30, 20}));
  EXPECT_EQ(found.file, checkpoint_path(folder.path(), 20));
  EXPECT_THROW(find_latest(folder.path(), [](const std::string&) { throw Error("not the file's fault"); }),
               Error);
}

TEST(CheckpointFolder, AFailedSaveLeavesTheFolderAsItWas) {
  const Folder folder;
  save(folder, 1);
  fs::create_directory(folder / "checkpoint-2.safetensors");
  const Names before = names(folder);
  EXPECT_THROW(save(folder, 2), Error);
  EXPECT_EQ(names(folder), before);
  EXPECT_EQ(step_of(find_latest(folder.path()).file), 1);
}

TEST(CheckpointFolder, AnOldOneThatCannotBeRemovedIsAWarning) {
  const Folder folder;
  fs::create_directory(folder / "checkpoint-1.safetensors");
  write_bytes(folder / "checkpoint-1.safetensors/inside", "x");
  EXPECT_SAYS(save(folder, 2, 1), "cannot remove the old " + (folder / "checkpoint-1.safetensors"));
  EXPECT_EQ(step_of(find_latest(folder.path()).file), 2);
}

}  // namespace
}  // namespace convoy
