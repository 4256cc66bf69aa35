// Where a run goes, and what is refused so that no run is overwritten.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "run_dir.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

class RunDirs : public testing::Test {
 protected:
  void SetUp() override {
    old_ = fs::current_path();
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    fs::current_path(dir_);
  }
  void TearDown() override {
    fs::current_path(old_);
    fs::remove_all(dir_);
  }
  static void touch(const fs::path& file) {
    if (file.has_parent_path()) fs::create_directories(file.parent_path());
    std::ofstream(file) << "x";
  }
  static RunDir open(const std::string& out, const std::string& resume) {
    Settings settings;
    settings.out = out;
    settings.resume = resume;
    return choose_run_dir(settings);
  }
  static std::string make(const std::string& out) { return make_run_dir(open(out, ""), "mlp").path; }
  static void expect_error(const std::string& part, const std::function<void()>& call) {
    try {
      call();
      ADD_FAILURE() << "nothing was thrown: " << part;
    } catch (const InputError& error) {
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }

  const fs::path dir_ =
      fs::path(testing::TempDir()) /
      (std::string("convoy_run_dir_") + testing::UnitTest::GetInstance()->current_test_info()->name());
  fs::path old_;
};

TEST_F(RunDirs, the_default_names_the_net_and_is_new_each_time) {
  const RunDir run = open("", "");
  EXPECT_EQ(run.path, "");
  EXPECT_EQ(run.from, "");
  EXPECT_FALSE(fs::exists("runs"));  // nothing is made before the rest of the run is known to be right
  const std::string first = make_run_dir(run, "nets/tiny.net").path,
                    second = make_run_dir(run, "nets/tiny.net").path;
  for (const std::string& path : {first, second}) {
    EXPECT_EQ(path.rfind("runs/tiny-20", 0), 0u) << path;
    EXPECT_TRUE(fs::is_directory(path));
  }
  EXPECT_NE(first, second);
}

TEST_F(RunDirs, out_is_made_with_its_parents_and_may_be_empty) {
  EXPECT_EQ(open("a/b/c", "").path, "a/b/c");
  EXPECT_FALSE(fs::exists("a"));
  EXPECT_EQ(make("a/b/c"), "a/b/c");
  EXPECT_TRUE(fs::is_directory("a/b/c"));
  touch("a/b/c/notes.txt");
  touch("a/b/c/checkpoint-5.safetensors.tmp");  // what a dead save left
  EXPECT_EQ(make("a/b/c"), "a/b/c");
  EXPECT_TRUE(fs::exists("a/b/c/notes.txt"));
  EXPECT_FALSE(fs::exists("a/b/c/checkpoint-5.safetensors.tmp"));
}

TEST_F(RunDirs, a_run_that_is_there_is_not_overwritten) {
  for (const char* name : {"config.toml", "metrics.jsonl", "summary.json", "checkpoint-5.safetensors"}) {
    const std::string dir = std::string("run-") + name;
    touch(fs::path(dir) / name);
    expect_error("holds a run; go on with --resume", [&] { open(dir, ""); });
  }
}

TEST_F(RunDirs, a_directory_or_its_newest_checkpoint_goes_on_in_place) {
  for (const char* name : {"checkpoint-9.safetensors", "checkpoint-10.safetensors", "latest"})
    touch(fs::path("run") / name);
  for (const std::string from : {"run", "run/checkpoint-10.safetensors"}) {
    EXPECT_EQ(open("", from).path, "run");
    EXPECT_EQ(open("", from).from, from);
  }
}

TEST_F(RunDirs, an_older_checkpoint_goes_on_in_another_directory_only) {
  touch("run/checkpoint-5.safetensors");
  touch("run/checkpoint-9.safetensors");
  expect_error("give --out DIR", [] { open("", "run/checkpoint-5.safetensors"); });
  expect_error("give --out DIR", [] { open("run", "run/checkpoint-5.safetensors"); });
  touch("run/best.safetensors");
  expect_error("give --out DIR", [] { open("", "run/best.safetensors"); });
  const RunDir branch = open("branch", "run/checkpoint-5.safetensors");
  EXPECT_EQ(branch.path, "branch");
  EXPECT_EQ(branch.from, "run/checkpoint-5.safetensors");
  touch("other/config.toml");
  expect_error("holds a run", [] { open("other", "run"); });
}

TEST_F(RunDirs, auto_starts_and_goes_on) {
  EXPECT_EQ(open("run", "auto").from, "");
  touch("run/config.toml");  // stopped before the first checkpoint
  EXPECT_EQ(open("run", "auto").from, "");
  touch("run/checkpoint-5.safetensors");
  EXPECT_EQ(open("run", "auto").from, "run");
}

TEST_F(RunDirs, what_is_not_there_is_refused) {
  touch("file");
  fs::create_directories("empty");
  expect_error("--resume nowhere: No such file", [] { open("", "nowhere"); });
  expect_error("--resume empty: holds no checkpoint-<step>.safetensors", [] { open("", "empty"); });
  expect_error("--resume file: is no checkpoint; give a run directory", [] { open("", "file"); });
  expect_error("--resume file/x: ", [] { open("", "file/x"); });
  expect_error("--out file: is a file", [] { open("file", ""); });
  expect_error("--out file/x: ", [] { open("file/x", ""); });
  const RunDir run = open("taken", "");
  touch("taken");  // between the two calls
  expect_error("--out taken: cannot make the directory", [&] { make_run_dir(run, "mlp"); });
}

TEST_F(RunDirs, a_directory_without_permission_is_refused) {
  fs::create_directories("closed");
  fs::permissions("closed", fs::perms{0555});
  const bool root = geteuid() == 0;  // who may write everywhere
  constexpr uid_t kNobody = 65534;
  ASSERT_EQ(root ? seteuid(kNobody) : 0, 0);
  expect_error("--out closed: cannot write", [] { open("closed", ""); });
  expect_error("--out closed/x: cannot make", [] { open("closed/x", ""); });
  ASSERT_EQ(root ? seteuid(0) : 0, 0);
  fs::permissions("closed", fs::perms::owner_all);
}

TEST_F(RunDirs, the_config_of_the_resumed_run) {
  touch("run/config.toml");
  touch("run/checkpoint-5.safetensors");
  EXPECT_EQ(resumed_config("", "run"), "");
  EXPECT_EQ(resumed_config("run", ""), "run/config.toml");
  EXPECT_EQ(resumed_config("run/checkpoint-5.safetensors", "x"), "run/config.toml");
  EXPECT_EQ(resumed_config("auto", "run"), "run/config.toml");
  EXPECT_EQ(resumed_config("auto", "nowhere"), "");
  EXPECT_EQ(resumed_config("auto", ""), "");
}

}  // namespace
}  // namespace convoy
