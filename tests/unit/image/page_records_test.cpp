#include "preload/capture/page_records.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace elsewhere::capture
