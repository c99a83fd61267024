#include "runtime/object_counts.h"

#include <gtest/gtest.h>

#include <memory>

namespace elsewhere::runtime {
namespace {

constexpr auto kSemaphore = static_cast<uint32_t>(abi::ObjectKind::kSemaphore);

void Use(abi::ObjectCount& entry, uint32_t host, uint64_t offset, uint64_t here, uint64_t across) {
  entry.kind = kSemaphore;
  entry.host = host;
  entry.inode = host == abi::kNamedCell ? 0 : 77;
  entry.offset = offset;
  entry.here += here;
  entry.across += across;
  entry.blocked += 10 * across;
  entry.state = 2;
}

class ObjectCountsTest : public ::testing::Test {
 protected:
  std::vector<ObjectUse> Report(size_t most = 10) { return counts_.Report(most, &others_); }
  std::unique_ptr<abi::Table> table_ = std::make_unique<abi::Table>();
  ObjectCounts counts_{*table_};
  size_t others_ = 0;
};

TEST_F(ObjectCountsTest, WhatAWorkerSendsIsAddedToWhatHomeHas) {
  auto elsewhere = std::make_unique<abi::Table>();
  ObjectCounts worker(*elsewhere);
  Use(table_->object_counts[3], 0, 64, 5, 1);
  Use(elsewhere->object_counts[9], 0, 64, 0, 2);
  worker.Add(abi::ObjectKind::kPipe, "pipe:[1]", 4, std::chrono::nanoseconds(7));
  counts_.Merge(worker.Take());
  EXPECT_TRUE(worker.Take().counts.empty());
  Use(elsewhere->object_counts[9], 0, 64, 0, 3);
  counts_.Merge(worker.Take());
  const auto objects = Report();
  ASSERT_EQ(objects.size(), 2u);
  EXPECT_EQ(objects[0].kind, "semaphore");
  EXPECT_EQ(objects[0].name, "at 64 of shared memory 77");
  EXPECT_EQ(objects[0].here, 5u);
  EXPECT_EQ(objects[0].across, 6u);
  EXPECT_EQ(objects[0].blocked_nanoseconds, 60u);
  EXPECT_EQ(objects[1].name, "pipe:[1]");
  EXPECT_EQ(objects[1].across, 4u);
  EXPECT_EQ(Report().size(), 2u);
}

TEST_F(ObjectCountsTest, ACellThatGetsAnotherNameStartsAnew) {
  counts_.CellNamed(4, "one");
  Use(table_->object_counts[0], abi::kNamedCell, 4, 3, 2);
  counts_.CellNamed(4, "two");
  Use(table_->object_counts[0], abi::kNamedCell, 4, 1, 1);
  const auto objects = Report();
  ASSERT_EQ(objects.size(), 2u);
  EXPECT_EQ(objects[0].name, "/one");
  EXPECT_EQ(objects[0].here, 3u);
  EXPECT_EQ(objects[1].name, "/two");
  EXPECT_EQ(objects[1].here, 1u);
  EXPECT_EQ(Report(1).size(), 1u);
  EXPECT_EQ(others_, 1u);
}

}  // namespace
}  // namespace elsewhere::runtime
