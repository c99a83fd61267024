// Huge pages (2 MB) for memory that is forked again and again. What a fork costs is counted in pages: it
// copies an entry for each, the deputy looks at each when it captures itself, and gives each back when it
// becomes a proxy. Of huge pages there are 512 times fewer.
//
// Only what is present but for a sixteenth is gathered, so a process grows by no more. Writing to a huge page
// that a child still shares copies a small page, as before. What the administrator or the program has ruled
// out (`never`, PR_SET_THP_DISABLE, MADV_NOHUGEPAGE) is not done. Linux 6.1; raw system calls only.
#pragma once

#include <stdint.h>

#include "preload/capture/pagemap_scan.h"

namespace elsewhere::preload {

inline constexpr uint64_t kHugePage = 2 << 20;

// Whether the administrator allows them.
bool HugePagesAllowed();

// How much may be gathered now: the pages gathered are copies as long as children have the others.
uint64_t HugePageAllowance();

// `start` and `end`: multiples of kHugePage. `found`: room for `limit` entries. `faults`: the userfaultfd
// that watches the memory; what was gathered counts as written. The calling process has one thread.
void GatherHugePages(int pagemap, int faults, uint64_t start, uint64_t end, capture::PageRegion* found,
                     uint64_t limit);

}  // namespace elsewhere::preload
