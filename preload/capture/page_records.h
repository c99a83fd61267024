// What is known of the pages of a process that forks again and again, so that a fork costs what changed.
//
// The process has the kernel note which pages are written (preload/write_watch.h); its deputies note which
// chunk a page was equal to. Forks are numbered 1, 2, ...; after each, and at what it gathers into huge pages
// also before, the process looks which pages were written since it looked last, and writes the last fork's
// number beside them:
//
//   written[page] = j   a look between forks j and j + 1 found that it had been
//   equal[page]   = k   and a place in the arena: at fork k the page was as there
//
// So a page is at fork n what it was at fork k if written[page] is less than both and the look after the
// later of the two is over: each write between them was seen by one of the looks from the earlier to the
// later. A deputy for which that look comes too late compares, as without records. Pages that the deputy has
// written itself since the fork are mapped by it alone, which its pagemap says; they are compared, and not
// noted.
//
// Where much is not known, as at first, deputies compare one after the other, so that each page is compared
// once. Nobody waits long for another, which may have been stopped or killed.
//
// Shared by the process and its deputies, which only ever add true statements; every word is stored at once.
// Slots of pages are never used again for other addresses. Places are those of one arena.
#pragma once

#include <stdint.h>

#include "preload/capture/pagemap_scan.h"

namespace elsewhere::capture {

struct WatchedRange {
  uint64_t start;
  uint64_t end;
  uint32_t first;  // slot of its first page
  uint32_t over;   // is something else by now
};

struct PageRecords {
  static constexpr uint32_t kRanges = 512;
  static constexpr uint32_t kPages = 4 << 20;  // 16 GiB; a slot that is not used takes no memory
  static constexpr uint32_t kScanBatch = 1024;
  static constexpr uint32_t kForkShift = 40;  // of a word of `equal`, above the page of the arena
  static constexpr uint32_t kMostForks = (1U << 24) - 1;

  uint64_t arena;      // inode of the arena; 0: no deputy has come yet
  uint32_t scanned;    // the last fork after which was looked
  uint32_t stale;      // there is another arena by now
  uint32_t comparing;  // the deputy that compares much, by its pid; 0: none
  uint32_t left;       // pages that were not known when a deputy was through
  uint32_t range_count;
  uint32_t used_pages;
  WatchedRange ranges[kRanges];
  PageRegion scan[kScanBatch];  // the process's alone
  char text[64 << 10];          // likewise
  uint32_t written[kPages];
  uint64_t equal[kPages];
};

template <class T>
T LoadRecord(const T* word) {
  return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}
template <class T>
void StoreRecord(T* word, T value) {
  __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

// Whether the page of that slot is in fork `fork` what it was in the fork that its record speaks of, an
// earlier or a later one.
inline bool IsAsNoted(const PageRecords& records, uint64_t slot, uint32_t fork) {
  const auto noted = static_cast<uint32_t>(LoadRecord(&records.equal[slot]) >> PageRecords::kForkShift);
  const uint32_t first = noted < fork ? noted : fork;
  const uint32_t last = noted < fork ? fork : noted;
  return LoadRecord(&records.scanned) >= last && LoadRecord(&records.written[slot]) < first;
}

// Called by the deputy of fork `fork` before it compares: waits while another compares much that is unknown
// to both. True: it is the one itself, and calls EndNotes when it is through.
bool AwaitNotes(PageRecords& records, uint32_t fork);
void EndNotes(PageRecords& records, uint32_t fork);

}  // namespace elsewhere::capture
