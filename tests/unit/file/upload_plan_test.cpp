#include "shim/file/upload_plan.h"

#include <gtest/gtest.h>

#include <random>

namespace elsewhere::file {
namespace {

constexpr uint64_t kMiB = 1 << 20;
using Plan = std::vector<PlannedPart>;

TEST(Extents, AddRemoveAndAsk) {
  Extents set;
  set.Add(10, 20);
  set.Add(30, 40);
  set.Add(20, 25);
  EXPECT_EQ(set.All(), (std::vector<Extent>{{10, 25}, {30, 40}}));
  EXPECT_EQ(set.Missing(0, 50), (std::vector<Extent>{{0, 10}, {25, 30}, {40, 50}}));
  EXPECT_TRUE(set.Contains(12, 25));
  EXPECT_FALSE(set.Contains(12, 26));
  set.Remove(15, 35);
  EXPECT_EQ(set.All(), (std::vector<Extent>{{10, 15}, {35, 40}}));
  EXPECT_EQ(set.NextAt(12), 12u);
  EXPECT_EQ(set.NextAt(15), 35u);
  EXPECT_EQ(set.NextAt(40), UINT64_MAX);
  EXPECT_EQ(set.end(), 40u);
}

TEST(Extents, AgreesWithASetOfBytes) {
  std::minstd_rand random(1);
  for (int round = 0; round < 200; ++round) {
    Extents set;
    std::vector<bool> bytes(64);
    for (int step = 0; step < 20; ++step) {
      uint64_t from = random() % 64, to = from + random() % (65 - from);
      bool add = random() % 2;
      add ? set.Add(from, to) : set.Remove(from, to);
      for (uint64_t i = from; i < to; ++i) bytes[i] = add;
      for (uint64_t i = 0; i < 64; ++i) ASSERT_EQ(set.Contains(i, i + 1), bytes[i]);
      uint64_t missing = 0;
      for (auto& extent : set.Missing(0, 64)) missing += extent.length();
      ASSERT_EQ(missing, uint64_t(std::count(bytes.begin(), bytes.end(), false)));
    }
  }
}

TEST(UploadPlan, AppendCopiesAllButTheTail) {
  EXPECT_EQ(PlanUpload(100 * kMiB + 1, 100 * kMiB, {}),
            (Plan{{0, 100 * kMiB, true}, {100 * kMiB, 1, false}}));
}

TEST(UploadPlan, AChangeInTheMiddleSendsOneShortPart) {
  Extents changed;
  changed.Add(50 * kMiB, 50 * kMiB + 10);
  EXPECT_EQ(PlanUpload(100 * kMiB, 100 * kMiB, changed),
            (Plan{{0, 50 * kMiB, true}, {50 * kMiB, 5 * kMiB, false}, {55 * kMiB, 45 * kMiB, true}}));
}

TEST(UploadPlan, NewFilesAreSentWhole) {
  EXPECT_EQ(PlanUpload(20 * kMiB, 0, {}),
            (Plan{{0, 8 * kMiB, false}, {8 * kMiB, 8 * kMiB, false}, {16 * kMiB, 4 * kMiB, false}}));
}

// Parts follow one another without gaps, none but the last is too short, copies touch nothing that changed.
TEST(UploadPlan, KeepsTheRulesForRandomChanges) {
  std::minstd_rand random(7);
  PartLimits limits{.least = 5, .sent = 8, .copied = 40, .parts = 10000};
  for (int round = 0; round < 3000; ++round) {
    uint64_t size = 1 + random() % 300, base = random() % 320;
    Extents changed;
    for (unsigned i = random() % 8; i > 0; --i) {
      uint64_t from = random() % size;
      changed.Add(from, std::min(size, from + 1 + random() % 20));
    }
    auto plan = PlanUpload(size, base, changed, limits);
    uint64_t at = 0;
    for (size_t i = 0; i < plan.size(); ++i) {
      ASSERT_EQ(plan[i].offset, at);
      ASSERT_GT(plan[i].length, 0u);
      at += plan[i].length;
      ASSERT_GE(plan[i].length, i + 1 < plan.size() ? limits.least : 1);
      ASSERT_LE(plan[i].length, plan[i].copy ? limits.copied : limits.sent);
      if (!plan[i].copy) continue;
      ASSERT_LE(at, base);
      ASSERT_EQ(changed.Missing(plan[i].offset, at), (std::vector<Extent>{{plan[i].offset, at}}));
    }
    ASSERT_EQ(at, size);
  }
}

TEST(UploadPlan, HugeFilesStayBelowTheLargestNumberOfParts) {
  constexpr uint64_t kTiB = 1ull << 40;
  EXPECT_LE(PlanUpload(5 * kTiB, 0, {}).size(), 10000u);
  EXPECT_LE(PlanUpload(5 * kTiB, 5 * kTiB, {}).size(), 10000u);
}

}  // namespace
}  // namespace elsewhere::file
