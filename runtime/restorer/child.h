// A forked zygote on its way to being the process of an image. Private to runtime/restorer.
//
// Every step returns false after noting what went wrong; nothing of the image runs before all have succeeded.
#pragma once

#include "runtime/restorer/zygote.h"
#include "shim/wire/image_view.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::restorer {

struct Child {
  const Zygote* zygote;
  Job* job;
  image::View view;
  int socket;        // moves while descriptors are put in place
  const char* step;  // what failed
  long error;        // negative errno value, or 0
  uint64_t address;
};

inline bool Fail(Child* child, const char* step, long error = 0, uint64_t address = 0) {
  child->step = step;
  child->error = error;
  child->address = address;
  return false;
}

bool OpenManifest(Child* child);
void PlanRuns(Child* child);          // runs.cpp: what is mapped and what is copied
bool MapRegions(Child* child);        // regions.cpp: every region, empty or from its file
bool FillRegions(Child* child);       // runs.cpp: the pages that travelled
bool RestoreMemoryMap(Child* child);  // state.cpp: brk and what ps shows
bool RestoreState(Child* child);      // state.cpp: signals, thread, identity
bool RestoreDescriptors(Child* child);
void RestoreLimits(Child* child);  // after the descriptors, which may lie above the limit
[[noreturn]] void Enter(Child* child);

// The plan copies pages into this region: it is mapped writable until FillRegions is done.
bool IsOpenedForFilling(uint32_t region);

// True if the image has [address, address + size) in one writable region.
bool IsWritable(const Child* child, uint64_t address, uint64_t size);

// The descriptor that came with the request; -1 if there is none of that index.
inline int Source(const Child* child, uint32_t index) {
  return index < child->job->received ? child->job->descriptors[index] : -1;
}

}  // namespace elsewhere::restorer
