#include "preload/huge_pages.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "preload/capture/maps_line.h"
#include "shim/wire/raw_syscall.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace elsewhere::preload {
namespace {

constexpr uint64_t kAllowedShare = 4;  // of the memory that is available
constexpr uint64_t kMostMissing = 16;  // this part of a huge page; an allocator's arena may have its holes

// Terminated; false: it cannot be read.
template <uint64_t kSize>
bool ReadText(const char* path, char (&text)[kSize]) {
  const long file = raw::Syscall(SYS_open, raw::Address(path), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(file)) return false;
  const long size = raw::Read(static_cast<int>(file), text, kSize - 1);
  raw::Close(static_cast<int>(file));
  if (size <= 0) return false;
  text[size] = '\0';
  return true;
}

// The kernel gathers nothing that is protected against writing.
bool Unprotect(int faults, uint64_t start, uint64_t length) {
  uffdio_writeprotect change{};
  change.range = {start, length};
  return !raw::Failed(raw::Syscall(SYS_ioctl, faults, UFFDIO_WRITEPROTECT, raw::Address(&change)));
}

// Stretches of pages that are there, ascending.
struct Present {
  const capture::PageRegion* stretches;
  uint64_t count;
};

// Calls `hole(start, end)` for what is not there of the block.
template <class Hole>
void ForEachHole(const Present& present, uint64_t block, Hole hole) {
  const uint64_t end = block + kHugePage;
  uint64_t at = block;
  for (uint64_t i = 0; i < present.count && at < end; ++i) {
    const capture::PageRegion& stretch = present.stretches[i];
    if (stretch.end <= at) continue;
    if (stretch.start > at) hole(at, stretch.start < end ? stretch.start : end);
    at = stretch.end;
  }
  if (at < end) hole(at, end);
}

bool IsWorthwhile(const Present& present, uint64_t block) {
  uint64_t missing = 0;
  ForEachHole(present, block, [&missing](uint64_t start, uint64_t end) { missing += end - start; });
  return missing <= kHugePage / kMostMissing;
}

// Of watched memory the kernel gathers only what is there.
void FillHoles(const Present& present, uint64_t block) {
  ForEachHole(present, block, [](uint64_t start, uint64_t end) {
    raw::Syscall(SYS_madvise, raw::Word(start), raw::Word(end - start), MADV_POPULATE_WRITE);
  });
}

}  // namespace

bool HugePagesAllowed() {
  char text[128];
  return ReadText("/sys/kernel/mm/transparent_hugepage/enabled", text) && strstr(text, "[never]") == nullptr;
}

uint64_t HugePageAllowance() {
  char text[1024];
  if (!ReadText("/proc/meminfo", text)) return 0;
  const char* at = strstr(text, "MemAvailable:");
  if (at == nullptr) return 0;
  at += sizeof "MemAvailable:" - 1;
  while (*at == ' ') ++at;
  return capture::TakeNumber(&at, 10) * 1024 / kAllowedShare;
}

void GatherHugePages(int pagemap, int faults, uint64_t start, uint64_t end, capture::PageRegion* found,
                     uint64_t limit) {
  constexpr uint64_t kAbsent = capture::kPageIsZero;
  capture::ScanArguments arguments{};
  arguments.size = sizeof arguments;
  arguments.start = start;
  arguments.end = end;
  arguments.vector = reinterpret_cast<uintptr_t>(found);
  arguments.vector_length = limit;
  arguments.category_inverted = kAbsent;
  arguments.category_mask = capture::kPageIsPresent | kAbsent;
  arguments.return_mask = capture::kPageIsPresent;
  const long count =
      raw::Syscall(SYS_ioctl, pagemap, raw::Word(capture::kPagemapScan), raw::Address(&arguments));
  if (raw::Failed(count) || count == 0) return;
  const Present present{found, static_cast<uint64_t>(count)};
  uint64_t first = start;
  for (uint64_t block = start; block <= end; block += kHugePage) {
    if (block < end && IsWorthwhile(present, block) && Unprotect(faults, block, kHugePage)) {
      FillHoles(present, block);
      continue;
    }
    if (first < block) raw::Syscall(SYS_madvise, raw::Word(first), raw::Word(block - first), MADV_COLLAPSE);
    first = block + kHugePage;
  }
}

}  // namespace elsewhere::preload
