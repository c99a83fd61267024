// The request PAGEMAP_SCAN of /proc/PID/pagemap, as in linux/fs.h of kernel 6.7 and later.
#pragma once

#include <stdint.h>
#include <sys/ioctl.h>

namespace elsewhere::capture {

inline constexpr uint64_t kPageIsWritten = 1 << 1;
inline constexpr uint64_t kPageIsFile = 1 << 2;
inline constexpr uint64_t kPageIsPresent = 1 << 3;
inline constexpr uint64_t kPageIsSwapped = 1 << 4;
inline constexpr uint64_t kPageIsZero = 1 << 5;

inline constexpr uint64_t kScanProtectsMatching = 1 << 0;
inline constexpr uint64_t kScanFailsWhereUnwatched = 1 << 1;

struct PageRegion {
  uint64_t start;
  uint64_t end;
  uint64_t categories;
};

struct ScanArguments {
  uint64_t size;
  uint64_t flags;
  uint64_t start;
  uint64_t end;
  uint64_t walk_end;
  uint64_t vector;
  uint64_t vector_length;
  uint64_t max_pages;
  uint64_t category_inverted;
  uint64_t category_mask;
  uint64_t category_anyof_mask;
  uint64_t return_mask;
};
static_assert(sizeof(ScanArguments) == 96);
inline constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);

}  // namespace elsewhere::capture
