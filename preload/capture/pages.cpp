// Finds the pages that travel and hands them over window by window.
//
// These are the present or swapped-out pages of private mappings that are the process's own (not the file's):
// written pages of file mappings, all touched pages of anonymous memory. PAGEMAP_SCAN lists them in one call
// for many regions (kernel 6.7); elsewhere /proc/self/pagemap has a word per page. Pages that were only read
// and are the kernel's zero page are left out, as are stretches of zeros: what has no run reads as zeros.
//
// Memory without PROT_READ (guard pages that once were written) is made readable for the copy and restored
// after.

#include <sys/mman.h>
#include <sys/uio.h>

#include "preload/capture/work.h"

namespace elsewhere::capture {
namespace {

constexpr uint64_t kClassicPresent = uint64_t{1} << 63;
constexpr uint64_t kClassicSwapped = uint64_t{1} << 62;
constexpr uint64_t kClassicFile = uint64_t{1} << 61;
// Without PAGEMAP_SCAN a reserve of terabytes costs a look at every page of it.
constexpr uint64_t kClassicLimit = uint64_t{64} << 30;
// Regions from this size on are scanned by themselves where that is cheaper.
constexpr uint64_t kLargeRegion = 4 << 20;

image::RegionKind KindOf(const image::Region& region) {
  return static_cast<image::RegionKind>(region.kind);
}

bool HasOwnPages(const image::Region& region) {
  const image::RegionKind kind = KindOf(region);
  return kind == image::RegionKind::kAnonymous || kind == image::RegionKind::kFile ||
         kind == image::RegionKind::kStack || kind == image::RegionKind::kHeap;
}

// The stack below the frame that continues is dead (128 bytes of red zone excepted).
uint64_t FirstLiveByte(const Work* work, const image::Region& region) {
  const uint64_t top = work->request->registers->rsp - 128;
  const bool live_stack =
      KindOf(region) == image::RegionKind::kStack && top >= region.start && top < region.end;
  return live_stack ? top & ~(image::kPageSize - 1) : region.start;
}

// [start, end) lies in one region and all its pages are present.
bool CaptureStretch(Work* work, const image::Region& region, uint64_t start, uint64_t end) {
  const uint64_t window = image::WindowSize(region.end - region.start);
  const bool zeros_are_free = KindOf(region) != image::RegionKind::kFile;
  while (start < end) {
    const uint64_t border = (start & ~(window - 1)) + window;
    const uint64_t stop = border < end ? border : end;
    if (!CaptureSegment(work, start, stop - start, zeros_are_free)) return false;
    start = stop;
  }
  return true;
}

bool CaptureReadable(Work* work, const image::Region& region, uint64_t start, uint64_t end) {
  if ((region.protection & PROT_READ) != 0) return CaptureStretch(work, region, start, end);
  const long opened =
      raw::Syscall(SYS_mprotect, raw::Word(region.start), raw::Word(region.end - region.start),
                   static_cast<long>(region.protection | PROT_READ));
  if (raw::Failed(opened)) return Fail(work, "a region cannot be made readable", opened);
  const bool good = CaptureStretch(work, region, start, end);
  raw::Syscall(SYS_mprotect, raw::Word(region.start), raw::Word(region.end - region.start),
               static_cast<long>(region.protection));
  return good;
}

// Pages [start, end) are present; they may span regions, of which some do not travel. *index is the first
// region that may contain `start` and moves on.
bool CaptureRange(Work* work, uint32_t* index, uint64_t start, uint64_t end) {
  while (start < end && *index < work->regions.count) {
    const image::Region& region = work->regions.items[*index];
    if (region.end <= start) {
      ++*index;
      continue;
    }
    if (region.start >= end) return true;
    const uint64_t stop = region.end < end ? region.end : end;
    uint64_t from = region.start > start ? region.start : start;
    const uint64_t live = FirstLiveByte(work, region);
    if (from < live) from = live;
    if (HasOwnPages(region) && region.reserved != kWholeRegion && from < stop &&
        !CaptureReadable(work, region, from, stop)) {
      return false;
    }
    start = stop;
  }
  return true;
}

// Handles the present pages of [start, end) by PAGEMAP_SCAN. `files`: there may be pages of files among them;
// to tell, the kernel looks at its record of each page, and not at the page table alone.
bool ScanRange(Work* work, uint32_t* index, uint64_t start, uint64_t end, bool files) {
  const uint64_t excluded = kPageIsZero | (files ? kPageIsFile : 0);
  while (start < end) {
    ScanArguments arguments{};
    arguments.size = sizeof(arguments);
    arguments.start = start;
    arguments.end = end;
    arguments.vector = reinterpret_cast<uintptr_t>(work->pages);
    arguments.vector_length = kPageRegionBatch;
    arguments.category_inverted = excluded;
    arguments.category_mask = excluded;
    arguments.category_anyof_mask = kPageIsPresent | kPageIsSwapped;
    arguments.return_mask = kPageIsPresent;
    const long found =
        raw::Syscall(SYS_ioctl, work->pagemap, raw::Word(kPagemapScan), raw::Address(&arguments));
    if (raw::Failed(found)) return Fail(work, "PAGEMAP_SCAN failed", found);
    for (long i = 0; i < found; ++i) {
      if (!CaptureRange(work, index, work->pages[i].start, work->pages[i].end)) return false;
    }
    // The kernel collects 512 stretches at a time; having done so, it may leave walk_end where it last paused
    // although it went on to the end. What was listed was walked, and must not be handed over twice.
    const uint64_t listed = found > 0 ? work->pages[found - 1].end : 0;
    const uint64_t walked = arguments.walk_end > listed ? arguments.walk_end : listed;
    if (walked <= start) return Fail(work, "PAGEMAP_SCAN does not advance");
    start = walked;
  }
  return true;
}

bool Travels(uint64_t entry) {
  return (entry & (kClassicPresent | kClassicSwapped)) != 0 && (entry & kClassicFile) == 0;
}

// Hands over the stretches of travelling pages among `count` entries for the pages from `address` on.
bool CaptureEntries(Work* work, uint32_t* index, uint64_t address, uint64_t count) {
  for (uint64_t i = 0; i < count;) {
    uint64_t stop = i + 1;
    if (Travels(work->pagemap_entries[i])) {
      while (stop < count && Travels(work->pagemap_entries[stop])) ++stop;
      const uint64_t start = address + i * image::kPageSize;
      if (!CaptureRange(work, index, start, address + stop * image::kPageSize)) return false;
    }
    i = stop;
  }
  return true;
}

// The same by reading /proc/self/pagemap, for one region. Batches are aligned so that no window is split.
bool ReadPagemap(Work* work, uint32_t* index, const image::Region& region) {
  constexpr uint64_t kBatch = sizeof(work->pagemap_entries) / sizeof(uint64_t);
  if (region.end - region.start > kClassicLimit) {
    return Fail(work, "a region is too large to be looked through on this kernel");
  }
  for (uint64_t address = region.start; address < region.end;) {
    const uint64_t page = address / image::kPageSize;
    const uint64_t last = region.end / image::kPageSize;
    const uint64_t border = (page / kBatch + 1) * kBatch;
    const uint64_t count = (border < last ? border : last) - page;
    const long got = raw::Syscall(SYS_pread64, work->pagemap, raw::Address(work->pagemap_entries),
                                  raw::Word(count * sizeof(uint64_t)), raw::Word(page * sizeof(uint64_t)));
    if (raw::Failed(got) || got % 8 != 0 || got == 0)
      return Fail(work, "/proc/self/pagemap cannot be read", got);
    const uint64_t entries = static_cast<uint64_t>(got) / sizeof(uint64_t);
    if (!CaptureEntries(work, index, address, entries)) return false;
    address += entries * image::kPageSize;
  }
  return true;
}

// True if the byte can be read; a page of a file mapping beyond the file's end cannot.
bool IsReadable(uint64_t address) {
  char byte;
  iovec local{&byte, 1};
  iovec remote{reinterpret_cast<void*>(address), 1};
  const long self = raw::Syscall(SYS_getpid);
  return raw::Syscall(SYS_process_vm_readv, self, raw::Address(&local), 1, raw::Address(&remote), 1) == 1;
}

// All readable pages of a region whose file cannot be mapped again. It becomes anonymous memory.
bool CaptureWhole(Work* work, const image::Region& region) {
  if ((region.protection & PROT_READ) == 0) return Fail(work, "an unreadable mapping of a file that is gone");
  uint64_t address = region.start;
  while (address < region.end) {
    uint64_t stop = address;
    while (stop < region.end && IsReadable(stop)) stop += image::kPageSize;
    if (stop > address && !CaptureStretch(work, region, address, stop)) return false;
    if (stop == region.end) return true;
    // Beyond the end of the file: reading there raised SIGBUS, and now gives zeros.
    address = stop + image::kPageSize;
  }
  return true;
}

bool ProbePagemapScan(Work* work) {
  ScanArguments arguments{};
  arguments.size = sizeof(arguments);
  arguments.start = arguments.end = 0;
  arguments.category_anyof_mask = kPageIsPresent;
  arguments.return_mask = kPageIsPresent;
  return !raw::Failed(
      raw::Syscall(SYS_ioctl, work->pagemap, raw::Word(kPagemapScan), raw::Address(&arguments)));
}

bool CaptureByPagemap(Work* work) {
  uint32_t index = 0;
  for (uint32_t i = 0; i < work->regions.count; ++i) {
    const image::Region& region = work->regions.items[i];
    if (region.reserved == kWholeRegion) {
      if (!CaptureWhole(work, region)) return false;
    } else if (HasOwnPages(region) && !ReadPagemap(work, &index, region)) {
      return false;
    }
  }
  return true;
}

bool IsLargeAnonymous(const image::Region& region) {
  const image::RegionKind kind = KindOf(region);
  return (kind == image::RegionKind::kAnonymous || kind == image::RegionKind::kHeap) &&
         region.end - region.start >= kLargeRegion;
}

// One scan per stretch of regions between those that travel whole and those that are large, so that runs come
// out in order of address.
bool CaptureByScan(Work* work) {
  uint32_t index = 0;
  uint64_t scanned = 0;
  for (uint32_t i = 0; i < work->regions.count; ++i) {
    const image::Region& region = work->regions.items[i];
    const bool whole = region.reserved == kWholeRegion;
    if (!whole && !IsLargeAnonymous(region)) continue;
    if (!ScanRange(work, &index, scanned, region.start, true)) return false;
    if (!(whole ? CaptureWhole(work, region) : ScanRange(work, &index, region.start, region.end, false)))
      return false;
    scanned = region.end;
  }
  return ScanRange(work, &index, scanned, image::kAddressLimit, true);
}

}  // namespace

bool CapturePages(Work* work) {
  work->classic_pagemap = work->classic_pagemap || !ProbePagemapScan(work);
  PrepareRecords(work);
  const bool good = work->classic_pagemap ? CaptureByPagemap(work) : CaptureByScan(work);
  EndRecords(work);
  for (uint32_t i = 0; i < work->regions.count; ++i) work->regions.items[i].reserved = 0;
  return good;
}

}  // namespace elsewhere::capture
