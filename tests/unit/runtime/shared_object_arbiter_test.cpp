// The arbiter of process-shared pthread objects, without agents: every answer in its order.
#include "runtime/ipc/shared_object_arbiter.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "shim/wire/shared_lease.h"
#include "shim/wire/shared_mutex.h"
#include "shim/wire/shared_read_write_lock.h"
#include "shim/wire/shared_spin_lock.h"

namespace elsewhere::runtime {
namespace {

using wire::SharedAction;
using wire::SharedKind;

class Arbiter : public testing::Test {
 protected:
  uint64_t Make(SharedKind kind, uint32_t flags = 0, uint32_t count = 0) {
    const uint64_t object = arbiter_.Make(kind);
    wire::SharedObjectState state;
    state.flags = flags;
    state.count = count;
    arbiter_.Begin(object, kind, 0, state);
    return object;
  }
  // Thread 10 of host 1 is {1, 10}; the request's number tells its answer.
  void Ask(uint64_t request, wire::HostId host, uint32_t thread, SharedAction action, uint64_t object,
           uint64_t argument = 0, uint64_t flags = 0) {
    arbiter_.Act(host, {request, action, thread, host, object, argument, flags});
  }
  // What was answered since the last time: "request error value" each.
  std::string Answers() {
    std::string all;
    for (const std::string& answer : answers_) all += (all.empty() ? "" : ", ") + answer;
    answers_.clear();
    return all;
  }

  static std::string NameOf(int error) {
    if (error == wire::kNotDone) return "NotDone";
    if (error == wire::kLockHere) return "LockHere";
    return error == wire::kLockHereTimedOut ? "LockHereTimedOut" : strerrorname_np(error);
  }

  std::vector<std::string> answers_;
  bool dying_ = false;
  SharedObjectArbiter arbiter_{
      [this](wire::HostId host, const wire::SharedAnswer& answer) {
        answers_.push_back(std::to_string(host) + ":" + std::to_string(answer.request) +
                           (answer.error != 0 ? " " + NameOf(answer.error) : "") +
                           (answer.value != 0 ? " =" + std::to_string(answer.value) : "") +
                           (answer.watch ? " watch" : ""));
      },
      [this](wire::Incarnation) { return dying_; },
      [this](wire::HostId host, const wire::SharedOrder& order) {
        static constexpr const char* kNames[] = {"", " lend", " recall", " forget"};
        answers_.push_back(std::to_string(host) + kNames[static_cast<uint32_t>(order.what)] +
                           (order.holder != 0 ? " by " + std::to_string(order.holder) : "") +
                           (order.count != 0 ? " =" + std::to_string(order.count) : ""));
      }};
};

TEST_F(Arbiter, MutexGoesRoundInOrder) {
  const uint64_t mutex = Make(SharedKind::kMutex);
  Ask(1, 0, 10, SharedAction::kLock, mutex);
  Ask(2, 1, 10, SharedAction::kLock, mutex);
  Ask(3, 2, 10, SharedAction::kLock, mutex);
  Ask(4, 2, 11, SharedAction::kTryLock, mutex);
  EXPECT_EQ(Answers(), "0:1, 2:4 EBUSY");
  Ask(0, 0, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "1:2");
  Ask(5, 0, 10, SharedAction::kDestroy, mutex);
  Ask(6, 1, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "0:5 EBUSY, 2:3, 1:6");
  Ask(7, 0, 10, SharedAction::kUnlock, mutex);  // a plain one asks nobody
  Ask(8, 0, 10, SharedAction::kDestroy, mutex);
  Ask(9, 0, 10, SharedAction::kLock, mutex);
  EXPECT_EQ(Answers(), "0:7, 0:8, 0:9 EINVAL");
}

TEST_F(Arbiter, TypesKnowTheirOwner) {
  const uint64_t recursive = Make(SharedKind::kMutex, wire::kMutexRecursive);
  Ask(1, 1, 10, SharedAction::kLock, recursive);
  Ask(2, 1, 10, SharedAction::kLock, recursive);
  Ask(3, 2, 10, SharedAction::kUnlock, recursive);  // the same number on another host
  Ask(4, 2, 10, SharedAction::kTryLock, recursive);
  Ask(5, 1, 10, SharedAction::kUnlock, recursive);
  Ask(6, 2, 10, SharedAction::kLock, recursive);
  EXPECT_EQ(Answers(), "1:1, 1:2, 2:3 EPERM, 2:4 EBUSY, 1:5");
  Ask(7, 1, 10, SharedAction::kUnlock, recursive);
  EXPECT_EQ(Answers(), "2:6, 1:7");
  const uint64_t checking = Make(SharedKind::kMutex, wire::kMutexErrorCheck);
  Ask(1, 1, 10, SharedAction::kLock, checking);
  Ask(2, 1, 10, SharedAction::kLock, checking);
  Ask(3, 1, 10, SharedAction::kTryLock, checking);
  Ask(4, 1, 10, SharedAction::kConsistent, checking);
  EXPECT_EQ(Answers(), "1:1, 1:2 EDEADLK, 1:3 EBUSY, 1:4 EINVAL");
  const uint64_t robust = Make(SharedKind::kMutex, wire::kMutexErrorCheck | wire::kMutexRobust);
  Ask(1, 1, 10, SharedAction::kLock, robust);
  Ask(2, 1, 10, SharedAction::kTryLock, robust);
  Ask(3, 2, 10, SharedAction::kTryLock, robust);
  EXPECT_EQ(Answers(), "1:1 watch, 1:2 EDEADLK, 2:3 EBUSY");
}

TEST_F(Arbiter, CancelledWaitIsAnsweredOnce) {
  const uint64_t mutex = Make(SharedKind::kMutex);
  Ask(1, 0, 10, SharedAction::kLock, mutex);
  Ask(2, 1, 10, SharedAction::kLock, mutex);
  Ask(0, 1, 0, SharedAction::kCancel, mutex, 2);
  Ask(0, 1, 0, SharedAction::kCancel, mutex, 2);
  EXPECT_EQ(Answers(), "0:1, 1:2 ETIMEDOUT");
  Ask(0, 0, 10, SharedAction::kUnlock, mutex);
  Ask(3, 1, 10, SharedAction::kLock, mutex);
  Ask(0, 1, 0, SharedAction::kCancel, mutex, 3);  // too late
  EXPECT_EQ(Answers(), "1:3");
  Ask(0, 1, 10, SharedAction::kReturn, mutex);
  Ask(4, 2, 10, SharedAction::kTryLock, mutex);
  EXPECT_EQ(Answers(), "2:4");
}

TEST_F(Arbiter, RobustMutexOutlivesItsOwners) {
  const uint64_t mutex = Make(SharedKind::kMutex, wire::kMutexRobust);
  const uint64_t plain = Make(SharedKind::kMutex);
  Ask(1, 1, 10, SharedAction::kLock, mutex);
  Ask(2, 1, 10, SharedAction::kLock, plain);
  Ask(3, 2, 10, SharedAction::kLock, mutex);
  Ask(4, 2, 11, SharedAction::kLock, plain);
  Ask(0, 1, 10, SharedAction::kOwnerDied, 0);
  EXPECT_EQ(Answers(), "1:1 watch, 1:2, 2:3 EOWNERDEAD watch");
  Ask(0, 2, 10, SharedAction::kOwnerDied, 0);  // whoever was told dies too
  Ask(5, 0, 10, SharedAction::kLock, mutex);
  Ask(6, 0, 10, SharedAction::kConsistent, mutex);
  Ask(7, 0, 10, SharedAction::kUnlock, mutex);
  Ask(8, 0, 10, SharedAction::kLock, mutex);
  EXPECT_EQ(Answers(), "0:5 EOWNERDEAD watch, 0:6, 0:7, 0:8 watch");
  Ask(9, 1, 12, SharedAction::kLock, mutex);
  Ask(0, 0, 10, SharedAction::kOwnerDied, 0);
  Ask(10, 2, 12, SharedAction::kLock, mutex);
  Ask(11, 1, 12, SharedAction::kUnlock, mutex);  // without making it consistent
  Ask(12, 1, 12, SharedAction::kTryLock, mutex);
  EXPECT_EQ(Answers(), "1:9 EOWNERDEAD watch, 2:10 ENOTRECOVERABLE, 1:11, 1:12 ENOTRECOVERABLE");
}

TEST_F(Arbiter, ReturnedRobustMutexStaysInconsistent) {
  const uint64_t mutex = Make(SharedKind::kMutex, wire::kMutexRobust);
  Ask(1, 1, 10, SharedAction::kLock, mutex);
  Ask(2, 2, 10, SharedAction::kLock, mutex);
  Ask(3, 2, 11, SharedAction::kLock, mutex);
  Ask(0, 1, 10, SharedAction::kOwnerDied, 0);
  Ask(0, 2, 10, SharedAction::kReturn, mutex);  // died before it heard
  EXPECT_EQ(Answers(), "1:1 watch, 2:2 EOWNERDEAD watch, 2:3 EOWNERDEAD watch");
}

TEST_F(Arbiter, TryWaitsForADeathThatIsCertain) {
  const uint64_t mutex = Make(SharedKind::kMutex, wire::kMutexRobust);
  Ask(1, 1, 10, SharedAction::kLock, mutex);
  Ask(2, 0, 10, SharedAction::kTryLock, mutex);
  dying_ = true;
  Ask(3, 0, 10, SharedAction::kTryLock, mutex);
  EXPECT_EQ(Answers(), "1:1 watch, 0:2 EBUSY");
  Ask(0, 1, 10, SharedAction::kOwnerDied, 0);
  EXPECT_EQ(Answers(), "0:3 EOWNERDEAD watch");
}

TEST_F(Arbiter, PromotionKeepsWhatWasHeld) {
  const uint64_t mutex = arbiter_.Make(SharedKind::kMutex);
  wire::SharedObjectState state;
  state.flags = wire::kMutexRecursive;
  state.owner = 10;
  state.held = true;
  state.count = 1;
  arbiter_.Begin(mutex, SharedKind::kMutex, 0, state);
  Ask(1, 1, 10, SharedAction::kLock, mutex);
  Ask(2, 0, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "0:2");
  Ask(3, 0, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "1:1, 0:3");
}

TEST_F(Arbiter, SignalMovesOneWaiterToTheMutex) {
  const uint64_t mutex = Make(SharedKind::kMutex);
  const uint64_t condition = Make(SharedKind::kCondition);
  for (uint64_t host = 1; host <= 3; ++host) {
    Ask(host, static_cast<wire::HostId>(host), 10, SharedAction::kLock, mutex);
    Ask(10 + host, static_cast<wire::HostId>(host), 10, SharedAction::kWait, condition, mutex);
  }
  EXPECT_EQ(Answers(), "1:1, 2:2, 3:3");  // each got it because the one before it waits
  Ask(20, 0, 10, SharedAction::kLock, mutex);
  Ask(0, 0, 10, SharedAction::kSignal, condition);
  EXPECT_EQ(Answers(), "0:20");
  Ask(0, 0, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "1:11");
  Ask(0, 0, 10, SharedAction::kBroadcast, condition);
  EXPECT_EQ(Answers(), "");
  Ask(0, 1, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "2:12");
  Ask(0, 2, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "3:13");
}

TEST_F(Arbiter, DeadlineOfAWaitLocksAgain) {
  const uint64_t mutex = Make(SharedKind::kMutex, wire::kMutexErrorCheck);
  const uint64_t condition = Make(SharedKind::kCondition);
  Ask(1, 1, 10, SharedAction::kWait, condition, mutex);
  Ask(2, 1, 10, SharedAction::kLock, mutex);
  Ask(3, 1, 10, SharedAction::kWait, condition, mutex);
  Ask(4, 2, 10, SharedAction::kLock, mutex);
  EXPECT_EQ(Answers(), "1:1 EPERM, 1:2, 2:4");
  Ask(0, 1, 0, SharedAction::kCancel, condition, 3);
  Ask(0, 2, 10, SharedAction::kSignal, condition);  // too late for it
  EXPECT_EQ(Answers(), "");
  Ask(5, 2, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "1:3 ETIMEDOUT, 2:5");
  // Signalled first: its deadline has nothing to say any more.
  Ask(6, 1, 10, SharedAction::kWait, condition, mutex);
  Ask(7, 2, 10, SharedAction::kLock, mutex);
  Ask(0, 2, 10, SharedAction::kSignal, condition);
  Ask(0, 1, 0, SharedAction::kCancel, condition, 6);
  Ask(8, 2, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "2:7, 1:6, 2:8");
}

TEST_F(Arbiter, AbandonedWaitTakesNoMutex) {
  const uint64_t mutex = Make(SharedKind::kMutex);
  const uint64_t condition = Make(SharedKind::kCondition);
  Ask(1, 1, 10, SharedAction::kLock, mutex);
  Ask(2, 1, 10, SharedAction::kWait, condition, mutex);
  Ask(0, 1, 10, SharedAction::kAbandon, condition, 2, mutex);
  EXPECT_EQ(Answers(), "1:1, 1:2 ECANCELED");
  Ask(3, 1, 11, SharedAction::kLock, mutex);
  Ask(4, 1, 11, SharedAction::kWait, condition, mutex);
  Ask(5, 2, 10, SharedAction::kLock, mutex);
  Ask(0, 2, 10, SharedAction::kSignal, condition);
  Ask(0, 1, 11, SharedAction::kAbandon, condition, 4, mutex);
  EXPECT_EQ(Answers(), "1:3, 2:5, 1:4 ECANCELED");
  Ask(0, 2, 10, SharedAction::kUnlock, mutex);
  Ask(6, 2, 10, SharedAction::kTryLock, mutex);
  EXPECT_EQ(Answers(), "2:6");
}

TEST_F(Arbiter, SignalBetweenSequenceAndAwaitIsNotLost) {
  const uint64_t condition = Make(SharedKind::kCondition, 0, 7);
  Ask(1, 1, 10, SharedAction::kGetSequence, condition);
  Ask(2, 1, 10, SharedAction::kAwait, condition, 7);
  Ask(3, 2, 10, SharedAction::kSignal, condition);
  Ask(4, 2, 10, SharedAction::kAwait, condition, 7);
  Ask(5, 2, 10, SharedAction::kAwait, condition, 8);
  Ask(0, 2, 0, SharedAction::kCancel, condition, 5);
  EXPECT_EQ(Answers(), "1:1 =7, 1:2, 2:3, 2:4, 2:5 ETIMEDOUT");
}

TEST_F(Arbiter, BarrierLetsAllGoTogether) {
  const uint64_t barrier = Make(SharedKind::kBarrier, 0, 3);
  for (int round = 0; round < 2; ++round) {
    Ask(1, 1, 10, SharedAction::kBarrierWait, barrier);
    Ask(2, 2, 10, SharedAction::kBarrierWait, barrier);
    EXPECT_EQ(Answers(), "");
    Ask(2, 0, 10, SharedAction::kBarrierWait, barrier);
    EXPECT_EQ(Answers(), "1:1, 2:2, 0:2 =1");
  }
}

TEST_F(Arbiter, ReadersComeFirst) {
  const uint64_t lock = Make(SharedKind::kReadWriteLock);
  Ask(1, 1, 10, SharedAction::kReadLock, lock);
  Ask(2, 2, 10, SharedAction::kWriteLock, lock);
  Ask(3, 0, 10, SharedAction::kReadLock, lock);
  Ask(4, 0, 11, SharedAction::kTryWriteLock, lock);
  EXPECT_EQ(Answers(), "1:1, 0:3, 0:4 EBUSY");
  Ask(0, 1, 10, SharedAction::kReadWriteUnlock, lock);
  Ask(0, 0, 10, SharedAction::kReadWriteUnlock, lock);
  EXPECT_EQ(Answers(), "2:2");
  Ask(5, 2, 10, SharedAction::kReadLock, lock);
  Ask(6, 2, 10, SharedAction::kTryReadLock, lock);
  Ask(7, 1, 10, SharedAction::kWriteLock, lock);
  Ask(8, 1, 11, SharedAction::kReadLock, lock);
  Ask(9, 0, 11, SharedAction::kReadLock, lock);
  Ask(10, 0, 11, SharedAction::kDestroy, lock);
  EXPECT_EQ(Answers(), "2:5 EDEADLK, 2:6 EBUSY, 0:10 EBUSY");
  Ask(0, 2, 10, SharedAction::kReadWriteUnlock, lock);
  EXPECT_EQ(Answers(), "1:8, 0:9");
  Ask(0, 1, 11, SharedAction::kReadWriteUnlock, lock);
  Ask(0, 0, 11, SharedAction::kReadWriteUnlock, lock);
  Ask(0, 1, 10, SharedAction::kReadWriteUnlock, lock);
  Ask(11, 1, 10, SharedAction::kReadWriteUnlock, lock);
  EXPECT_EQ(Answers(), "1:7, 1:11 EPERM");
}

TEST_F(Arbiter, WritersComeFirstWhereAsked) {
  const uint64_t lock = Make(SharedKind::kReadWriteLock, wire::kReadWritePrefersWriters);
  Ask(1, 1, 10, SharedAction::kReadLock, lock);
  Ask(2, 2, 10, SharedAction::kWriteLock, lock);
  Ask(3, 0, 10, SharedAction::kReadLock, lock);
  EXPECT_EQ(Answers(), "1:1");
  Ask(0, 2, 0, SharedAction::kCancel, lock, 2);  // nobody is preferred any more
  EXPECT_EQ(Answers(), "2:2 ETIMEDOUT, 0:3");
  Ask(4, 2, 10, SharedAction::kWriteLock, lock);
  Ask(0, 1, 10, SharedAction::kReadWriteUnlock, lock);
  Ask(5, 1, 10, SharedAction::kReadLock, lock);
  Ask(0, 0, 10, SharedAction::kReadWriteUnlock, lock);
  EXPECT_EQ(Answers(), "2:4");
  Ask(0, 2, 10, SharedAction::kReadWriteUnlock, lock);
  EXPECT_EQ(Answers(), "1:5");
}

TEST_F(Arbiter, HostsTakeTheirWaitersAlong) {
  const uint64_t robust = Make(SharedKind::kMutex, wire::kMutexRobust);
  Ask(1, 1, 10, SharedAction::kLock, robust);
  Ask(2, 1, 11, SharedAction::kLock, robust);
  Ask(3, 2, 10, SharedAction::kLock, robust);
  EXPECT_EQ(Answers(), "1:1 watch");
  arbiter_.HostGone(1);
  EXPECT_EQ(Answers(), "2:3 EOWNERDEAD watch");
}

TEST_F(Arbiter, SpinLocksHaveSmallNumbers) {
  const uint64_t spin = Make(SharedKind::kSpinLock);
  EXPECT_LT(spin, wire::kSpinLocks);
  EXPECT_GT(Make(SharedKind::kMutex), uint64_t{wire::kSpinLocks});
  Ask(1, 1, 10, SharedAction::kLock, spin);
  Ask(2, 2, 10, SharedAction::kTryLock, spin);
  Ask(3, 2, 10, SharedAction::kMake, 0, 3, static_cast<uint64_t>(SharedKind::kBarrier) << 32);
  EXPECT_EQ(Answers(), "1:1, 2:2 EBUSY, 2:3 =" + std::to_string(wire::kSpinLocks + 2));
}

// ---- Objects that one host alone uses

class Leases : public Arbiter {
 protected:
  // Thread 10 of host 1 locks and unlocks until the mutex is lent to it, with that lock.
  uint64_t LendMutex(uint32_t flags = 0) {
    const uint64_t mutex = Make(SharedKind::kMutex, flags);
    for (int i = 0; i < kMany; ++i) {
      Ask(1, 1, 10, SharedAction::kLock, mutex);
      if (Answers() == "1 lend by 10, 1:1") return mutex;
      Ask(0, 1, 10, SharedAction::kUnlock, mutex);
    }
    return 0;
  }
  uint64_t LendCondition() {
    const uint64_t condition = Make(SharedKind::kCondition);
    for (int i = 0; i < kMany; ++i) {
      Ask(0, 1, 10, SharedAction::kSignal, condition);
      if (Answers().starts_with("1 lend =")) return condition;
    }
    return 0;
  }
  static constexpr int kMany = 20;  // more than a host needs in a row
};

TEST_F(Leases, OthersWaitUntilItIsBack) {
  const uint64_t mutex = LendMutex();
  ASSERT_NE(mutex, 0);
  Ask(2, 2, 10, SharedAction::kLock, mutex);
  Ask(3, 0, 10, SharedAction::kTryLock, mutex);
  EXPECT_EQ(Answers(), "1 recall");
  Ask(0, 1, 10, SharedAction::kReturnLease, mutex, 0, wire::kReturnedHeld);
  EXPECT_EQ(Answers(), "0:3 EBUSY");
  Ask(0, 1, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "2:2");
}

TEST_F(Leases, WhatItsHostAskedBeforeItKnewIsToBeTriedAgain) {
  const uint64_t mutex = Make(SharedKind::kMutex);
  std::string answers;
  for (int i = 0; i < kMany && !answers.starts_with("1 lend"); ++i) {
    for (uint32_t thread = 0; thread < 3; ++thread)
      Ask(thread + 1, 1, 10 + thread, SharedAction::kLock, mutex);
    EXPECT_EQ(Answers(), "1:1");
    Ask(0, 1, 10, SharedAction::kUnlock, mutex);
    answers = Answers();
    Ask(0, 1, 11, SharedAction::kUnlock, mutex);
    Ask(0, 1, 12, SharedAction::kUnlock, mutex);
    Answers();
  }
  EXPECT_EQ(answers, "1 lend by 11, 1:3 NotDone, 1:2");
  Ask(5, 1, 11, SharedAction::kLock, mutex);
  Ask(6, 1, 11, SharedAction::kDestroy, mutex);
  Ask(0, 1, 11, SharedAction::kCancel, mutex, 5);
  EXPECT_EQ(Answers(), "1:5 NotDone, 1:6 NotDone");
}

TEST_F(Leases, WhoeverElseWaitsKeepsItHere) {
  const uint64_t mutex = Make(SharedKind::kMutex);
  Ask(1, 1, 10, SharedAction::kLock, mutex);
  Ask(2, 2, 10, SharedAction::kLock, mutex);
  for (uint64_t i = 0; i < kMany; ++i) Ask(10 + i, 1, 11, SharedAction::kTryLock, mutex);
  answers_.clear();
  Ask(3, 1, 11, SharedAction::kLock, mutex);
  Ask(0, 1, 10, SharedAction::kUnlock, mutex);
  Ask(0, 2, 10, SharedAction::kUnlock, mutex);
  EXPECT_EQ(Answers(), "2:2, 1:3");
}

TEST_F(Leases, ALockForReadingGoesWithItsOnlyReader) {
  const uint64_t lock = Make(SharedKind::kReadWriteLock);
  Ask(1, 1, 10, SharedAction::kReadLock, lock);
  for (uint64_t i = 0; i < kMany; ++i) {
    Ask(2, 1, 11, SharedAction::kReadLock, lock);  // the other one's unlock may be on its way
    EXPECT_EQ(Answers(), i == 0 ? "1:1, 1:2" : "1:2");
    Ask(0, 1, 11, SharedAction::kReadWriteUnlock, lock);
  }
  Ask(0, 1, 10, SharedAction::kReadWriteUnlock, lock);
  Ask(3, 1, 11, SharedAction::kReadLock, lock);
  EXPECT_EQ(Answers(), "1 lend =1, 1:3");
  Ask(4, 1, 10, SharedAction::kReadLock, lock);
  Ask(5, 2, 10, SharedAction::kTryWriteLock, lock);
  Ask(6, 2, 11, SharedAction::kReadLock, lock);
  EXPECT_EQ(Answers(), "1:4 NotDone, 1 recall");
  Ask(0, 1, 0, SharedAction::kReturnLease, lock, 2);
  EXPECT_EQ(Answers(), "2:5 EBUSY, 2:6");
  Ask(7, 2, 10, SharedAction::kWriteLock, lock);
  for (const wire::HostId host : {1U, 1U, 2U}) Ask(0, host, 10, SharedAction::kReadWriteUnlock, lock);
  EXPECT_EQ(Answers(), "2:7");
}

TEST_F(Leases, ALockForWritingGoesWithWhoeverWaitedForIt) {
  const uint64_t lock = Make(SharedKind::kReadWriteLock);
  Ask(1, 1, 10, SharedAction::kWriteLock, lock);
  Ask(2, 1, 11, SharedAction::kWriteLock, lock);
  Ask(3, 1, 12, SharedAction::kReadLock, lock);
  for (uint64_t i = 0; i < kMany; ++i) Ask(0, 1, 13, SharedAction::kTryReadLock, lock);
  answers_.clear();
  Ask(0, 1, 10, SharedAction::kReadWriteUnlock, lock);
  EXPECT_EQ(Answers(), "1 lend =1, 1:2 NotDone, 1:3");
  Ask(4, 2, 10, SharedAction::kTryReadLock, lock);
  Ask(0, 1, 11, SharedAction::kReturnLease, lock, 0, wire::kReturnedHeld);
  EXPECT_EQ(Answers(), "1 recall, 2:4 EBUSY");
  Ask(5, 1, 11, SharedAction::kReadLock, lock);
  EXPECT_EQ(Answers(), "1:5 EDEADLK");
  Ask(0, 1, 11, SharedAction::kReadWriteUnlock, lock);
  Ask(6, 2, 10, SharedAction::kTryWriteLock, lock);
  EXPECT_EQ(Answers(), "2:6");
}

TEST_F(Leases, ASpinLockGoesWithItsHolder) {
  const uint64_t spin = Make(SharedKind::kSpinLock);
  std::string answers;
  for (int i = 0; i < kMany && !answers.starts_with("1 lend"); ++i) {
    Ask(1, 1, 10, SharedAction::kLock, spin);
    answers = Answers();
    if (!answers.starts_with("1 lend")) Ask(0, 1, 10, SharedAction::kUnlock, spin);
  }
  EXPECT_EQ(answers, "1 lend by 10, 1:1");
  Ask(2, 2, 10, SharedAction::kTryLock, spin);
  Ask(0, 1, 0, SharedAction::kReturnLease, spin);
  EXPECT_EQ(Answers(), "1 recall, 2:2");
}

TEST_F(Leases, RobustMutexesStay) {
  EXPECT_EQ(LendMutex(wire::kMutexRobust), 0);
}

TEST_F(Leases, AWaitThatIsOverLocksWhereItsMutexIs) {
  const uint64_t condition = Make(SharedKind::kCondition);
  const uint64_t other = Make(SharedKind::kMutex);
  Ask(1, 1, 11, SharedAction::kLock, other);
  Ask(2, 1, 11, SharedAction::kWait, condition, other);
  Ask(3, 1, 12, SharedAction::kLock, other);
  Ask(4, 1, 12, SharedAction::kWait, condition, other);
  for (int i = 0; i < kMany; ++i) {
    answers_.clear();
    Ask(5, 1, 10, SharedAction::kLock, other);
    if (Answers() == "1 lend by 10, 1:5") break;
    Ask(0, 1, 10, SharedAction::kUnlock, other);
  }
  Ask(0, 1, 10, SharedAction::kSignal, condition);
  Ask(0, 1, 12, SharedAction::kCancel, condition, 4);
  EXPECT_EQ(Answers(), "1:2 LockHere, 1:4 LockHereTimedOut");
}

TEST_F(Leases, AConditionThatNobodyWaitsForGoes) {
  const uint64_t condition = LendCondition();
  ASSERT_NE(condition, 0);
  Ask(1, 1, 10, SharedAction::kWait, condition, 99);
  EXPECT_EQ(Answers(), "1:1 NotDone");
  Ask(2, 2, 10, SharedAction::kGetSequence, condition);
  EXPECT_EQ(Answers(), "1 recall");
  Ask(0, 1, 0, SharedAction::kReturnLease, condition, 77);
  EXPECT_EQ(Answers(), "2:2 =77");
}

TEST_F(Leases, WhatIsDestroyedIsForgottenWhereItWas) {
  const uint64_t mutex = LendMutex();
  Ask(2, 0, 10, SharedAction::kDestroy, mutex);
  Ask(0, 1, 0, SharedAction::kReturnLease, mutex);
  EXPECT_EQ(Answers(), "1 recall, 1 forget, 0:2");
}

TEST_F(Leases, WhatCannotBeTakenIsNotLentAgain) {
  const uint64_t mutex = LendMutex();
  Ask(0, 1, 10, SharedAction::kReturnLease, mutex, 0, wire::kReturnedHeld | wire::kReturnedUntaken);
  for (int i = 0; i < 1000; ++i) {
    Ask(0, 1, 10, SharedAction::kUnlock, mutex);
    Ask(1, 1, 10, SharedAction::kLock, mutex);
    ASSERT_EQ(Answers(), "1:1");
  }
}

TEST_F(Leases, AHostThatIsGoneHasNothing) {
  const uint64_t mutex = LendMutex();
  Ask(2, 2, 10, SharedAction::kTryLock, mutex);
  Answers();
  arbiter_.HostGone(1);
  EXPECT_EQ(Answers(), "2:2 EBUSY");
}

}  // namespace
}  // namespace elsewhere::runtime
