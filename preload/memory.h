// The shared mappings of this process: which addresses belong to which object, and a descriptor for each
// object that no path leads to, so that a fork can hand it to the agent.
//
// An anonymous MAP_SHARED mapping has no object that could be handed on, so the hook maps a memfd instead. Of
// a file, a duplicate descriptor is kept where the path may be gone by the time of a fork: files of memory
// file systems (what shm_open and tempfile make) and unlinked ones. Nothing is kept of a file on disk:
// closing any descriptor of it would drop the program's fcntl locks.
//
// Private mappings pay one test of their flags, unmapping one comparison of bounds. Thread-safe;
// async-signal-safe as far as mmap is: the registry's lock is held with all signals blocked.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <atomic>

namespace elsewhere::preload {

// Where an address lies, in terms that hold on every host: the object as its first host numbers it.
struct SharedPlace {
  uint32_t host;
  uint64_t device;
  uint64_t inode;
  uint64_t offset;  // in the object
};

// False: the address is in no shared mapping that went through mmap of libc.
bool FindSharedPlace(const void* address, SharedPlace* place);

// True if any shared mapping reaches into [start, start + size). For wrappers: two loads.
extern std::atomic<uintptr_t> shared_low;
extern std::atomic<uintptr_t> shared_high;
inline bool MayBeShared(const void* start, size_t size) {
  const auto first = reinterpret_cast<uintptr_t>(start);
  return first < shared_high.load(std::memory_order_relaxed) &&
         first + size > shared_low.load(std::memory_order_relaxed);
}

// Around every real fork; see ipc.h.
void MemoryBeforeFork();
void MemoryAfterFork();
// In a restored process: its descriptors are other ones, its places stay.
void MemoryAfterRestore();

namespace registry {

struct Mapping {
  uintptr_t start;
  uintptr_t end;
  SharedPlace place;  // of `start`
  int descriptor;     // ours; -1: none is kept
};

// Replaces whatever was known of the range. Takes the descriptor over; where the object is known already its
// descriptor is used and this one closed. False: no room (the descriptor is closed).
bool Add(const Mapping& mapping);
void Remove(uintptr_t start, uintptr_t end);
// mremap: what was known of the old range is now known of the new one, whose size may differ.
void Move(uintptr_t old_start, uintptr_t old_end, uintptr_t new_start, uintptr_t new_end);

}  // namespace registry
}  // namespace elsewhere::preload
