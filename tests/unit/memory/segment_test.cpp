#include "shim/memory/segment.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <random>

namespace elsewhere::memory {
namespace {

// Home (host 0) with the original object, and other hosts that joined it. Publications travel as they would
// through inboxes: Deliver brings everything sent so far to one host, in order.
class SegmentTest : public testing::Test {
 protected:
  static constexpr uint64_t kSize = 8192;

  void SetUp() override {
    const int object = memfd_create("object", MFD_CLOEXEC);
    ASSERT_EQ(ftruncate(object, kSize), 0);
    auto home = Segment::Adopt(7, 0, object, kSize, "a test mapping");
    close(object);
    ASSERT_TRUE(home.ok()) << home.error().message;
    hosts_.push_back(std::move(*home));
    inboxes_.resize(1);
    Join();
    Join();
  }

  Segment& Host(size_t host) { return *hosts_[host]; }
  uint8_t* Live(size_t host) { return hosts_[host]->live(); }

  void Join() {
    const auto host = static_cast<HostId>(hosts_.size());
    auto joined = Segment::CreateEmpty(7, host, kSize, "a test mapping");
    ASSERT_TRUE(joined.ok());
    hosts_.push_back(std::move(*joined));
    inboxes_.emplace_back();
    ASSERT_TRUE(Host(host).Load(Host(0).TakeSnapshot()).ok());
  }

  void Publish(size_t from) {
    for (auto& publication : Host(from).Publish()) {
      for (size_t to = 0; to < hosts_.size(); ++to) {
        if (to != from) inboxes_[to].push_back(publication);
      }
    }
  }

  Status Deliver(size_t to) {
    for (auto& publication : std::exchange(inboxes_[to], {})) {
      if (auto applied = Host(to).Apply(publication); !applied) return applied;
    }
    return Ok{};
  }

  std::vector<std::unique_ptr<Segment>> hosts_;
  std::vector<std::vector<Publication>> inboxes_;
};

TEST_F(SegmentTest, WhatIsPublishedIsSeenByAll) {
  Live(1)[100] = 5;
  Publish(1);
  ASSERT_TRUE(Deliver(0).ok());
  ASSERT_TRUE(Deliver(2).ok());
  EXPECT_EQ(Live(0)[100], 5);
  EXPECT_EQ(Live(2)[100], 5);
  EXPECT_TRUE(Host(0).Publish().empty()) << "what was received is not published again";
}

TEST_F(SegmentTest, HostsMayWriteDifferentBytesOfOnePageAtOnce) {
  for (size_t host = 0; host < 3; ++host) Live(host)[host] = static_cast<uint8_t>(host + 1);
  for (size_t host = 0; host < 3; ++host) Publish(host);
  for (size_t host = 0; host < 3; ++host) {
    ASSERT_TRUE(Deliver(host).ok());
    EXPECT_EQ(Live(host)[0], 1);
    EXPECT_EQ(Live(host)[1], 2);
    EXPECT_EQ(Live(host)[2], 3);
  }
}

TEST_F(SegmentTest, ACounterUnderALockCountsRight) {
  std::mt19937 random(3);
  for (unsigned round = 1; round <= 200; ++round) {
    const size_t holder = random() % 3;
    ASSERT_TRUE(Deliver(holder).ok());  // the acquire
    uint32_t counter = 0;
    std::memcpy(&counter, Live(holder) + 64, 4);
    ASSERT_EQ(counter, round - 1);
    ++counter;
    std::memcpy(Live(holder) + 64, &counter, 4);
    Publish(holder);  // the release
  }
}

TEST_F(SegmentTest, AnUnpublishedChangeOfTheSameByteIsAConflict) {
  Live(1)[9] = 1;
  Live(2)[9] = 1;  // equal values too: a lost increment looks like this
  Publish(1);
  const auto applied = Deliver(2);
  ASSERT_FALSE(applied.ok());
  EXPECT_EQ(applied.error().code, EBUSY);
  EXPECT_NE(applied.error().message.find("byte 9 of a test mapping"), std::string::npos)
      << applied.error().message;
}

TEST_F(SegmentTest, CrossingPublicationsOfTheSameByteAreAConflict) {
  Live(1)[9] = 1;
  Live(2)[9] = 2;
  Publish(1);
  Publish(2);
  EXPECT_FALSE(Deliver(1).ok());
  EXPECT_FALSE(Deliver(2).ok());
}

TEST_F(SegmentTest, AChangeMadeAfterSeeingTheOtherIsNone) {
  Live(1)[9] = 1;
  Publish(1);
  ASSERT_TRUE(Deliver(2).ok());
  Live(2)[9] = 2;
  Publish(2);
  ASSERT_TRUE(Deliver(1).ok());
  ASSERT_TRUE(Deliver(0).ok());
  EXPECT_EQ(Live(0)[9], 2);
  EXPECT_EQ(Live(1)[9], 2);
}

TEST_F(SegmentTest, ARepeatedPublicationChangesNothing) {
  Live(1)[9] = 1;
  const auto publications = Host(1).Publish();
  ASSERT_EQ(publications.size(), 1U);
  ASSERT_TRUE(Host(0).Apply(publications[0]).ok());
  Live(0)[9] = 2;
  ASSERT_TRUE(Host(0).Apply(publications[0]).ok());
  EXPECT_EQ(Live(0)[9], 2);
}

TEST_F(SegmentTest, AMissingPublicationIsNoticed) {
  Live(1)[9] = 1;
  ASSERT_EQ(Host(1).Publish().size(), 1U);
  Live(1)[10] = 1;
  Publish(1);
  EXPECT_FALSE(Deliver(0).ok());
}

TEST_F(SegmentTest, AHostThatJoinsLateHasEverything) {
  Live(1)[9] = 1;
  Publish(1);
  auto late = Segment::CreateEmpty(7, 3, kSize, "a test mapping");
  ASSERT_TRUE(late.ok());
  Live(2)[10] = 2;
  const auto before = Host(2).Publish();  // on its way to home and to the newcomer
  ASSERT_TRUE((*late)->Apply(before[0]).ok());
  ASSERT_TRUE(Deliver(0).ok());
  ASSERT_TRUE(Host(0).Apply(before[0]).ok());
  ASSERT_TRUE((*late)->Load(Host(0).TakeSnapshot()).ok());
  EXPECT_EQ((*late)->live()[9], 1);
  EXPECT_EQ((*late)->live()[10], 2);
  Live(2)[10] = 3;
  const auto after = Host(2).Publish();
  ASSERT_TRUE((*late)->Apply(after[0]).ok());
  EXPECT_EQ((*late)->live()[10], 3);
}

TEST(Segment, AHoleCostsNoMemory) {
  constexpr uint64_t kLarge = 256 << 20;
  const int object = memfd_create("object", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(object, kLarge), 0);
  ASSERT_EQ(pwrite(object, "x", 1, 100 << 20), 1);
  auto home = Segment::Adopt(7, 0, object, kLarge, "a large mapping");
  ASSERT_TRUE(home.ok());
  EXPECT_TRUE((*home)->Publish().empty());
  const Snapshot snapshot = (*home)->TakeSnapshot();
  EXPECT_EQ(snapshot.diffs.size(), 1U);
  struct stat status {};
  ASSERT_EQ(fstat(object, &status), 0);
  EXPECT_LT(status.st_blocks * 512, 1 << 20);
  close(object);
}

// A file of two pages, at home and as another host has it.
class FollowedTest : public testing::Test {
 protected:
  static constexpr uint64_t kPage = 4096;

  void SetUp() override {
    ASSERT_EQ(ftruncate(file_, 2 * kPage), 0);
    ASSERT_EQ(pwrite(file_, "here", 4, kPage), 4);
    auto home = Segment::Adopt(7, 0, file_, 2 * kPage, "a file", Size::kFollowed);
    ASSERT_TRUE(home.ok()) << home.error().message;
    home_ = std::move(*home);
    auto other = Segment::CreateEmpty(7, 1, 2 * kPage, "a file", Size::kFollowed);
    ASSERT_TRUE(other.ok());
    other_ = std::move(*other);
    ASSERT_TRUE(other_->Load(home_->TakeSnapshot()).ok());
  }
  void TearDown() override { close(file_); }

  // As home's agent does it.
  void Tell() {
    const auto publications = home_->Publish();
    for (const uint64_t size : home_->TakeSizes()) ASSERT_TRUE(other_->Resize(size).ok());
    for (const auto& publication : publications) ASSERT_TRUE(other_->Apply(publication).ok());
  }
  uint64_t SizeThere() const {
    struct stat status {};
    fstat(other_->descriptor(), &status);
    return static_cast<uint64_t>(status.st_size);
  }

  const int file_ = memfd_create("file", MFD_CLOEXEC);
  std::unique_ptr<Segment> home_, other_;
};

TEST_F(FollowedTest, WhatGrowsIsEqualOnAllHosts) {
  ASSERT_EQ(pwrite(file_, "more", 4, 100 * kPage - 2), 4);
  Tell();
  EXPECT_EQ(SizeThere(), 100 * kPage + 2);
  EXPECT_EQ(memcmp(other_->live() + 100 * kPage - 2, "more", 4), 0);
  EXPECT_EQ(memcmp(other_->live() + kPage, "here", 4), 0);
}

TEST_F(FollowedTest, WhatWasCutIsZeroWhenItComesBack) {
  ASSERT_EQ(ftruncate(file_, kPage + 1), 0);
  Tell();
  EXPECT_EQ(SizeThere(), kPage + 1);
  ASSERT_EQ(ftruncate(file_, 2 * kPage), 0);
  Tell();
  EXPECT_EQ(memcmp(other_->live() + kPage, "h\0\0\0", 4), 0);
  other_->live()[kPage + 2] = 'x';
  for (const auto& publication : other_->Publish()) ASSERT_TRUE(home_->Apply(publication).ok());
  EXPECT_EQ(memcmp(home_->live() + kPage, "h\0x\0", 4), 0);
}

TEST_F(FollowedTest, WhatIsPublishedBehindTheEndIsGone) {
  memcpy(other_->live() + kPage - 2, "stored", 6);
  const auto late = other_->Publish();
  ASSERT_EQ(ftruncate(file_, kPage), 0);
  for (const auto& publication : late) ASSERT_TRUE(home_->Apply(publication).ok());
  EXPECT_EQ(memcmp(home_->live() + kPage - 2, "st", 2), 0);
  ASSERT_EQ(ftruncate(file_, 2 * kPage), 0);
  Tell();
  EXPECT_EQ(memcmp(other_->live() + kPage - 2, "st\0\0", 4), 0);
}

TEST_F(FollowedTest, ALargeFileThatWasCutAndIsAsLongAgainIsZero) {
  constexpr off_t kLarge = 4 << 20;
  ASSERT_EQ(ftruncate(file_, kLarge), 0);
  ASSERT_EQ(pwrite(file_, "far", 3, kLarge / 2), 3);
  Tell();
  ASSERT_EQ(other_->live()[kLarge / 2], 'f');
  ASSERT_EQ(ftruncate(file_, 0), 0);
  ASSERT_EQ(ftruncate(file_, kLarge), 0);
  Tell();
  EXPECT_EQ(other_->live()[kLarge / 2], 0);
  EXPECT_EQ(other_->live()[kPage], 0);
}

TEST_F(FollowedTest, WhatAnotherHostStoredAndHomeThenCutIsZero) {
  constexpr off_t kLarge = 4 << 20;
  ASSERT_EQ(ftruncate(file_, kLarge), 0);
  Tell();
  other_->live()[kLarge / 2] = 'x';
  for (const auto& publication : other_->Publish()) ASSERT_TRUE(home_->Apply(publication).ok());
  ASSERT_EQ(home_->live()[kLarge / 2], 'x');
  ASSERT_EQ(ftruncate(file_, 0), 0);
  ASSERT_EQ(ftruncate(file_, kLarge), 0);
  Tell();
  EXPECT_EQ(other_->live()[kLarge / 2], 0);
}

TEST(Segment, AnotherHostsCopyOfMemoryIsNoLongerAndNoShorter) {
  auto other = Segment::CreateEmpty(7, 1, 8192, "memory");
  ASSERT_TRUE(other.ok());
  EXPECT_EQ(ftruncate((*other)->descriptor(), 4096), -1);
  EXPECT_EQ(ftruncate((*other)->descriptor(), 16384), -1);
}

TEST_F(FollowedTest, AnEmptyFileIsShared) {
  const int empty = memfd_create("empty", MFD_CLOEXEC);
  auto segment = Segment::Adopt(8, 0, empty, 0, "an empty file", Size::kFollowed);
  ASSERT_TRUE(segment.ok());
  EXPECT_TRUE((*segment)->Publish().empty());
  ASSERT_EQ(pwrite(empty, "x", 1, 0), 1);
  EXPECT_EQ((*segment)->Publish().size(), 1U);
  close(empty);
}

TEST(Segment, AFileThatShrankIsNotTouchedBehindItsEnd) {
  const int object = memfd_create("object", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(object, 16384), 0);
  auto home = Segment::Adopt(7, 0, object, 16384, "a file");
  ASSERT_TRUE(home.ok());
  ASSERT_EQ(ftruncate(object, 4096), 0);
  EXPECT_TRUE((*home)->Publish().empty());
  close(object);
}

}  // namespace
}  // namespace elsewhere::memory
