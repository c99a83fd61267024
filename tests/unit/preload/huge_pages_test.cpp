#include "preload/huge_pages.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <string>
#include <vector>

namespace elsewhere::preload {
namespace {

using capture::PageRegion;
using capture::ScanArguments;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSize = 4 * kHugePage;

// Memory of four huge pages, watched as that of a process that forks again.
class HugePagesTest : public testing::Test {
 protected:
  void SetUp() override {
    void* reserved = mmap(nullptr, kSize + kHugePage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(reserved, MAP_FAILED);
    const auto start = (reinterpret_cast<uintptr_t>(reserved) + kHugePage - 1) & ~(kHugePage - 1);
    memory_ = static_cast<uint8_t*>(mmap(reinterpret_cast<void*>(start), kSize, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    for (uint64_t page = 0; page < kSize / kPage; ++page) memory_[page * kPage] = Value(page);
    pagemap_ = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    faults_ = static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | 1 /* user mode only */));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = 1 << 15;  // asynchronous
    uffdio_register range{};
    range.range = {start, kSize};
    range.mode = UFFDIO_REGISTER_MODE_WP;
    if (faults_ < 0 || ioctl(faults_, UFFDIO_API, &api) != 0 ||
        ioctl(faults_, UFFDIO_REGISTER, &range) != 0 || !HugePagesAllowed() || !IsPossible())
      GTEST_SKIP() << "this kernel does not watch memory or makes no huge pages";
  }
  void TearDown() override {
    if (faults_ >= 0) close(faults_);
    close(pagemap_);
    munmap(memory_, kSize);
  }

  static uint8_t Value(uint64_t page) { return static_cast<uint8_t>(page % 250 + 1); }
  static bool IsPossible() {
    auto* at = static_cast<uint8_t*>(
        mmap(nullptr, 2 * kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    const auto start = (reinterpret_cast<uintptr_t>(at) + kHugePage - 1) & ~(kHugePage - 1);
    *reinterpret_cast<uint8_t*>(start) = 1;
    const bool possible = madvise(reinterpret_cast<void*>(start), kHugePage, 25) == 0;
    munmap(at, 2 * kHugePage);
    return possible;
  }

  // The pages that count as written since the last look.
  uint64_t Written() {
    std::vector<PageRegion> found(kSize / kPage);
    ScanArguments arguments{};
    arguments.size = sizeof arguments;
    arguments.flags = capture::kScanProtectsMatching | capture::kScanFailsWhereUnwatched;
    arguments.start = reinterpret_cast<uintptr_t>(memory_);
    arguments.end = arguments.start + kSize;
    arguments.vector = reinterpret_cast<uintptr_t>(found.data());
    arguments.vector_length = found.size();
    arguments.category_mask = arguments.return_mask = capture::kPageIsWritten;
    arguments.category_anyof_mask = capture::kPageIsPresent;
    const int count = ioctl(pagemap_, capture::kPagemapScan, &arguments);
    EXPECT_GE(count, 0);
    uint64_t pages = 0;
    for (int i = 0; i < count; ++i) pages += (found[i].end - found[i].start) / kPage;
    return pages;
  }

  void Gather() {
    std::vector<PageRegion> found(64);
    const auto start = reinterpret_cast<uintptr_t>(memory_);
    GatherHugePages(pagemap_, faults_, start, start + kSize, found.data(), found.size());
  }

  // Bytes of it in huge pages, and in all.
  std::pair<uint64_t, uint64_t> Resident() {
    std::ifstream file("/proc/self/smaps");
    uint64_t huge = 0;
    uint64_t resident = 0;
    bool ours = false;
    for (std::string line; std::getline(file, line);) {
      uint64_t first = 0;
      uint64_t last = 0;
      if (sscanf(line.c_str(), "%lx-%lx ", &first, &last) == 2) {
        const auto start = reinterpret_cast<uintptr_t>(memory_);
        ours = first >= start && last <= start + kSize;
      }
      uint64_t kilobytes = 0;
      if (ours && sscanf(line.c_str(), "AnonHugePages: %lu kB", &kilobytes) == 1) huge += kilobytes * 1024;
      if (ours && sscanf(line.c_str(), "Rss: %lu kB", &kilobytes) == 1) resident += kilobytes * 1024;
    }
    return {huge, resident};
  }

  uint8_t* memory_ = nullptr;
  int pagemap_ = -1;
  int faults_ = -1;
};

TEST_F(HugePagesTest, WhatIsPresentIsGatheredAndHoldsWhatItHeld) {
  Gather();
  EXPECT_EQ(Resident(), std::pair(kSize, kSize));
  for (uint64_t page = 0; page < kSize / kPage; ++page) ASSERT_EQ(memory_[page * kPage], Value(page)) << page;
}

TEST_F(HugePagesTest, SmallHolesAreFilledWithZeros) {
  madvise(memory_ + 100 * kPage, 3 * kPage, MADV_DONTNEED);
  madvise(memory_ + kSize - 4 * kPage, 4 * kPage, MADV_DONTNEED);
  ASSERT_EQ(memory_[101 * kPage], 0);  // the page of zeros now
  Gather();
  EXPECT_EQ(Resident(), std::pair(kSize, kSize));
  for (uint64_t page = 0; page < kSize / kPage; ++page) {
    const bool hole = (page >= 100 && page < 103) || page >= kSize / kPage - 4;
    ASSERT_EQ(memory_[page * kPage], hole ? 0 : Value(page)) << page;
  }
}

TEST_F(HugePagesTest, AProcessGrowsLittle) {
  constexpr uint64_t kHole = 64 * kPage;
  madvise(memory_ + kHugePage + 5 * kPage, kHole, MADV_DONTNEED);
  madvise(memory_ + 2 * kHugePage + 5 * kPage, 2 * kHugePage - 10 * kPage, MADV_DONTNEED);
  Gather();
  EXPECT_EQ(Resident(), std::pair(kHugePage, 2 * kHugePage - kHole + 10 * kPage));
}

TEST_F(HugePagesTest, WhatWasWatchedAlreadyIsGatheredAndCountsAsWritten) {
  Written();
  ASSERT_EQ(Written(), 0U);
  Gather();
  EXPECT_EQ(Resident().first, kSize);
  EXPECT_EQ(Written(), kSize / kPage);
}

TEST_F(HugePagesTest, AWriteIsSeenInItsPageAlone) {
  Gather();
  Written();
  memory_[kHugePage + 7 * kPage] = 1;
  memory_[3 * kHugePage] = 1;
  EXPECT_EQ(Written(), 2U);
}

}  // namespace
}  // namespace elsewhere::preload
