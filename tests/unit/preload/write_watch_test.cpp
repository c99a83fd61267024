#include "preload/write_watch.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/descriptor.h"

namespace elsewhere::preload {

int MoveToOwn(int descriptor) {
  return descriptor;
}
void CloseOwn(int descriptor) {
  close(descriptor);
}

namespace {

using capture::PageRecords;
using capture::WatchedRange;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kSize = 64 << 20;
constexpr int kSkip = 77;

// Exit status of the fork's child: what `look` says of the records that it inherits.
template <class Look>
int Fork(Look look) {
  WatchBeforeFork();
  const pid_t child = fork();
  if (child == 0) {
    WatchAfterForkInChild();
    const InheritedRecords inherited = TakeRecords();
    if (inherited.records == nullptr) _exit(kSkip);
    while (capture::LoadRecord(&inherited.records->scanned) < inherited.fork) {
    }
    _exit(look(*inherited.records, inherited.fork));
  }
  WatchAfterForkInParent();
  int status = -1;
  waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

uint32_t* WrittenWords(PageRecords& records, const uint8_t* memory) {
  const auto address = reinterpret_cast<uint64_t>(memory);
  for (uint32_t i = 0; i < records.range_count; ++i) {
    const WatchedRange& range = records.ranges[i];
    if (range.over == 0 && range.start <= address && address < range.end)
      return records.written + range.first + (address - range.start) / kPage;
  }
  return nullptr;
}

TEST(WriteWatch, WhatTheDeputyOfAForkNotesHoldsForLaterOnes) {
  auto* memory =
      static_cast<uint8_t*>(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  for (uint64_t at = 0; at < kSize; at += kPage) memory[at] = 1;
  const auto none = [](PageRecords&, uint32_t) { return 0; };
  EXPECT_EQ(Fork(none), kSkip) << "a process that forks for the first time";
  // The number of pages that count as written since fork `fork` was made, but for those that are.
  const auto invalid = [memory](PageRecords& records, uint32_t fork) {
    const uint32_t* written = WrittenWords(records, memory);
    if (written == nullptr) return 2;
    for (uint64_t page = 0; page < kSize / kPage; ++page) {
      if (written[page] >= fork) return 3;
      if (written[page] == 0) return 4;
    }
    return 0;
  };
  for (int forks = 2; forks < 8; ++forks) {
    const int result = Fork(invalid);
    if (result == kSkip) GTEST_SKIP() << "this kernel does not watch memory";
    EXPECT_EQ(result, 0) << "fork " << forks;
  }
  memory[7 * kPage] = 2;
  const auto seen = [memory](PageRecords& records, uint32_t fork) {
    return WrittenWords(records, memory)[7] == fork ? 0 : 5;
  };
  EXPECT_EQ(Fork(seen), 0);
  EXPECT_EQ(Fork(invalid), 0);
  munmap(memory, kSize);
}

}  // namespace
}  // namespace elsewhere::preload
