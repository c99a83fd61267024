// Which pages a process at home writes between its forks, noted by the kernel (userfaultfd's asynchronous
// write protection, Linux 6.7), so that its deputies need not compare what was not (capture/page_records.h).
//
// Watched is large anonymous private memory, of processes that fork for the second time and are worth it.
// While a process has threads nothing is watched: a device may still write for one of them into memory whose
// page was looked at already. Nothing waits, and where anything fails deputies compare. Raw system calls
// only.
#pragma once

#include <stdint.h>

#include "preload/capture/page_records.h"

namespace elsewhere::preload {

struct InheritedRecords {
  capture::PageRecords* records;  // nullptr: none
  uint32_t fork;
};

// Around a fork at home, with signals blocked.
void WatchBeforeFork();
void WatchAfterForkInParent();

// In the child, before anything else is done with its memory or descriptors: what was watched is the
// parent's.
void WatchAfterForkInChild();
// What the child inherited, once.
InheritedRecords TakeRecords();
void UnmapRecords(const InheritedRecords& inherited);

}  // namespace elsewhere::preload
