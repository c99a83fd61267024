#include "preload/capture/page_records.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>

namespace elsewhere::capture {
namespace {

// Fork `noted` found the page equal, the look after fork `written` found it written, the last look was after
// `scanned`.
bool IsAsNoted(uint32_t noted, uint32_t written, uint32_t scanned, uint32_t fork) {
  static const auto records = std::make_unique_for_overwrite<PageRecords>();
  records->equal[5] = uint64_t{noted} << PageRecords::kForkShift | 77;
  records->written[5] = written;
  records->scanned = scanned;
  return IsAsNoted(*records, 5, fork);
}

TEST(PageRecords, APageIsWhatItWasWhereNoLookBetweenFoundItWritten) {
  EXPECT_TRUE(IsAsNoted(4, 3, 6, 6));
  EXPECT_FALSE(IsAsNoted(4, 5, 6, 6));
  EXPECT_FALSE(IsAsNoted(4, 4, 6, 6)) << "before fork 4 or behind it";
  EXPECT_FALSE(IsAsNoted(4, 6, 6, 6)) << "before fork 6 or behind it";
  EXPECT_FALSE(IsAsNoted(4, 3, 5, 6)) << "nobody has looked since";
  EXPECT_FALSE(IsAsNoted(0, 0, 6, 6)) << "nothing was noted";
}

TEST(PageRecords, ALaterForkSaysWhatAnEarlierOneWasLike) {
  EXPECT_TRUE(IsAsNoted(9, 5, 9, 6));
  EXPECT_FALSE(IsAsNoted(9, 7, 9, 6)) << "written since the earlier one";
  EXPECT_FALSE(IsAsNoted(9, 6, 9, 6));
  EXPECT_FALSE(IsAsNoted(9, 5, 8, 6)) << "nobody has looked since the later one";
}

// A process whose 64 MB were there at the first look, and the deputy of its fork 2.
class NotesTest : public testing::Test {
 protected:
  static constexpr uint32_t kPages = 16384;
  static constexpr uint32_t kFork = 2;

  NotesTest() {
    void* memory = mmap(nullptr, sizeof(PageRecords), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    records_ = static_cast<PageRecords*>(memory);
    records_->ranges[0] = {1 << 30, (1 << 30) + uint64_t{kPages} * 4096, 0, 0};
    records_->range_count = 1;
    records_->scanned = kFork;
    for (uint32_t page = 0; page < kPages; ++page) records_->written[page] = 1;
  }
  ~NotesTest() override { munmap(records_, sizeof(PageRecords)); }

  void Note(uint32_t pages) {
    for (uint32_t page = 0; page < pages; ++page)
      StoreRecord(&records_->equal[page], uint64_t{kFork} << PageRecords::kForkShift);
  }

  PageRecords* records_;
};

TEST_F(NotesTest, WhoComparesLittleWaitsForNobody) {
  Note(kPages - 100);
  records_->comparing = 1;
  EXPECT_FALSE(AwaitNotes(*records_, kFork));
  EXPECT_EQ(records_->comparing, 1U);
}

TEST_F(NotesTest, OneComparesMuchAndOthersComeToKnowIt) {
  ASSERT_TRUE(AwaitNotes(*records_, kFork));
  const pid_t other = fork();
  if (other == 0) _exit(AwaitNotes(*records_, kFork) ? 1 : 0);
  Note(kPages);
  EndNotes(*records_, kFork);
  int status = -1;
  ASSERT_EQ(waitpid(other, &status, 0), other);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(records_->comparing, 0U);
}

TEST_F(NotesTest, WhatNobodyComesToKnowIsNotWaitedFor) {
  ASSERT_TRUE(AwaitNotes(*records_, kFork));
  Note(kPages / 2);  // the rest was thrown away
  EndNotes(*records_, kFork);
  records_->comparing = 1;
  EXPECT_FALSE(AwaitNotes(*records_, kFork));
  EXPECT_EQ(records_->comparing, 1U) << "it waited";
}

TEST_F(NotesTest, OneThatNeverEndsIsWaitedForOnce) {
  ASSERT_TRUE(AwaitNotes(*records_, kFork));
  const pid_t other = fork();
  if (other == 0) _exit(AwaitNotes(*records_, kFork) ? 1 : 0);
  int status = -1;
  ASSERT_EQ(waitpid(other, &status, 0), other);
  EXPECT_EQ(status, 0);
  const pid_t next = fork();
  if (next == 0) _exit(AwaitNotes(*records_, kFork) ? 1 : 0);
  ASSERT_EQ(waitpid(next, &status, 0), next);
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EndNotes(*records_, kFork);  // late: it takes nothing from the next one
  EXPECT_EQ(records_->comparing, static_cast<uint32_t>(next));
}

}  // namespace
}  // namespace elsewhere::capture
