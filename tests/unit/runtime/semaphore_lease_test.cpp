// Semaphores that one host alone uses, and large counts that hosts share out.
#include "tests/unit/runtime/ipc_hosts.h"

namespace elsewhere::runtime {
namespace {

class LeaseTest : public IpcTest {
 protected:
  static constexpr int kMany = 40;  // more than a host needs in a row

  void SetUp() override {
    IpcTest::SetUp();
    remote_ = Fork(1, 100);
    Host(1).component().ProcessStarted(process_, nullptr);
    struct stat status {};
    fstat(object_, &status);
    const CallId made = Host(1).Start(
        abi::Operation::kSemInit,
        {0, static_cast<int64_t>(status.st_dev), static_cast<int64_t>(status.st_ino), 64, Initial()});
    object_id_ = Finish(1, made).result;
    ASSERT_GT(object_id_, 0);
    ASSERT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, Initial()) << "home has it";
  }
  virtual int64_t Initial() const { return 0; }
  void TearDown() override {
    for (size_t host = 0; host < 3; ++host) EXPECT_EQ(Host(host).fatal(), "");
    munmap(remote_, 8192);
    IpcTest::TearDown();
  }
  CallId Start(size_t host, abi::Operation operation) {
    return Host(host).Start(operation, {object_id_, -1}, {}, host == 1 ? kKnownPid : 1);
  }
  wire::Semaphore* Lease(size_t host) {
    wire::Semaphore* cell =
        wire::LeaseOf<wire::Semaphore>(&Host(host).table(), static_cast<uint64_t>(object_id_));
    return cell == nullptr || wire::IsPromoted(cell) ? nullptr : cell;
  }
  int Count(size_t host) {
    int value = -1;
    if (Lease(host) != nullptr) wire::SemaphoreGetValue(Lease(host), &value);
    return value;
  }

  const Process process_{.kernel_pid = kKnownPid, .incarnation = 0, .runs_on = 1};
  uint8_t* remote_ = nullptr;
  int64_t object_id_ = 0;
};

TEST_F(LeaseTest, PostsOnTheirWayFollowIt) {
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemPost);
  Await([&] { return Count(1) == kMany; });
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemPost)).result, 0);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, kMany + 1);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemWait)).result, wire::kTryAgain);
  EXPECT_EQ(Count(1), kMany + 1);
}

TEST_F(LeaseTest, WhoeverElseNeedsItGetsItBackWhole) {
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemPost);
  Await([&] { return Count(1) == kMany; });
  ASSERT_EQ(wire::SemaphorePost(Lease(1)), wire::SemaphoreOutcome::kDone);
  ASSERT_EQ(wire::SemaphoreWait(Lease(1)), wire::SemaphoreOutcome::kDone);
  // Both before it is back.
  const CallId home = Start(0, abi::Operation::kSemWait), other = Start(2, abi::Operation::kSemTryWait);
  EXPECT_EQ(Finish(0, home).result, 0);
  EXPECT_EQ(Finish(2, other).result, 0);
  EXPECT_EQ(Lease(1), nullptr);
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemGetValue)).result, kMany - 2);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemWait)).result, 0);
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemGetValue)).result, kMany - 3);
}

// What such a post changes would be heard of before what was decided without it: that a lease ends before it
// begins.
TEST_F(LeaseTest, PostsThatNobodyWaitsForOvertakeNothing) {
  int posts = 0;
  Host(0).SetUnheard([&] {
    ++posts;
    Start(0, abi::Operation::kSemPost);
  });
  for (int i = 0; i < 10 * kMany; ++i) Start(1, abi::Operation::kSemPost);
  const CallId last = Start(1, abi::Operation::kSemGetValue);
  Finish(1, last);
  Host(0).SetUnheard(nullptr);
  EXPECT_GT(posts, 0);
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemGetValue)).result, 10 * kMany + posts);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, 10 * kMany + posts);
}

TEST_F(LeaseTest, WhoWaitedAtHomeTriesAgain) {
  const CallId waiting = Start(1, abi::Operation::kSemWait);
  const CallId dead = Start(1, abi::Operation::kSemWait);
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemTryWait);
  Host(1).component().CallDropped(dead);
  EXPECT_EQ(Finish(1, waiting).result, wire::kTryAgain);
  EXPECT_EQ(Count(1), 0);
}

TEST_F(LeaseTest, AWaiterOfAnotherHostKeepsItAtHome) {
  const CallId waiting = Start(2, abi::Operation::kSemWait);
  Finish(2, Start(2, abi::Operation::kSemGetValue));
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemTryWait);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, 0);
  EXPECT_EQ(Lease(1), nullptr);
  Start(1, abi::Operation::kSemPost);
  EXPECT_EQ(Finish(2, waiting).result, 0);
}

TEST_F(LeaseTest, ItGoesHomeWithTheLastProcess) {
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemPost);
  Await([&] { return Count(1) == kMany; });
  Host(1).component().Drain(process_, {.ended = true}, [] {});
  EXPECT_EQ(Lease(1), nullptr);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, kMany);
  // And does not come again to where nobody is.
  for (int i = 0; i < 10 * kMany; ++i) Start(1, abi::Operation::kSemPost);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, 11 * kMany);
  EXPECT_EQ(Lease(1), nullptr);
}

TEST_F(LeaseTest, HomeHasOneToo) {
  for (int i = 0; i < kMany; ++i) Start(0, abi::Operation::kSemPost);
  EXPECT_EQ(Count(0), kMany);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemWait)).result, 0);
  EXPECT_EQ(Lease(0), nullptr);
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemGetValue)).result, kMany - 1);
}

TEST_F(LeaseTest, DestroyedItIsNobodys) {
  for (int i = 0; i < kMany; ++i) Start(1, abi::Operation::kSemPost);
  Await([&] { return Count(1) == kMany; });
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemDestroy)).result, 0);
  Await([&] { return Lease(1) == nullptr; });
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemTryWait)).error, EINVAL);
}

// ---- What a host knows of a count that it does not have

class KnownTest : public LeaseTest {
 protected:
  // -1: nothing.
  int Known(size_t host) {
    auto* cell = wire::LeaseOf<wire::Semaphore>(&Host(host).table(), static_cast<uint64_t>(object_id_));
    int value = -1;
    return cell != nullptr && wire::IsPromoted(cell) && wire::SemaphoreKnown(cell, &value) ? value : -1;
  }
  // As the preload begins one.
  CallId Post(size_t host) {
    auto* cell = wire::LeaseOf<wire::Semaphore>(&Host(host).table(), static_cast<uint64_t>(object_id_));
    if (cell != nullptr) wire::BegunOf(cell)->fetch_add(1);
    return Host(host).Start(abi::Operation::kSemPost, {object_id_, cell != nullptr}, {},
                            host == 1 ? kKnownPid : 1);
  }
  int TryWait(size_t host) { return Finish(host, Start(host, abi::Operation::kSemTryWait)).error; }
};

TEST_F(KnownTest, WhoAskedKnowsItAndIsToldWhenItChanges) {
  EXPECT_EQ(TryWait(2), EAGAIN);
  EXPECT_EQ(Known(2), 0);
  Post(0);
  EXPECT_EQ(Known(0), 1) << "home knows at once";
  EXPECT_EQ(Known(2), 0);
  Await([&] { return Known(2) == 1; });
  EXPECT_EQ(TryWait(0), 0);
  Await([&] { return Known(2) == 0; });
}

TEST_F(KnownTest, ItIsToldBeforeWhateverFollows) {
  EXPECT_EQ(TryWait(2), EAGAIN);
  Post(0);
  Host(0).component().BeforeSend(2);  // of a message that was written behind the post
  const int sends = Host(0).sends();
  Await([&] { return Known(2) == 1; });
  EXPECT_EQ(Host(0).sends(), sends) << "no message of its own was needed";
}

TEST_F(KnownTest, NothingIsKnownWhileAPostOfThisHostIsOnItsWay) {
  EXPECT_EQ(TryWait(2), EAGAIN);
  auto* cell = wire::LeaseOf<wire::Semaphore>(&Host(2).table(), static_cast<uint64_t>(object_id_));
  ASSERT_NE(cell, nullptr);
  wire::BegunOf(cell)->fetch_add(1);
  EXPECT_EQ(Known(2), -1) << "begun, and not yet looked at by the agent";
  wire::BegunOf(cell)->fetch_sub(1);
  EXPECT_EQ(Known(2), 0);
  Post(2);
  EXPECT_EQ(Known(2), -1) << "home has not counted it";
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemGetValue)).result, 1);
  EXPECT_EQ(Known(2), 1);
  EXPECT_EQ(TryWait(2), 0);
  EXPECT_EQ(Known(2), 0) << "a grant says what is left";
}

TEST_F(KnownTest, WhatIsLentToAnotherIsNotKnown) {
  EXPECT_EQ(TryWait(2), EAGAIN);
  for (int i = 0; i < kMany; ++i) Post(1);
  Await([&] { return Count(1) == kMany && Known(2) == -1; });
  EXPECT_EQ(Known(0), -1);
  EXPECT_EQ(TryWait(2), 0);
  EXPECT_EQ(Known(2), kMany - 1);
  EXPECT_EQ(Known(0), kMany - 1);
}

TEST_F(KnownTest, WhoDoesNotAskIsNotToldForEver) {
  EXPECT_EQ(TryWait(2), EAGAIN);
  for (int i = 0; i < 100 && Known(2) != -1; ++i) {
    Post(0);
    Await([&] { return Known(2) != 0; });
    if (Known(2) == -1) break;
    EXPECT_EQ(TryWait(0), 0);
    Await([&] { return Known(2) != 1; });
  }
  EXPECT_EQ(Known(2), -1);
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemGetValue)).error, 0);
  EXPECT_NE(Known(2), -1);
}

TEST_F(KnownTest, DestroyedItIsForgotten) {
  EXPECT_EQ(TryWait(2), EAGAIN);
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemDestroy)).result, 0);
  const auto has_cell = [&](size_t host) {
    return wire::LeaseOf<wire::Semaphore>(&Host(host).table(), static_cast<uint64_t>(object_id_)) != nullptr;
  };
  EXPECT_FALSE(has_cell(0));
  Await([&] { return !has_cell(2); });
}

// ---- Large counts, of which every host has a part

class ShareTest : public LeaseTest {
 protected:
  static constexpr int64_t kLarge = wire::kSemaphoreMaximum;

  int64_t Initial() const override { return kLarge; }
  wire::SemaphoreShare* Part(size_t host) {
    auto* part = wire::LeaseOf<wire::SemaphoreShare>(&Host(host).table(), static_cast<uint64_t>(object_id_));
    return part == nullptr || wire::share_detail::IsMarked(part->data.load()) ? nullptr : part;
  }
  int Value(size_t host) {
    int value = -1;
    if (Part(host) != nullptr) wire::ShareGetValue(Part(host), &value);
    return value;
  }
  // Host 1 takes until it has a part. How many it took.
  int Share() {
    int taken = 0;
    for (; taken < kMany && Part(1) == nullptr; ++taken) {
      if (Finish(1, Start(1, abi::Operation::kSemTryWait)).result != 0) break;
      Finish(1, Start(1, abi::Operation::kSemGetValue));
    }
    EXPECT_NE(Part(1), nullptr);
    return taken;
  }
  int64_t Whole() {
    return uint64_t{wire::ShareLook(Part(0)).count} + wire::ShareLook(Part(0)).room +
           wire::ShareLook(Part(1)).count + wire::ShareLook(Part(1)).room;
  }
};

TEST_F(ShareTest, PartsAreTheWholeAndEachKnowsTheValue) {
  const int taken = Share();
  EXPECT_EQ(Value(1), kLarge - taken);
  EXPECT_EQ(Value(0), kLarge - taken);
  EXPECT_EQ(Whole(), kLarge);
  ASSERT_TRUE(wire::ShareTake(Part(1)));
  Host(1).component().BeforeSend(0);
  Await([&] { return Value(0) == kLarge - taken - 1; });
  EXPECT_EQ(Whole(), kLarge);
}

TEST_F(ShareTest, RoomGoesWhereTheNewsGoes) {
  const int taken = Share();
  int room = 0;
  for (size_t host = 0; host < 2; ++host) {
    while (wire::SharePost(Part(host))) ++room;
  }
  EXPECT_EQ(room, taken);
  Host(1).component().BeforeSend(0);
  Await([&] { return Value(0) == kLarge; });
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(wire::ShareTake(Part(1)));
  EXPECT_FALSE(wire::SharePost(Part(0)));
  Host(1).component().BeforeSend(0);
  Await([&] { return wire::ShareLook(Part(0)).room == 5; });
  EXPECT_EQ(wire::ShareLook(Part(1)).room, 0);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(wire::SharePost(Part(0)));
  EXPECT_EQ(Value(0), kLarge);
  // Beyond the maximum it does not go: all parts are at home for that answer.
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemPost)).error, EOVERFLOW);
  EXPECT_EQ(Part(0), nullptr);
  EXPECT_EQ(Part(1), nullptr);
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemGetValue)).result, kLarge);
}

// As a queue's, which a putter takes from and a getter of another host posts in answer.
TEST_F(ShareTest, HostsThatUseItInTurnsHaveOneEach) {
  for (int i = 0; i < kMany && Part(1) == nullptr; ++i) {
    EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemTryWait)).result,
              Part(0) != nullptr ? wire::kTryAgain : 0);
    if (Part(0) != nullptr) {
      EXPECT_TRUE(wire::ShareTake(Part(0)));
    }
    EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemPost)).result, 0);
  }
  ASSERT_NE(Part(0), nullptr);
  ASSERT_NE(Part(1), nullptr);
  EXPECT_EQ(Whole(), kLarge);
  ASSERT_TRUE(wire::ShareTake(Part(0)));
  Host(0).component().BeforeSend(1);
  Await([&] { return wire::ShareLook(Part(1)).room == 1; });
  EXPECT_TRUE(wire::SharePost(Part(1)));
  EXPECT_EQ(Value(1), kLarge);
}

TEST_F(ShareTest, AHostWithoutAPartIsServedFromHomes) {
  const int taken = Share();
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemWait)).result, 0);
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemGetValue)).result, kLarge - taken - 1);
  EXPECT_EQ(Finish(2, Start(2, abi::Operation::kSemPost)).result, 0);
  EXPECT_EQ(Value(0), kLarge - taken);
  EXPECT_NE(Part(1), nullptr);
}

TEST_F(ShareTest, TheLastOneIsFoundWhereverItIs) {
  const int taken = Share();
  // Home's part is used up; the other host has tokens.
  const wire::SemaphorePart home = wire::ShareTakeAll(Part(0));
  auto* cell = wire::LeaseOf<wire::SemaphoreShare>(&Host(0).table(), static_cast<uint64_t>(object_id_));
  wire::SharePut(cell, static_cast<uint64_t>(object_id_), {0, home.room + home.count});
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemTryWait)).result, 0);
  EXPECT_EQ(Part(1), nullptr);
  EXPECT_EQ(Finish(0, Start(0, abi::Operation::kSemGetValue)).result, kLarge - taken - home.count - 1);
}

TEST_F(ShareTest, APartGoesHomeWithTheLastProcess) {
  const int taken = Share();
  ASSERT_TRUE(wire::ShareTake(Part(1)));
  Host(1).component().Drain(process_, {.ended = true}, [] {});
  EXPECT_EQ(Part(1), nullptr);
  Await([&] { return wire::ShareLook(Part(0)).count == kLarge - taken - 1; });
  EXPECT_EQ(Value(0), kLarge - taken - 1);
}

TEST_F(ShareTest, DestroyedItIsNobodys) {
  Share();
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemDestroy)).result, 0);
  Await([&] { return Part(0) == nullptr && Part(1) == nullptr; });
  EXPECT_EQ(Finish(1, Start(1, abi::Operation::kSemTryWait)).error, EINVAL);
}

}  // namespace
}  // namespace elsewhere::runtime
