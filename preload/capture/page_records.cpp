#include "preload/capture/page_records.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>

#include "shim/wire/raw_syscall.h"

namespace elsewhere::capture {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint32_t kMuch = 2048;            // pages; comparing them takes some 3 ms
constexpr long kLongestWait = 100'000'000;  // nanoseconds

// Pages that once were there, and are not known to be as noted.
uint32_t CountUnknown(const PageRecords& records, uint32_t fork) {
  uint32_t unknown = 0;
  const uint32_t count = LoadRecord(&records.range_count);
  for (uint32_t i = 0; i < count; ++i) {
    const WatchedRange& range = records.ranges[i];
    if (LoadRecord(&range.over) != 0) continue;
    const uint64_t end = range.first + (range.end - range.start) / kPage;
    for (uint64_t slot = range.first; slot < end; ++slot) {
      if (LoadRecord(&records.written[slot]) != 0 && !IsAsNoted(records, slot, fork)) ++unknown;
    }
  }
  return unknown;
}

// What a deputy left unknown that was through nobody will come to know, as pages that were thrown away.
bool IsMuchUnknown(const PageRecords& records, uint32_t fork) {
  return CountUnknown(records, fork) > LoadRecord(&records.left) + kMuch;
}

uint32_t Self() {
  return static_cast<uint32_t>(raw::Syscall(SYS_getpid));
}

bool Change(uint32_t* word, uint32_t from, uint32_t to) {
  return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

}  // namespace

bool AwaitNotes(PageRecords& records, uint32_t fork) {
  while (IsMuchUnknown(records, fork)) {
    if (Change(&records.comparing, 0, Self())) return true;
    const uint32_t other = LoadRecord(&records.comparing);
    if (other == 0) continue;
    const timespec longest{0, kLongestWait};
    const long woken = raw::Syscall(SYS_futex, raw::Address(&records.comparing), FUTEX_WAIT,
                                    static_cast<long>(other), raw::Address(&longest));
    if (woken != -ETIMEDOUT) continue;
    Change(&records.comparing, other, 0);  // the next one need not wait for it, too
    return false;
  }
  return false;
}

void EndNotes(PageRecords& records, uint32_t fork) {
  StoreRecord(&records.left, CountUnknown(records, fork));
  if (!Change(&records.comparing, Self(), 0)) return;  // others have gone on
  raw::Syscall(SYS_futex, raw::Address(&records.comparing), FUTEX_WAKE, 1 << 30);
}

}  // namespace elsewhere::capture
