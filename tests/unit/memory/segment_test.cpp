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
