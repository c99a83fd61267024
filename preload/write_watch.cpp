#include "preload/write_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/mman.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <time.h>

#include "preload/capture/maps_line.h"
#include "preload/descriptor.h"
#include "preload/huge_pages.h"
#include "shim/wire/raw_syscall.h"

#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

namespace elsewhere::preload {
namespace {

using capture::LoadRecord;
using capture::MapsLine;
using capture::PageRecords;
using capture::StoreRecord;
using capture::WatchedRange;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kAsynchronous = 1 << 15;              // UFFD_FEATURE_WP_ASYNC
constexpr uint64_t kWorthWatching = (32 << 20) / kPage;  // resident pages
constexpr uint64_t kLeastRange = 1 << 20;
// While huge pages are gathered a fork may take twice the time that the last one took the processor, or this
// much more.
constexpr uint64_t kLongestGathering = 20'000'000;  // nanoseconds
constexpr uint64_t kGatheredAtOnce = 16 << 20;

// Of this process alone: a child has none.
struct Watch {
  PageRecords* records = nullptr;
  int faults = -1;  // the userfaultfd
  long process = 0;
  uint32_t forks = 0;
  uint64_t mapped_pages = 0;  // when ranges were looked for last
  uint64_t fork_began = 0;    // nanoseconds
  uint64_t fork_took = 0;     // the last one
  uint32_t gathered_ranges = 0;
  uint64_t gathered = 0;  // of the next one, up to this address
  bool impossible = false;
};
constinit Watch watch;
constinit InheritedRecords inherited = {nullptr, 0};

struct Memory {
  uint64_t mapped;
  uint64_t resident;
};

Memory MemoryPages() {
  const long file = raw::Syscall(SYS_open, raw::Address("/proc/self/statm"), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(file)) return {};
  char text[128];
  const long size = raw::Read(static_cast<int>(file), text, sizeof text - 1);
  raw::Close(static_cast<int>(file));
  if (size <= 0) return {};
  text[size] = '\0';
  const char* at = text;
  const uint64_t mapped = capture::TakeNumber(&at, 10);
  if (*at == ' ') ++at;
  return {mapped, capture::TakeNumber(&at, 10)};
}

// Of this thread, in nanoseconds.
uint64_t ProcessorTime() {
  timespec time{};
  raw::Syscall(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, raw::Address(&time));
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(time.tv_nsec);
}

void End() {
  if (watch.records == nullptr) return;
  CloseOwn(watch.faults);
  raw::Syscall(SYS_munmap, raw::Address(watch.records), sizeof(PageRecords));
  watch.records = nullptr;
  watch.faults = -1;
  watch.mapped_pages = 0;
  watch.gathered_ranges = 0;
  watch.gathered = 0;
}

bool Begin() {
  const long made = raw::Syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
  if (raw::Failed(made)) return false;
  const int faults = MoveToOwn(static_cast<int>(made));
  if (faults < 0) return false;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kAsynchronous;
  const long address = raw::Syscall(SYS_mmap, 0, sizeof(PageRecords), PROT_READ | PROT_WRITE,
                                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (raw::Failed(raw::Syscall(SYS_ioctl, faults, UFFDIO_API, raw::Address(&api))) || raw::Failed(address)) {
    if (!raw::Failed(address)) raw::Syscall(SYS_munmap, address, sizeof(PageRecords));
    CloseOwn(faults);
    return false;
  }
  watch.faults = faults;
  watch.records = reinterpret_cast<PageRecords*>(address);
  return true;
}

void Add(uint64_t start, uint64_t end) {
  PageRecords& records = *watch.records;
  const uint64_t pages = (end - start) / kPage;
  if (end - start < kLeastRange || records.range_count == PageRecords::kRanges ||
      pages > PageRecords::kPages - records.used_pages) {
    return;
  }
  uffdio_register range{};
  range.range = {start, end - start};
  range.mode = UFFDIO_REGISTER_MODE_WP;
  if (raw::Failed(raw::Syscall(SYS_ioctl, watch.faults, UFFDIO_REGISTER, raw::Address(&range)))) return;
  records.ranges[records.range_count] = {start, end, records.used_pages, 0};
  records.used_pages += static_cast<uint32_t>(pages);
  StoreRecord(&records.range_count, records.range_count + 1);
}

// What of [start, end) is in no range yet.
void AddUnwatched(uint64_t start, uint64_t end) {
  const PageRecords& records = *watch.records;
  while (start < end) {
    uint64_t stop = end;
    uint64_t covered = start;
    for (uint32_t i = 0; i < records.range_count; ++i) {
      const WatchedRange& range = records.ranges[i];
      if (range.over != 0) continue;
      if (range.start <= start && start < range.end) covered = range.end;
      if (range.start > start && range.start < stop) stop = range.start;
    }
    if (covered == start) Add(start, stop);
    start = covered == start ? stop : covered;
  }
}

void Consider(const MapsLine& line) {
  const bool anonymous = line.inode == 0 && (line.name[0] == '\0' || line.name[1] == 'h');  // [heap]
  constexpr uint32_t kBoth = PROT_READ | PROT_WRITE;
  if (!anonymous || line.shared || (line.protection & kBoth) != kBoth) return;
  AddUnwatched(line.start, line.end);
}

void FindRanges() {
  const long maps = raw::Syscall(SYS_open, raw::Address("/proc/self/maps"), O_RDONLY | O_CLOEXEC);
  if (raw::Failed(maps)) return;
  char* text = watch.records->text;
  constexpr uint64_t kSize = sizeof watch.records->text;
  uint64_t filled = 0;
  for (;;) {
    const long got = raw::Read(static_cast<int>(maps), text + filled, kSize - filled);
    if (got <= 0) break;
    filled += static_cast<uint64_t>(got);
    uint64_t begin = 0;
    for (uint64_t at = 0; at < filled; ++at) {
      if (text[at] != '\n') continue;
      text[at] = '\0';
      Consider(capture::ParseMapsLine(text + begin, text + at));
      begin = at + 1;
    }
    filled -= begin;
    for (uint64_t i = 0; i < filled; ++i) text[i] = text[begin + i];
  }
  raw::Close(static_cast<int>(maps));
}

// Notes with the number of `fork` what was written in [start, end) of the range, and has it noted anew.
// False: it is not what was watched any more.
bool Look(int pagemap, const WatchedRange& range, uint64_t start, uint64_t end, uint32_t fork) {
  PageRecords& records = *watch.records;
  for (uint64_t at = start; at < end;) {
    capture::ScanArguments arguments{};
    arguments.size = sizeof arguments;
    arguments.flags = capture::kScanProtectsMatching | capture::kScanFailsWhereUnwatched;
    arguments.start = at;
    arguments.end = end;
    arguments.vector = reinterpret_cast<uintptr_t>(records.scan);
    arguments.vector_length = PageRecords::kScanBatch;
    arguments.category_mask = capture::kPageIsWritten;
    arguments.category_anyof_mask = capture::kPageIsPresent | capture::kPageIsSwapped;
    arguments.return_mask = capture::kPageIsWritten;
    const long found =
        raw::Syscall(SYS_ioctl, pagemap, raw::Word(capture::kPagemapScan), raw::Address(&arguments));
    if (raw::Failed(found)) return false;
    for (long i = 0; i < found; ++i) {
      const uint64_t first = range.first + (records.scan[i].start - range.start) / kPage;
      const uint64_t last = range.first + (records.scan[i].end - range.start) / kPage;
      for (uint64_t page = first; page < last; ++page) StoreRecord(&records.written[page], fork);
    }
    if (arguments.walk_end <= at) return false;
    at = arguments.walk_end;
  }
  return true;
}

// The next piece of the ranges that is large enough; false: there is none.
bool NextPiece(uint64_t* start, uint64_t* end) {
  const PageRecords& records = *watch.records;
  for (; watch.gathered_ranges < records.range_count; ++watch.gathered_ranges, watch.gathered = 0) {
    const WatchedRange& range = records.ranges[watch.gathered_ranges];
    const uint64_t from = watch.gathered > range.start ? watch.gathered : range.start;
    *start = (from + kHugePage - 1) & ~(kHugePage - 1);
    *end = range.end & ~(kHugePage - 1);
    if (range.over != 0 || *start >= *end) continue;
    if (*end - *start > kGatheredAtOnce) *end = *start + kGatheredAtOnce;
    watch.gathered = *end;
    return true;
  }
  return false;
}

// A range that is something else by now is over.
bool LookOrEnd(int pagemap, WatchedRange& range, uint64_t start, uint64_t end, uint32_t fork) {
  if (range.over != 0) return false;
  if (Look(pagemap, range, start, end, fork)) return true;
  StoreRecord(&range.over, 1U);
  watch.mapped_pages = 0;  // look for ranges again
  return false;
}

// Goes on with each fork where it was left at the one before.
void Gather(int pagemap) {
  PageRecords& records = *watch.records;
  if (watch.gathered_ranges == records.range_count || !HugePagesAllowed()) return;
  uint64_t allowance = HugePageAllowance();
  const uint64_t longest = watch.fork_took > kLongestGathering ? watch.fork_took : kLongestGathering;
  const uint64_t began = ProcessorTime();
  uint64_t start = 0;
  uint64_t end = 0;
  while (allowance >= kGatheredAtOnce && ProcessorTime() - began < longest && NextPiece(&start, &end)) {
    GatherHugePages(pagemap, watch.faults, start, end, records.scan, PageRecords::kScanBatch);
    LookOrEnd(pagemap, records.ranges[watch.gathered_ranges], start, end, watch.forks - 1);
    allowance -= end - start;
  }
}

int OpenPagemap() {
  const long pagemap = raw::Syscall(SYS_open, raw::Address("/proc/self/pagemap"), O_RDONLY | O_CLOEXEC);
  return raw::Failed(pagemap) ? -1 : static_cast<int>(pagemap);
}

// What is watched from now on, and what is gathered, counts as written, and deputies compare it: before the
// fork, so that what the first of them notes holds for all others.
bool Prepare(const Memory& memory) {
  const int pagemap = OpenPagemap();
  if (pagemap < 0) return false;
  PageRecords& records = *watch.records;
  if (memory.mapped != watch.mapped_pages) {
    const uint32_t known = records.range_count;
    watch.mapped_pages = memory.mapped;
    FindRanges();
    for (uint32_t i = known; i < records.range_count; ++i) {
      WatchedRange& range = records.ranges[i];
      LookOrEnd(pagemap, range, range.start, range.end, watch.forks - 1);
    }
  }
  Gather(pagemap);
  raw::Close(pagemap);
  return true;
}

bool LookAtAll() {
  const int pagemap = OpenPagemap();
  if (pagemap < 0) return false;
  PageRecords& records = *watch.records;
  for (uint32_t i = 0; i < records.range_count; ++i) {
    WatchedRange& range = records.ranges[i];
    LookOrEnd(pagemap, range, range.start, range.end, watch.forks);
  }
  raw::Close(pagemap);
  return true;
}

// Whether the process is to be watched at the fork that is about to be made.
bool IsWatched() {
  if (watch.forks < 2 || watch.impossible) return false;
  const bool alone = __libc_single_threaded != 0 && watch.forks < PageRecords::kMostForks;
  if (!alone || (watch.records != nullptr && LoadRecord(&watch.records->stale) != 0)) End();
  return alone;
}

void PrepareToFork() {
  if (!IsWatched()) return;
  const Memory memory = MemoryPages();
  if (watch.records == nullptr) {
    if (memory.resident < kWorthWatching) return;
    watch.impossible = !Begin();
    if (watch.impossible) return;
  }
  if (!Prepare(memory)) End();
}

}  // namespace

void WatchBeforeFork() {
  const long process = raw::Syscall(SYS_getpid);
  if (watch.process != process) {  // a child that was made without us
    WatchAfterForkInChild();
    UnmapRecords(TakeRecords());
    watch.process = process;
  }
  ++watch.forks;
  PrepareToFork();
  watch.fork_began = ProcessorTime();
}

void WatchAfterForkInParent() {
  watch.fork_took = ProcessorTime() - watch.fork_began;
  if (!IsWatched() || watch.records == nullptr) return;
  if (!LookAtAll()) return End();
  StoreRecord(&watch.records->scanned, watch.forks);
}

void WatchAfterForkInChild() {
  inherited = {watch.records, watch.forks};
  if (watch.faults >= 0) CloseOwn(watch.faults);
  watch = Watch{};
}

InheritedRecords TakeRecords() {
  const InheritedRecords taken = inherited;
  inherited = {nullptr, 0};
  return taken;
}

void UnmapRecords(const InheritedRecords& taken) {
  if (taken.records != nullptr) raw::Syscall(SYS_munmap, raw::Address(taken.records), sizeof(PageRecords));
}

}  // namespace elsewhere::preload
