#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/stat.h>

#include "preload/descriptor.h"
#include "preload/memory.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {

constinit std::atomic<uintptr_t> shared_low{UINTPTR_MAX};
constinit std::atomic<uintptr_t> shared_high{0};

namespace {

using registry::Mapping;

constexpr uint32_t kRoom = 4096;
constinit Mapping mappings[kRoom] = {};  // unordered, [0, count)
constinit uint32_t count = 0;

// 0 free, 1 held, 2 held and somebody sleeps.
constinit std::atomic<uint32_t> lock{0};
constinit uint64_t signals_before_fork = 0;

uint64_t BlockSignals() {
  uint64_t all = ~uint64_t{0}, before = 0;
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&all), raw::Address(&before), sizeof all);
  return before;
}
void RestoreSignals(uint64_t before) {
  raw::Syscall(SYS_rt_sigprocmask, SIG_SETMASK, raw::Address(&before), 0, sizeof before);
}

void Acquire() {
  uint32_t free = 0;
  if (lock.compare_exchange_strong(free, 1, std::memory_order_acquire)) return;
  while (lock.exchange(2, std::memory_order_acquire) != 0) {
    raw::Syscall(SYS_futex, raw::Address(&lock), FUTEX_WAIT_PRIVATE, 2);
  }
}
void Release() {
  if (lock.exchange(0, std::memory_order_release) == 2) {
    raw::Syscall(SYS_futex, raw::Address(&lock), FUTEX_WAKE_PRIVATE, 1);
  }
}

class Guard {
 public:
  Guard() : signals_(BlockSignals()) { Acquire(); }
  ~Guard() {
    Release();
    RestoreSignals(signals_);
  }

 private:
  const uint64_t signals_;
};

bool SameObject(const SharedPlace& a, const SharedPlace& b) {
  return a.host == b.host && a.device == b.device && a.inode == b.inode;
}

bool IsUsed(int descriptor) {
  for (uint32_t i = 0; i < count; ++i) {
    if (mappings[i].descriptor == descriptor) return true;
  }
  return false;
}

// A program that aims dup2 at one of our numbers makes ours move (descriptor_own.cpp): the number is closed
// only if it still is what was kept.
void CloseKept(const Mapping& mapping) {
  struct stat status {};
  if (!IsOwn(mapping.descriptor) ||
      raw::Failed(raw::Syscall(SYS_fstat, mapping.descriptor, raw::Address(&status)))) {
    return;
  }
  if (status.st_dev == mapping.place.device && status.st_ino == mapping.place.inode)
    CloseOwn(mapping.descriptor);
}

void SetBounds() {
  uintptr_t low = UINTPTR_MAX, high = 0;
  for (uint32_t i = 0; i < count; ++i) {
    if (mappings[i].start < low) low = mappings[i].start;
    if (mappings[i].end > high) high = mappings[i].end;
  }
  shared_low.store(low, std::memory_order_relaxed);
  shared_high.store(high, std::memory_order_relaxed);
}

Mapping Part(const Mapping& whole, uintptr_t start, uintptr_t end) {
  Mapping part = whole;
  part.start = start;
  part.end = end;
  part.place.offset += start - whole.start;
  return part;
}

// Forgets [start, end) of every mapping. A hole may leave two parts; without room the second is lost: its
// semaphores stay this host's, and a capture still finds its region, but no descriptor.
void Cut(uintptr_t start, uintptr_t end) {
  for (uint32_t i = 0; i < count;) {
    const Mapping whole = mappings[i];
    if (whole.end <= start || whole.start >= end) {
      ++i;
      continue;
    }
    mappings[i] = mappings[--count];
    if (whole.start < start && count < kRoom) mappings[count++] = Part(whole, whole.start, start);
    if (whole.end > end && count < kRoom) mappings[count++] = Part(whole, end, whole.end);
    if (whole.descriptor >= 0 && !IsUsed(whole.descriptor)) CloseKept(whole);
  }
}

}  // namespace

namespace registry {

bool Add(const Mapping& mapping) {
  const Guard guard;
  Cut(mapping.start, mapping.end);
  Mapping added = mapping;
  for (uint32_t i = 0; i < count && mapping.descriptor >= 0; ++i) {
    if (mappings[i].descriptor < 0 || !SameObject(mappings[i].place, mapping.place)) continue;
    CloseOwn(mapping.descriptor);
    added.descriptor = mappings[i].descriptor;
    break;
  }
  const bool has_room = count < kRoom;
  if (has_room) {
    mappings[count++] = added;
  } else if (added.descriptor == mapping.descriptor && added.descriptor >= 0) {
    CloseOwn(added.descriptor);
  }
  SetBounds();
  return has_room;
}

void Remove(uintptr_t start, uintptr_t end) {
  const Guard guard;
  Cut(start, end);
  SetBounds();
}

void Move(uintptr_t old_start, uintptr_t old_end, uintptr_t new_start, uintptr_t new_end) {
  const Guard guard;
  for (uint32_t i = 0; i < count; ++i) {
    if (mappings[i].start > old_start || mappings[i].end <= old_start) continue;
    Mapping moved = Part(mappings[i], old_start, mappings[i].end);
    moved.start = new_start;
    moved.end = new_end;
    // Held open over the cut.
    if (count < kRoom) {
      mappings[count++] = Mapping{0, 0, moved.place, moved.descriptor};
      Cut(old_start, old_end);
      Cut(new_start, new_end);
      for (uint32_t placeholder = 0; placeholder < count; ++placeholder) {
        if (mappings[placeholder].end == 0) mappings[placeholder] = moved;
      }
    }
    break;
  }
  SetBounds();
}

}  // namespace registry

bool FindSharedPlace(const void* address, SharedPlace* place) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  if (!MayBeShared(address, 1)) return false;
  const Guard guard;
  for (uint32_t i = 0; i < count; ++i) {
    if (at < mappings[i].start || at >= mappings[i].end) continue;
    *place = mappings[i].place;
    place->offset += at - mappings[i].start;
    return true;
  }
  return false;
}

void MemoryBeforeFork() {
  const uint64_t before = BlockSignals();
  Acquire();
  signals_before_fork = before;
}

void MemoryAfterFork() {
  const uint64_t before = signals_before_fork;
  Release();
  RestoreSignals(before);
}

void MemoryAfterRestore() {
  for (uint32_t i = 0; i < count; ++i) {
    if (mappings[i].descriptor >= 0) ForgetOwn(mappings[i].descriptor);
    mappings[i].descriptor = -1;
  }
}

}  // namespace elsewhere::preload
