// The capture's working memory: one shared anonymous mapping (shared, so that the kernel cannot merge it with
// the captured process's own regions), sparse, thrown away at the end. Private to preload/capture.
#pragma once

#include "preload/capture/capture.h"
#include "preload/capture/pagemap_scan.h"
#include "shim/wire/arena.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::capture {

// What a section is collected in before its size is known.
template <class T, uint32_t kLimit>
struct Collected {
  uint32_t count;
  uint32_t reserved;
  T items[kLimit];

  // nullptr when full.
  T* Add() { return count < kLimit ? &items[count++] : nullptr; }
};

inline constexpr uint32_t kPageRegionBatch = 2048;
inline constexpr uint32_t kTextBuffer = 64 << 10;

struct Work {
  const Request* request;
  const char* problem;
  int error;
  int pagemap;           // /proc/self/pagemap
  bool classic_pagemap;  // no PAGEMAP_SCAN here
  arena::Arena arena;
  uint64_t arena_tables;        // bytes of the arena mapping
  uint64_t reference_location;  // chunk that the last run referred to
  uint32_t reference_index;
  image::Header header;
  Collected<image::Region, image::kMaxRegions> regions;
  Collected<image::Run, image::kMaxRuns> runs;
  Collected<image::Chunk, image::kMaxChunks> chunks;
  Collected<image::File, image::kMaxFiles> files;
  Collected<image::Object, image::kMaxObjects> objects;
  Collected<image::Descriptor, image::kMaxDescriptors> descriptors;
  Collected<char, image::kMaxStrings> strings;
  Collected<uint32_t, image::kMaxGroups> groups;
  Collected<uint8_t, image::kMaxAuxv> auxv;
  PageRegion pages[kPageRegionBatch];
  static constexpr uint64_t kEntries = 4096;
  uint64_t pagemap_entries[kEntries];
  uint64_t entries_first;  // page that the first is of, where there are `entry_count`
  uint64_t entry_count;
  char text[kTextBuffer];
  PageRecords* records;  // nullptr: not to be used
  bool others_wait;      // for what this deputy notes there
  // Of the segment that is being captured, at most one window.
  uint64_t segment;                                        // its address
  uint64_t* equal;                                         // its words of the records; nullptr: it has none
  bool unwritten[image::kLargeWindow / image::kPageSize];  // since the fork that `equal` speaks of
  alignas(4096) uint8_t chunk[64 << 10];                   // a piece of the arena, to compare with
};

// Each step returns false after noting the problem in `work`.
bool Fail(Work* work, const char* problem, long result = 0);
bool ReadRegions(Work* work);
bool CapturePages(Work* work);
void PrepareRecords(Work* work);
void EndRecords(Work* work);  // after the last page, whether or not it was captured
bool CaptureSegment(Work* work, uint64_t address, uint64_t length, bool zeros_are_free);
bool ReadDescriptors(Work* work);
bool ReadIdentity(Work* work);

// Appends a string; its offset, or image::kNone when there is no room.
uint32_t AddText(Work* work, const char* text, uint64_t length);

// Regions whose pages all travel although they map a file (it is gone or was replaced) carry this in
// `reserved` during the capture.
inline constexpr uint32_t kWholeRegion = 1;

}  // namespace elsewhere::capture
