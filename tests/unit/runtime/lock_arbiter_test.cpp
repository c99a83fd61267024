// Who gets which lock, and what hosts are asked for, as home decides it.
#include "runtime/file/lock_arbiter.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>
#include <vector>

namespace elsewhere::runtime {
namespace {

using abi::FileLockCommand;
using abi::FileLockKind;
using abi::FileLockType;
using wire::HostId;

constexpr HostId kOne = 1, kOther = 2;

class LockArbiterTest : public testing::Test {
 protected:
  // Answers the request's number.
  uint64_t Ask(HostId host, FileLockCommand command, FileLockKind kind, FileLockType type, int pid = 0,
               uint64_t from = 0, uint64_t to = UINT64_MAX) {
    wire::FileLock lock{.number = ++last_,
                        .key = key_,
                        .pid = pid,
                        .command = command,
                        .kind = kind,
                        .type = type,
                        .from = from,
                        .to = to};
    arbiter_.Take(host, lock);
    return last_;
  }
  uint64_t Flock(HostId host, FileLockCommand command, FileLockType type = FileLockType::kExclusive) {
    return Ask(host, command, FileLockKind::kFlock, type);
  }
  // What a host was asked for last and has not answered.
  const wire::FileLockWanted& Wanted(HostId host) { return wanted_.at(host); }
  void Give(HostId host, bool given = true) {
    const uint64_t number = wanted_.at(host).number;
    wanted_.erase(host);
    arbiter_.Given(host, number, given);
  }
  // -1: none yet
  int Answer(uint64_t number) { return answers_.contains(number) ? answers_.at(number).error : -1; }

  std::map<uint64_t, wire::FileLockAnswer> answers_;
  std::map<HostId, wire::FileLockWanted> wanted_;
  LockArbiter arbiter_{
      [this](HostId, const wire::FileLockAnswer& answer) { answers_[answer.number] = answer; },
      [this](HostId host, const wire::FileLockWanted& wanted) { wanted_[host] = wanted; }};
  uint64_t last_ = 0;
  std::string key_ = "file";
};

TEST_F(LockArbiterTest, ARightIsHomesFirstAndStaysWhereItIsUntilItIsWanted) {
  const auto first = Flock(kOne, FileLockCommand::kWait);
  EXPECT_EQ(Answer(first), -1);
  EXPECT_EQ(Wanted(wire::kHome).wait, 1);
  Give(wire::kHome);
  EXPECT_EQ(Answer(first), 0);
  EXPECT_EQ(Answer(Flock(kOne, FileLockCommand::kTry)), 0);
  const auto second = Flock(kOther, FileLockCommand::kTry);
  EXPECT_EQ(Wanted(kOne).wait, 0);
  EXPECT_EQ(Answer(second), -1);
  Give(kOne, false);
  EXPECT_EQ(Answer(second), EAGAIN);
  const auto third = Flock(kOther, FileLockCommand::kTry);
  Give(kOne);
  EXPECT_EQ(Answer(third), 0);
}

TEST_F(LockArbiterTest, SharedRightsAreKeptBesideEachOther) {
  const auto first = Flock(kOne, FileLockCommand::kTry, FileLockType::kShared);
  Give(wire::kHome);
  EXPECT_EQ(Answer(first), 0);
  EXPECT_EQ(Answer(Flock(kOther, FileLockCommand::kTry, FileLockType::kShared)), 0);
  EXPECT_EQ(Answer(Flock(wire::kHome, FileLockCommand::kTry, FileLockType::kShared)), 0);
  const auto exclusive = Flock(kOne, FileLockCommand::kTry);
  Give(wire::kHome);
  EXPECT_EQ(Answer(exclusive), -1);
  Give(kOther);
  EXPECT_EQ(Answer(exclusive), 0);
}

// Two wait; the one that gets it is asked for it, for the other still waits.
TEST_F(LockArbiterTest, WhoeverGetsARightIsAskedForItByThoseWhoWait) {
  const auto one = Flock(kOne, FileLockCommand::kWait), other = Flock(kOther, FileLockCommand::kWait);
  Give(wire::kHome);
  EXPECT_EQ(Answer(one), 0);
  EXPECT_EQ(Answer(other), -1);
  EXPECT_EQ(Wanted(kOne).wait, 1);
  Give(kOne);
  EXPECT_EQ(Answer(other), 0);
}

TEST_F(LockArbiterTest, AHostThatIsGoneHasGivenEverything) {
  const auto first = Flock(kOne, FileLockCommand::kWait);
  Give(wire::kHome);
  const auto waits = Flock(kOther, FileLockCommand::kWait), tries = Flock(wire::kHome, FileLockCommand::kTry);
  EXPECT_EQ(Answer(first), 0);
  arbiter_.HostGone(kOne);
  EXPECT_EQ(Answer(waits), 0);
  EXPECT_EQ(Answer(tries), EAGAIN);
  arbiter_.HostGone(kOther);
  EXPECT_EQ(Answer(Flock(wire::kHome, FileLockCommand::kTry)), 0);
}

TEST_F(LockArbiterTest, ProcessesThatWaitForEachOtherAreTold) {
  const auto lock = [this](HostId host, int pid, uint64_t byte, FileLockCommand command) {
    return Ask(host, command, FileLockKind::kProcess, FileLockType::kExclusive, pid, byte, byte + 1);
  };
  EXPECT_EQ(Answer(lock(kOne, 10, 0, FileLockCommand::kTry)), 0);
  EXPECT_EQ(Answer(lock(kOther, 20, 1, FileLockCommand::kTry)), 0);
  const auto waits = lock(kOne, 10, 1, FileLockCommand::kWait);
  EXPECT_EQ(Answer(waits), -1);
  EXPECT_EQ(Answer(lock(kOther, 20, 0, FileLockCommand::kWait)), EDEADLK);
  EXPECT_TRUE(arbiter_.HoldsAny(20));
  arbiter_.ReleaseProcess(20);
  EXPECT_EQ(Answer(waits), 0);
}

TEST_F(LockArbiterTest, AnInterruptedCallDoesNotWaitAnyMore) {
  const auto lock = [this](HostId host, int pid, FileLockCommand command) {
    return Ask(host, command, FileLockKind::kProcess, FileLockType::kExclusive, pid);
  };
  EXPECT_EQ(Answer(lock(kOne, 10, FileLockCommand::kTry)), 0);
  const auto waits = lock(kOther, 20, FileLockCommand::kWait);
  arbiter_.Cancel(kOther, waits);
  EXPECT_EQ(Answer(waits), EINTR);
  arbiter_.ReleaseProcess(10);
  EXPECT_EQ(Answer(lock(kOne, 30, FileLockCommand::kTry)), 0);
}

TEST_F(LockArbiterTest, AFileThatIsAskedForIsTheSameForAll) {
  const auto ask = [this](HostId host, FileLockCommand command) {
    return Ask(host, command, FileLockKind::kDescription, FileLockType::kExclusive);
  };
  EXPECT_EQ(Answer(ask(kOne, FileLockCommand::kTry)), 0);
  const auto looks = ask(kOther, FileLockCommand::kGet);
  const uint64_t for_look = Wanted(kOne).number;
  const auto tries = ask(kOther, FileLockCommand::kTry);
  arbiter_.Given(kOne, for_look, true);
  EXPECT_EQ(Answer(looks), 0);
  Give(kOne);
  EXPECT_EQ(Answer(tries), 0);
  const auto again = ask(kOne, FileLockCommand::kTry);
  EXPECT_EQ(Answer(again), -1) << "the other has it";
  Give(kOther, false);
  EXPECT_EQ(Answer(again), EAGAIN);
}

TEST_F(LockArbiterTest, ALockFollowsItsFileAndNotTheName) {
  const auto lock = [this](int pid, FileLockCommand command) {
    return Ask(kOne, command, FileLockKind::kProcess, FileLockType::kExclusive, pid);
  };
  EXPECT_EQ(Answer(lock(10, FileLockCommand::kTry)), 0);
  arbiter_.NameGone(0, "file", "dir/file");
  EXPECT_EQ(Answer(lock(20, FileLockCommand::kTry)), 0) << "another file of that name";
  arbiter_.NameGone(0, "dir", "moved");
  key_ = "moved/file";
  EXPECT_EQ(Answer(lock(30, FileLockCommand::kTry)), EAGAIN);
  arbiter_.ReleaseProcess(10);
  EXPECT_EQ(Answer(lock(30, FileLockCommand::kTry)), 0);
  arbiter_.ReleaseProcess(20);
  arbiter_.ReleaseProcess(30);
  EXPECT_TRUE(arbiter_.empty());
}

}  // namespace
}  // namespace elsewhere::runtime
