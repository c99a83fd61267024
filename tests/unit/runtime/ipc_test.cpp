// Semaphores and shared memory between hosts.
#include "shim/wire/shared_spin_lock.h"
#include "tests/unit/runtime/ipc_hosts.h"

namespace elsewhere::runtime {
namespace {

TEST_F(IpcTest, ASegmentIsWhereItsProcessesAre) {
  live_[0] = 1;
  uint8_t* remote = Fork(1, 100);
  EXPECT_EQ(remote[0], 1);
  remote[1] = 2;
  Host(1).component().BeforeSend(0);
  Await([&] { return live_[1] == 2; });
  live_[2] = 3;  // nobody releases anything: the timer brings it
  Await([&] { return remote[2] == 3; });
  uint8_t* third = Fork(2, 101);
  EXPECT_EQ(third[1], 2);
  third[3] = 4;
  Await([&] { return remote[3] == 4 && live_[3] == 4; });
  for (size_t host = 0; host < 3; ++host) EXPECT_EQ(Host(host).fatal(), "");
}

TEST_F(IpcTest, TheSameByteOnTwoHostsEndsTheSession) {
  uint8_t* remote = Fork(1, 100);
  remote[7] = 1;
  live_[7] = 2;
  Host(0).component().BeforeSend(1);
  Host(1).component().BeforeSend(0);
  Await([&] { return !Host(0).fatal().empty() && !Host(1).fatal().empty(); });
  EXPECT_NE(Host(0).fatal().find("byte 7 of /dev/shm/test"), std::string::npos) << Host(0).fatal();
}

TEST_F(IpcTest, AJoinComparesOnceHoweverMuchThereIs) {
  const std::vector<uint8_t> content(4 << 20, 7);
  ASSERT_EQ(pwrite(object_, content.data(), content.size(), 0), static_cast<ssize_t>(content.size()));
  const int before = Host(0).sends();
  uint8_t* remote = Fork(1, 100);
  EXPECT_EQ(Host(0).sends() - before, 1);
  EXPECT_EQ(remote[8191], 7);
}

// Memory is compared when a message goes that comes of what happened since it was.
TEST_F(IpcTest, WhatHappenedBeforeAPublicationNeedsNoOther) {
  std::memset(live_, 7, 8192);
  uint8_t* remote = Fork(1, 100);
  TestAgent& home = Host(0);
  const wire::SegmentLeave message{12345};
  const Agent::Moment forked = home.moment();
  live_[1] = 1;
  home.SendAsOf(forked, 1, message);
  EXPECT_EQ(home.moment(), forked + 1) << "nobody had compared since";
  home.SendAsOf(forked, 1, message);
  EXPECT_EQ(home.moment(), forked + 1);
  home.SendAsOf(home.moment(), 1, message);
  EXPECT_EQ(home.moment(), forked + 2);
  home.Send(1, message);
  EXPECT_EQ(home.moment(), forked + 3);
  Await([&] { return remote[1] == 1; });
}

// What was made while nobody elsewhere used the memory is written to at the next fork.
TEST_F(IpcTest, WhatAForkPromotesGoesBeforeItsJob) {
  struct stat status {};
  fstat(object_, &status);
  const auto device = static_cast<int64_t>(status.st_dev), inode = static_cast<int64_t>(status.st_ino);
  std::memset(live_, 7, 8192);
  uint8_t* remote = Fork(1, 100);
  TestAgent& home = Host(0);
  const auto end = [&](pid_t pid) {
    const Process gone{
        .kernel_pid = pid, .incarnation = wire::MakeIncarnation(0, static_cast<uint64_t>(pid)), .runs_on = 1};
    Host(1).component().ProcessGone(gone);
    home.component().ProcessGone(gone);
  };
  const auto fork = [&](pid_t pid) {
    home.component().BeforeSend(1);
    const Agent::Moment forked = home.moment();
    const Process process{.kernel_pid = pid,
                          .session_pid = pid,
                          .incarnation = wire::MakeIncarnation(0, static_cast<uint64_t>(pid))};
    std::vector<HeldDescriptor> attached{{.number = 5, .descriptor = dup(object_), .flags = 0}};
    wire::Job job;
    home.AddProcess(pid, process.incarnation);
    EXPECT_TRUE(home.component().Captured(process, Manifest(object_, 1), attached, job).ok());
    home.SendAsOf(forked - 1, 1, wire::SegmentLeave{12345});
    EXPECT_EQ(home.moment(), forked + 1);
  };

  end(100);
  EXPECT_EQ(Finish(0, home.Start(abi::Operation::kSemInit, {0, device, inode, 64, 1})).result, 0);
  wire::SemaphoreInit(At(live_, 64), 1);
  fork(101);
  ASSERT_TRUE(wire::IsPromoted(At(live_, 64)));
  Await([&] { return wire::IsPromoted(At(remote, 64)); });

  end(101);
  const auto kind = static_cast<int64_t>(wire::SharedKind::kSpinLock);
  auto* const lock = reinterpret_cast<wire::SpinLock*>(live_ + 128);
  EXPECT_EQ(Finish(0, home.Start(abi::Operation::kSharedMake, {kind, 0, device, inode, 128})).result, 0);
  wire::SpinInit(lock);
  fork(102);
  ASSERT_TRUE(wire::IsPromoted(lock));
  Await([&] { return wire::IsPromoted(reinterpret_cast<wire::SpinLock*>(remote + 128)); });
}

// Children that use it one after another: the content has gone there once.
TEST_F(IpcTest, ASegmentRestsWhereItWasUsed) {
  std::memset(live_, 1, 8192);
  uint8_t* remote = Fork(1, 100);
  remote[1] = 2;
  const Process gone{.kernel_pid = 100, .incarnation = wire::MakeIncarnation(0, 100), .runs_on = 1};
  Host(1).component().ProcessGone(gone);
  Await([&] { return live_[1] == 2; });
  Host(0).component().ProcessGone(gone);
  live_[2] = 3;
  Host(0).component().BeforeSend(1);  // as with the next job
  const int before = Host(0).sends();
  uint8_t* again = Fork(1, 101);
  EXPECT_EQ(Host(0).sends(), before) << "nothing was asked for again";
  Await([&] { return again[2] == 3; });
  EXPECT_EQ(again[1], 2);
}

TEST_F(IpcTest, ALockAndACounterCountRight) {
  struct stat status {};
  fstat(object_, &status);
  const CallId made = Host(0).Start(abi::Operation::kSemInit, {0, static_cast<int64_t>(status.st_dev),
                                                               static_cast<int64_t>(status.st_ino), 64, 1});
  EXPECT_EQ(Finish(0, made).result, 0) << "native";
  wire::SemaphoreInit(At(live_, 64), 1);
  uint8_t* memory[3] = {live_, Fork(1, 100), Fork(2, 101)};
  ASSERT_TRUE(wire::IsPromoted(At(live_, 64)));
  for (int host = 1; host < 3; ++host) {
    ASSERT_TRUE(wire::IsOurs(At(memory[host], 64)) && wire::IsPromoted(At(memory[host], 64)));
    EXPECT_EQ(ObjectAt(memory[host], 64), ObjectAt(live_, 64));
  }
  const int64_t object = ObjectAt(live_, 64);
  for (int round = 0; round < 60; ++round) {
    // All three wait; each adds one while it holds the lock.
    CallId waits[3];
    for (size_t host = 0; host < 3; ++host)
      waits[host] = Host(host).Start(abi::Operation::kSemWait, {object, -1});
    bool done[3] = {};
    for (int turn = 0; turn < 3; ++turn) {
      size_t holder = 3;
      Await([&] {
        for (size_t host = 0; host < 3; ++host) {
          if (!done[host] && Host(host).Get(waits[host]) != nullptr) holder = host;
        }
        return holder < 3;
      });
      ASSERT_LT(holder, 3U);
      ASSERT_EQ(Host(holder).Get(waits[holder])->result, 0);
      done[holder] = true;
      int counter;
      std::memcpy(&counter, memory[holder] + 128, sizeof counter);
      ASSERT_EQ(counter, 3 * round + turn);
      ++counter;
      std::memcpy(memory[holder] + 128, &counter, sizeof counter);
      Host(holder).component().BeforeSend(0);  // as Drain does for a registered poster
      ASSERT_EQ(Finish(holder, Host(holder).Start(abi::Operation::kSemPost, {object})).result, 0);
    }
  }
  for (size_t host = 0; host < 3; ++host) EXPECT_EQ(Host(host).fatal(), "");
}

TEST_F(IpcTest, WaitsEndAsTheyShould) {
  struct stat status {};
  fstat(object_, &status);
  uint8_t* remote = Fork(1, 100);
  // Made after the segment is shared: promoted from the start.
  const CallId made = Host(1).Start(abi::Operation::kSemInit, {0, static_cast<int64_t>(status.st_dev),
                                                               static_cast<int64_t>(status.st_ino), 64, 0});
  const int64_t object = Finish(1, made).result;
  ASSERT_GT(object, 0);
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemTryWait, {object})).error, EAGAIN);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemWait, {object, CLOCK_REALTIME, 1, 0})).error,
            ETIMEDOUT);
  timespec soon{};
  clock_gettime(CLOCK_MONOTONIC, &soon);
  soon.tv_nsec += 20'000'000;
  EXPECT_EQ(
      Finish(0, Host(0).Start(abi::Operation::kSemWait, {object, CLOCK_MONOTONIC, soon.tv_sec, soon.tv_nsec}))
          .error,
      ETIMEDOUT);
  const CallId interrupted = Host(1).Start(abi::Operation::kSemWait, {object, -1});
  Host(1).component().CallCancelled(interrupted);
  EXPECT_EQ(Finish(1, interrupted).error, EINTR);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemGetValue, {object})).result, 0);

  // A waiter that dies takes nothing with it, whether its grant was on the way or not.
  for (const bool posted_first : {false, true}) {
    const CallId dying = Host(1).Start(abi::Operation::kSemWait, {object, -1});
    if (posted_first) Host(1).Start(abi::Operation::kSemPost, {object});
    Host(1).component().CallDropped(dying);
    if (!posted_first) Host(1).Start(abi::Operation::kSemPost, {object});
    const CallId other = Host(0).Start(abi::Operation::kSemWait, {object, -1});
    EXPECT_EQ(Finish(0, other).result, 0) << posted_first;
  }
  // Nor does one that dies after its grant and before it looked at it; one that had looked has the token.
  for (const bool looked : {false, true}) {
    const CallId granted = Host(1).Start(abi::Operation::kSemWait, {object, -1}, {}, kKnownPid);
    Host(1).Start(abi::Operation::kSemPost, {object});
    EXPECT_EQ(Finish(1, granted).result, 0);
    abi::Slot& slot = Host(1).table().slots[granted.slot];
    slot.operation = static_cast<uint32_t>(abi::Operation::kSemWait);
    slot.owner = kKnownPid;
    slot.arguments[0] = object;
    slot.state = static_cast<uint32_t>(looked ? abi::SlotState::kFree : abi::SlotState::kDone);
    Host(1).component().ProcessGone({.kernel_pid = kKnownPid});
    const CallId next = Host(1).Start(abi::Operation::kSemTryWait, {object});
    EXPECT_EQ(Finish(1, next).error, looked ? EAGAIN : 0);
  }
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemDestroy, {object})).result, 0);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemTryWait, {object})).error, EINVAL);

  // Near its maximum a semaphore's posts are answered by home.
  const CallId full = Host(1).Start(
      abi::Operation::kSemInit, {0, static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino),
                                 96, wire::kSemaphoreMaximum});
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemPost, {Finish(1, full).result})).error, EOVERFLOW);
  munmap(remote, 8192);
}

// Natively nobody dies between being given a mutex and having it.
TEST_F(IpcTest, AMutexWhoseNextOwnerDiesBeforeItLookedIsFree) {
  struct stat status {};
  ASSERT_EQ(fstat(object_, &status), 0);
  uint8_t* remote = Fork(1, 100);
  const auto action = [](wire::SharedAction which) { return static_cast<int64_t>(which); };
  const int64_t mutex =
      Finish(1, Host(1).Start(abi::Operation::kSharedMake, {static_cast<int64_t>(wire::SharedKind::kMutex), 0,
                                                            static_cast<int64_t>(status.st_dev),
                                                            static_cast<int64_t>(status.st_ino), 256}))
          .result;
  ASSERT_GT(mutex, 0);
  for (const bool looked : {false, true}) {
    const CallId granted = Host(1).Start(abi::Operation::kSharedAct,
                                         {mutex, action(wire::SharedAction::kLock), 0, -1}, {}, kKnownPid);
    EXPECT_EQ(Finish(1, granted).error, 0);
    abi::Slot& slot = Host(1).table().slots[granted.slot];
    slot.operation = static_cast<uint32_t>(abi::Operation::kSharedAct);
    slot.owner = slot.thread = kKnownPid;
    slot.arguments[0] = mutex;
    slot.arguments[1] = action(wire::SharedAction::kLock);
    slot.state = static_cast<uint32_t>(looked ? abi::SlotState::kFree : abi::SlotState::kDone);
    Host(1).component().ProcessGone({.kernel_pid = kKnownPid});
    // A lock that is free is got, however late the word of it comes; one that is held is so for ever.
    const auto asks = looked ? wire::SharedAction::kTryLock : wire::SharedAction::kLock;
    const CallId next = Host(0).Start(abi::Operation::kSharedAct, {mutex, action(asks), 0, -1});
    EXPECT_EQ(Finish(0, next).error, looked ? EBUSY : 0);
    if (!looked)
      Finish(0,
             Host(0).Start(abi::Operation::kSharedAct, {mutex, action(wire::SharedAction::kUnlock), 0, -1}));
  }
  munmap(remote, 8192);
}

TEST_F(IpcTest, NamesBelongToTheSession) {
  constexpr int64_t kCreate = O_CREAT, kExclusive = O_CREAT | O_EXCL;
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemOpen, {0, 0, 0}, "lock")).error, ENOENT);
  const int64_t cell =
      Finish(0, Host(0).Start(abi::Operation::kSemOpen, {kExclusive, 0600, 1}, "lock")).result;
  ASSERT_GE(cell, 0);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemOpen, {kExclusive, 0600, 1}, "lock")).error, EEXIST);
  auto* word = reinterpret_cast<wire::Semaphore*>(Host(0).table().cells[cell].word);
  EXPECT_FALSE(wire::IsPromoted(word)) << "one host alone asks nobody";

  // The parent's child goes to a worker and finds the cell promoted there, under the same number.
  uint8_t* remote = Fork(1, 100);
  EXPECT_TRUE(wire::IsPromoted(word));
  auto* there = reinterpret_cast<wire::Semaphore*>(Host(1).table().cells[cell].word);
  EXPECT_TRUE(wire::IsPromoted(there));
  EXPECT_EQ(there->object.load(), word->object.load());

  // Opened by name on a worker: the same semaphore.
  const Incarnation caller = wire::MakeIncarnation(0, 100);
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemOpen, {kCreate, 0600, 5}, "lock", 7, caller)).result,
            cell);
  const int64_t made =
      Finish(1, Host(1).Start(abi::Operation::kSemOpen, {kCreate, 0600, 5}, "new", 7, caller)).result;
  ASSERT_GE(made, 0);
  const auto object = static_cast<int64_t>(
      reinterpret_cast<wire::Semaphore*>(Host(1).table().cells[made].word)->object.load());
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemGetValue, {object})).result, 5);

  // Unlinked, the cell is free when its last holder is gone, and not before.
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemUnlink, {}, "lock", 7, caller)).result, 0);
  EXPECT_EQ(Finish(1, Host(1).Start(abi::Operation::kSemUnlink, {}, "lock", 7, caller)).error, ENOENT);
  EXPECT_EQ(Finish(0, Host(0).Start(abi::Operation::kSemClose, {cell})).result, 0);
  EXPECT_TRUE(wire::IsOurs(word)) << "the remote child has it";
  Host(0).component().ProcessGone(*Host(0).FindProcess(caller));
  EXPECT_FALSE(wire::IsOurs(word));
  munmap(remote, 8192);
}

TEST_F(IpcTest, AChildHoldsWhatItsParentSays) {
  const int64_t cell = Finish(0, Host(0).Start(abi::Operation::kSemOpen, {O_CREAT, 0600, 1}, "lock")).result;
  auto* word = reinterpret_cast<wire::Semaphore*>(Host(0).table().cells[cell].word);
  const auto number = static_cast<uint32_t>(cell);
  const std::string_view told(reinterpret_cast<const char*>(&number), sizeof number);
  Finish(0, Host(0).Start(abi::Operation::kSemInherit, {55, 1}, told));
  Finish(0, Host(0).Start(abi::Operation::kSemUnlink, {}, "lock"));
  Finish(0, Host(0).Start(abi::Operation::kSemClose, {cell}));
  EXPECT_TRUE(wire::IsOurs(word));
  Host(0).component().ProcessGone(Process{.kernel_pid = 55});
  EXPECT_FALSE(wire::IsOurs(word));
}

}  // namespace
}  // namespace elsewhere::runtime
