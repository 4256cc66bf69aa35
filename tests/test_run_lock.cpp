// Who gets a run's directory, who is told no, and when a lock is dead.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <sstream>
#include <tuple>

#include "convoy/check.h"
#include "run_lock.h"
#include "run_owner.h"

namespace convoy {
namespace {

namespace fs = std::filesystem;

class RunLocks : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    unsetenv("SLURM_JOB_ID");
    unsetenv("SLURM_RESTART_COUNT");
  }
  void TearDown() override { fs::remove_all(dir_); }
  fs::path file() const { return dir_ / RunLock::kName; }
  // A lock that `owner` left, touched so many seconds ago.
  void leave(const RunOwner& owner, double untouched) const { leave_text(owner_text(owner), untouched); }
  void leave_text(const std::string& content, double untouched) const {
    std::ofstream(file()) << content;
    const timespec then{std::time(nullptr) - static_cast<time_t>(untouched), 0};
    const timespec times[2] = {then, then};
    ASSERT_EQ(utimensat(AT_FDCWD, file().c_str(), times, 0), 0);
  }
  std::string refusal() const {
    try {
      const RunLock lock(dir_.string());
      return "(taken)";
    } catch (const InputError& error) {
      return error.what();
    }
  }
  std::string owner() const {
    std::stringstream content;
    content << std::ifstream(file()).rdbuf();
    return content.str();
  }
  int files() const {
    int count = 0;
    for (const auto& entry : fs::directory_iterator(dir_)) count += !entry.path().empty();
    return count;
  }
  static RunOwner elsewhere() {
    RunOwner owner = this_owner();
    owner.host = "cn7";
    owner.pid = 4711;
    owner.kernel = "another boot/pid:[1]";
    return owner;
  }
  // The pid of a process that has ended.
  static pid_t ended() {
    const pid_t child = fork();
    if (child == 0) _exit(0);
    waitpid(child, nullptr, 0);
    return child;
  }

  const fs::path dir_ =
      fs::path(testing::TempDir()) /
      (std::string("convoy_run_lock_") + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(RunLocks, IsHeldWhileItLivesAndThenGone) {
  setenv("SLURM_JOB_ID", "17", 1);
  {
    const RunLock lock(dir_.string());
    EXPECT_NO_THROW(lock.check());
    EXPECT_EQ(files(), 1);
    const std::string no = refusal();
    EXPECT_NE(no.find("pid " + std::to_string(getpid()) + " on " + this_owner().host + ", Slurm job 17"),
              std::string::npos)
        << no;
    EXPECT_EQ(files(), 1);  // the one who was refused left nothing
    EXPECT_NO_THROW(lock.check());
  }
  EXPECT_EQ(files(), 0);
  EXPECT_EQ(refusal(), "(taken)");
}

TEST_F(RunLocks, AnOwnerWhoseProcessEndedIsDead) {
  RunOwner owner = this_owner();
  owner.pid = ended();
  leave(owner, 0);
  const RunLock lock(dir_.string());
  EXPECT_EQ(owner_text(this_owner()), this->owner());
  EXPECT_EQ(files(), 1);
}

TEST_F(RunLocks, AnotherProcessWithTheOwnersPidIsNotTheOwner) {
  RunOwner owner = this_owner();
  leave(owner, 10000);
  EXPECT_NE(refusal(), "(taken)");  // alive, however long it did not touch its lock
  owner.started -= 1;
  leave(owner, 0);
  EXPECT_EQ(refusal(), "(taken)");
}

TEST_F(RunLocks, AZombieIsDead) {
  int go[2];
  ASSERT_EQ(pipe(go), 0);
  const pid_t child = fork();
  if (child == 0) {
    const RunLock* lock = new RunLock(dir_.string());  // not released
    lock->check();
    const ssize_t told = write(go[1], "x", 1);
    _exit(told == 1 ? 0 : 1);
  }
  char x;
  ASSERT_EQ(read(go[0], &x, 1), 1);
  siginfo_t info;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT),
            0);  // ended, and still in /proc
  EXPECT_EQ(refusal(), "(taken)");
  waitpid(child, nullptr, 0);
}

TEST_F(RunLocks, AnOwnerElsewhereIsDeadAfterFiveMinutesWithoutATouch) {
  leave(elsewhere(), kOwnerStaleSeconds - 20);
  EXPECT_NE(refusal().find("pid 4711 on cn7, no Slurm job"), std::string::npos);
  leave(elsewhere(), kOwnerStaleSeconds + 20);
  EXPECT_EQ(refusal(), "(taken)");
  EXPECT_EQ(files(), 0);
}

TEST_F(RunLocks, AnEarlierStartOfThisJobIsDead) {
  RunOwner owner = elsewhere();
  owner.job = "17";
  owner.restart = 1;
  for (const auto& [job, restart, taken] :
       {std::tuple{"17", "2", true}, std::tuple{"17", "1", false}, std::tuple{"18", "2", false}}) {
    setenv("SLURM_JOB_ID", job, 1);
    setenv("SLURM_RESTART_COUNT", restart, 1);
    leave(owner, 0);
    EXPECT_EQ(refusal() == "(taken)", taken) << job << " " << restart;
  }
}

TEST_F(RunLocks, AnUnfinishedLockIsSomebodyWhoIsStarting) {
  leave_text("host cn1\npid 12\n", 0);
  EXPECT_NE(refusal().find("another program writes to it (which is starting)"), std::string::npos);
  leave_text("", kOwnerStaleSeconds + 20);
  EXPECT_EQ(refusal(), "(taken)");
}

TEST_F(RunLocks, WhoLostItSeesThatBeforeItWrites) {
  {
    const RunLock lock(dir_.string());
    fs::remove(file());
    leave(elsewhere(), 0);
    try {
      lock.check();
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find("pid 4711 on cn7"), std::string::npos) << error.what();
    }
  }
  EXPECT_EQ(owner(), owner_text(elsewhere()));  // not removed by the one who lost it
}

TEST_F(RunLocks, WhatDiedWhileItTookTheLockIsRemovedLater) {
  const fs::path old = dir_ / "run.lock.cn1.12.0.tmp", young = dir_ / "run.lock.cn1.13.0.tmp";
  std::ofstream(old) << "x";
  std::ofstream(young) << "x";
  fs::last_write_time(old, fs::file_time_type::clock::now() - std::chrono::minutes(6));
  EXPECT_EQ(refusal(), "(taken)");
  EXPECT_FALSE(fs::exists(old));
  EXPECT_TRUE(fs::exists(young));
}

// Of 8 processes that want a free lock, or a dead one, at once, one has it and 7 are refused.
TEST_F(RunLocks, OneOfManyWins) {
  RunOwner dead = this_owner();
  dead.pid = ended();
  for (int round = 0; round < 60; ++round) {
    if (round % 2 == 1) leave(dead, 0);
    int start[2], verdicts[2], end[2];
    ASSERT_TRUE(pipe(start) == 0 && pipe(verdicts) == 0 && pipe(end) == 0);
    for (int p = 0; p < 8; ++p) {
      if (fork() != 0) continue;
      char verdict = '?', x;
      close(start[1]);
      close(end[1]);
      if (read(start[0], &x, 1) < 0) _exit(1);  // until all are there
      try {
        const RunLock lock(dir_.string());
        verdict = 'w';
        if (write(verdicts[1], &verdict, 1) != 1) _exit(1);
        if (read(end[0], &x, 1) < 0) _exit(1);  // holds it until all have tried
        lock.check();
      } catch (const InputError&) {
        verdict = 'r';
        if (write(verdicts[1], &verdict, 1) != 1) _exit(1);
      }
      _exit(0);
    }
    close(start[0]);
    close(start[1]);
    close(end[0]);
    int won = 0, refused = 0;
    for (int p = 0; p < 8; ++p) {
      char verdict = '?';
      ASSERT_EQ(read(verdicts[0], &verdict, 1), 1);
      won += verdict == 'w';
      refused += verdict == 'r';
    }
    close(end[1]);
    close(verdicts[0]);
    close(verdicts[1]);
    int failed = 0;
    for (int status; wait(&status) > 0;) failed += status != 0;
    EXPECT_EQ(won, 1) << "round " << round;
    EXPECT_EQ(refused, 7) << "round " << round;
    EXPECT_EQ(failed, 0) << "round " << round;
    EXPECT_EQ(files(), 0) << "round " << round;
  }
}

}  // namespace
}  // namespace convoy
