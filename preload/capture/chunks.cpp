// Finds for each stretch of present pages the chunks that hold it, copying into the arena what is in none.
//
// A segment is at most one window. In order:
//   0. Pages that the process has not written since a deputy found them equal to the chunk that was last seen
//   at the address need not be looked at (page_records.h).
//   1. The chunk that was last seen at this address is compared page by page. Pages that are equal refer to
//   it;
//      pages that are not become chunks of their own. Two forks of one process share 92 to 99% of their
//      pages, so this is the common case: no hashing, and a fork costs the pages that changed, not their
//      windows.
//   2. If there is none, or more than half of it differs, the segment is hashed and looked up by content.
//   3. If that finds nothing, it is copied into the arena and published.

#define XXH_INLINE_ALL
#define XXH_NO_STDLIB
#include <immintrin.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "preload/capture/work.h"

namespace elsewhere::capture {
namespace {

constexpr uint64_t kPage = image::kPageSize;
constexpr uint64_t kWindowPages = image::kLargeWindow / kPage;
// A stretch of zeros inside a segment is left out from this many pages on: less would cost more in mappings.
constexpr uint64_t kZeroStretch = 4;

bool EqualSse2(const uint8_t* a, const uint8_t* b, uint64_t length) {
  for (uint64_t at = 0; at < length; at += 64) {
    __m128i differs = _mm_setzero_si128();
    for (uint64_t i = 0; i < 64; i += 16) {
      const __m128i left = _mm_load_si128(reinterpret_cast<const __m128i*>(a + at + i));
      const __m128i right = _mm_load_si128(reinterpret_cast<const __m128i*>(b + at + i));
      differs = _mm_or_si128(differs, _mm_xor_si128(left, right));
    }
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(differs, _mm_setzero_si128())) != 0xffff) return false;
  }
  return true;
}

__attribute__((target("avx2"))) bool EqualAvx2(const uint8_t* a, const uint8_t* b, uint64_t length) {
  for (uint64_t at = 0; at < length; at += 128) {
    __m256i differs = _mm256_setzero_si256();
    for (uint64_t i = 0; i < 128; i += 32) {
      const __m256i left = _mm256_load_si256(reinterpret_cast<const __m256i*>(a + at + i));
      const __m256i right = _mm256_load_si256(reinterpret_cast<const __m256i*>(b + at + i));
      differs = _mm256_or_si256(differs, _mm256_xor_si256(left, right));
    }
    if (_mm256_testz_si256(differs, differs) == 0) return false;
  }
  return true;
}

// Compares page-aligned memory, `length` a multiple of the page size.
bool Equal(const Work* work, const uint8_t* a, const uint8_t* b, uint64_t length) {
  return (work->arena.header->cpu & arena::kCpuAvx2) != 0 ? EqualAvx2(a, b, length) : EqualSse2(a, b, length);
}

// Fills work->chunk from the arena. Reading a piece that stays in the processor's cache is cheaper than
// mapping: every page of a mapping costs a fault's share and an unmapping.
bool ReadChunk(Work* work, uint64_t offset, uint64_t length) {
  return raw::Syscall(SYS_pread64, work->request->arena, raw::Address(work->chunk), raw::Word(length),
                      raw::Word(offset)) == static_cast<long>(length);
}

// ---- Records of pages

constexpr uint64_t kPresent = uint64_t{1} << 63;    // in /proc/self/pagemap
constexpr uint64_t kExclusive = uint64_t{1} << 56;  // mapped by this process only: it has written it
constexpr uint64_t kPlaceMask = (uint64_t{1} << PageRecords::kForkShift) - 1;

const WatchedRange* FindRange(const PageRecords& records, uint64_t start, uint64_t end) {
  const uint32_t count = LoadRecord(&records.range_count);
  for (uint32_t i = 0; i < count; ++i) {
    const WatchedRange& range = records.ranges[i];
    if (range.start <= start && end <= range.end && LoadRecord(&range.over) == 0) return &range;
  }
  return nullptr;
}

// Neither written by this deputy, nor its alone for another reason.
bool IsAsForked(const Work* work, uint64_t page) {
  const uint64_t entry = work->pagemap_entries[work->segment / kPage + page - work->entries_first];
  return (entry & (kPresent | kExclusive)) == kPresent;
}

// Has the entries of the pages of [start, end) at hand, with those of many behind them: a call costs as much
// as a hundred. Nobody else maps or writes here meanwhile.
bool ReadEntries(Work* work, uint64_t start, uint64_t end, uint64_t range_end) {
  const uint64_t first = start / kPage;
  if (work->entries_first <= first && end / kPage <= work->entries_first + work->entry_count) return true;
  const uint64_t left = range_end / kPage - first;
  const uint64_t count = left < Work::kEntries ? left : Work::kEntries;
  const long size = raw::Word(count * sizeof(uint64_t));
  const long got = raw::Syscall(SYS_pread64, work->pagemap, raw::Address(work->pagemap_entries), size,
                                raw::Word(first * sizeof(uint64_t)));
  work->entries_first = first;
  work->entry_count = got == size ? count : 0;
  return work->entry_count != 0;
}

// What is known of the pages of [start, end).
void LookUp(Work* work, uint64_t start, uint64_t end) {
  const uint64_t pages = (end - start) / kPage;
  work->segment = start;
  work->equal = nullptr;
  for (uint64_t page = 0; page < pages; ++page) work->unwritten[page] = false;
  if (work->records == nullptr) return;
  PageRecords& records = *work->records;
  const WatchedRange* range = FindRange(records, start, end);
  if (range == nullptr) return;
  const uint64_t first = range->first + (start - range->start) / kPage;
  if (!ReadEntries(work, start, end, range->end)) return;
  work->equal = records.equal + first;
  const uint32_t fork = work->request->fork;
  for (uint64_t page = 0; page < pages; ++page) {
    work->unwritten[page] = IsAsForked(work, page) && IsAsNoted(records, first + page, fork);
  }
}

// `chunk`: where in the arena the page's bytes would be.
bool IsKnownEqual(const Work* work, uint64_t address, uint64_t chunk) {
  const uint64_t page = (address - work->segment) / kPage;
  return work->unwritten[page] && (LoadRecord(&work->equal[page]) & kPlaceMask) == chunk / kPage;
}

// What the deputy wrote itself is not so in the next fork.
void NoteEqual(Work* work, uint64_t address, uint64_t chunk) {
  const uint64_t page = (address - work->segment) / kPage;
  if (work->equal == nullptr || chunk / kPage > kPlaceMask || !IsAsForked(work, page)) return;
  const uint64_t fork = work->request->fork;
  StoreRecord(&work->equal[page], fork << PageRecords::kForkShift | chunk / kPage);
}

bool IsZeroPage(const uint8_t* page) {
  const auto* words = reinterpret_cast<const uint64_t*>(page);
  for (uint64_t at = 0; at < kPage / 8; at += 8) {
    if ((words[at] | words[at + 1] | words[at + 2] | words[at + 3] | words[at + 4] | words[at + 5] |
         words[at + 6] | words[at + 7]) != 0) {
      return false;
    }
  }
  return true;
}

const uint8_t* Bytes(uint64_t address) {
  return reinterpret_cast<const uint8_t*>(address);
}

uint32_t ChunkIndex(Work* work, uint64_t location, const uint64_t hash[2]) {
  if (work->reference_location == location) return work->reference_index;
  image::Chunk* chunk = work->chunks.Add();
  if (chunk == nullptr) return image::kNone;
  *chunk = {{hash[0], hash[1]},
            arena::LocationOffset(location),
            static_cast<uint32_t>(arena::LocationLength(location)),
            image::kNone};
  return work->chunks.count - 1;
}

bool AddRun(Work* work, uint64_t address, uint64_t length, uint32_t chunk, uint64_t offset) {
  image::Run* run = chunk == image::kNone ? nullptr : work->runs.Add();
  if (run == nullptr) return Fail(work, "too many runs of pages");
  *run = {address, static_cast<uint32_t>(length), chunk, static_cast<uint32_t>(offset), 0};
  work->header.totals.pages += length / kPage;
  return true;
}

bool CopyToArena(Work* work, uint64_t address, uint64_t length, uint64_t offset) {
  while (length > 0) {
    const long done = raw::Syscall(SYS_pwrite64, work->request->arena, raw::Word(address), raw::Word(length),
                                   raw::Word(offset));
    if (done <= 0) return Fail(work, "the chunk arena cannot be written", done);
    address += static_cast<uint64_t>(done);
    offset += static_cast<uint64_t>(done);
    length -= static_cast<uint64_t>(done);
  }
  return true;
}

bool IsChunk(Work* work, uint64_t address, uint64_t offset, uint64_t length) {
  for (uint64_t at = 0; at < length; at += sizeof(work->chunk)) {
    const uint64_t here = length - at < sizeof(work->chunk) ? length - at : sizeof(work->chunk);
    if (!ReadChunk(work, offset + at, here) || !Equal(work, Bytes(address + at), work->chunk, here))
      return false;
  }
  return true;
}

// By content. The location of a chunk with these bytes, 0 after a failure.
uint64_t FindOrStore(Work* work, uint64_t address, uint64_t length, uint64_t hash[2]) {
  const XXH128_hash_t value = XXH3_128bits(Bytes(address), length);
  hash[0] = value.low64;
  hash[1] = value.high64;
  const uint64_t known = arena::Find(work->arena, hash, length,
                                     [&](uint64_t offset) { return IsChunk(work, address, offset, length); });
  if (known != 0) return known;
  const uint64_t offset = arena::Claim(work->arena, length);
  if (offset == 0) {
    Fail(work, "the chunk arena is full");
    return 0;
  }
  if (!CopyToArena(work, address, length, offset)) return 0;
  const uint64_t location = arena::MakeLocation(offset, length);
  arena::Publish(work->arena, hash, location);
  work->header.totals.new_bytes += length;
  work->header.totals.new_chunks += 1;
  return location;
}

bool CaptureByContent(Work* work, uint64_t address, uint64_t length, bool remember) {
  uint64_t hash[2];
  const uint64_t location = FindOrStore(work, address, length, hash);
  if (location == 0) return false;
  if (remember) {
    arena::Remember(work->arena, address, length, location);
    for (uint64_t at = 0; at < length; at += kPage)
      NoteEqual(work, address + at, arena::LocationOffset(location) + at);
  }
  return AddRun(work, address, length, ChunkIndex(work, location, hash), 0);
}

// Marks the pages that differ from the chunk and counts them.
uint64_t Differing(Work* work, uint64_t address, uint64_t location, uint64_t pages, bool* differs) {
  const uint64_t chunk = arena::LocationOffset(location);
  constexpr uint64_t kPiece = sizeof(work->chunk) / kPage;
  uint64_t count = 0;
  for (uint64_t first = 0; first < pages; first += kPiece) {
    const uint64_t here = pages - first < kPiece ? pages - first : kPiece;
    uint64_t begin = pages;  // from the first that is not known to the last
    uint64_t end = 0;
    for (uint64_t page = first; page < first + here; ++page) {
      differs[page] = !IsKnownEqual(work, address + page * kPage, chunk + page * kPage);
      if (!differs[page]) continue;
      if (begin == pages) begin = page;
      end = page + 1;
    }
    if (end == 0) continue;
    const bool readable = ReadChunk(work, chunk + begin * kPage, (end - begin) * kPage);
    for (uint64_t page = begin; page < end; ++page) {
      if (!differs[page]) continue;
      const uint64_t at = address + page * kPage;
      const bool same = readable && Equal(work, Bytes(at), work->chunk + (page - begin) * kPage, kPage);
      differs[page] = !same;
      if (same) NoteEqual(work, at, chunk + page * kPage);
      if (!same) ++count;
    }
  }
  return count;
}

// Equal stretches refer to the hinted chunk, the others are captured by content.
bool CaptureDifference(Work* work, uint64_t address, uint64_t pages, uint64_t location, const bool* differs) {
  static constexpr uint64_t kNoHash[2] = {0, 0};
  const uint32_t hinted = ChunkIndex(work, location, kNoHash);
  work->reference_location = location;
  work->reference_index = hinted;
  for (uint64_t page = 0; page < pages;) {
    uint64_t stop = page + 1;
    while (stop < pages && differs[stop] == differs[page]) ++stop;
    const uint64_t start = address + page * kPage;
    const uint64_t length = (stop - page) * kPage;
    const bool good = differs[page] ? CaptureByContent(work, start, length, false)
                                    : AddRun(work, start, length, hinted, page * kPage);
    if (!good) return false;
    page = stop;
  }
  return true;
}

bool CaptureNonZero(Work* work, uint64_t address, uint64_t length) {
  const uint64_t location = arena::Recall(work->arena, address, length);
  if (location == 0) return CaptureByContent(work, address, length, true);
  bool differs[kWindowPages];
  const uint64_t pages = length / kPage;
  const uint64_t count = Differing(work, address, location, pages, differs);
  if (count * 2 > pages) return CaptureByContent(work, address, length, true);
  return CaptureDifference(work, address, pages, location, differs);
}

}  // namespace

// Whether the records may be used: they speak of one arena.
void PrepareRecords(Work* work) {
  struct stat status {};
  if (work->records == nullptr) return;
  PageRecords& records = *work->records;
  if (work->classic_pagemap ||
      raw::Failed(raw::Syscall(SYS_fstat, work->request->arena, raw::Address(&status)))) {
    work->records = nullptr;
    return;
  }
  uint64_t arena = 0;
  const bool first = __atomic_compare_exchange_n(&records.arena, &arena, status.st_ino, false,
                                                 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
  if (first || arena == status.st_ino) {
    work->others_wait = AwaitNotes(records, work->request->fork);
    return;
  }
  StoreRecord(&records.stale, 1U);
  work->records = nullptr;
}

void EndRecords(Work* work) {
  if (work->others_wait) EndNotes(*work->records, work->request->fork);
}

bool CaptureSegment(Work* work, uint64_t address, uint64_t length, bool zeros_are_free) {
  LookUp(work, address, address + length);
  if (!zeros_are_free) return CaptureNonZero(work, address, length);
  const uint64_t end = address + length;
  uint64_t start = address;
  uint64_t zeros = 0;  // pages of zeros just before `at`
  for (uint64_t at = address; at <= end; at += kPage) {
    // One that is in a chunk and was not written is taken for what it is there.
    if (at < end && !work->unwritten[(at - address) / kPage] && IsZeroPage(Bytes(at))) {
      ++zeros;
      continue;
    }
    // A stretch of zeros ends here (or the segment does). At the edges every zero page is left out.
    const uint64_t first_zero = at - zeros * kPage;
    if (zeros > 0 && (zeros >= kZeroStretch || first_zero == start || at == end)) {
      work->header.totals.zero_pages += zeros;
      if (first_zero > start && !CaptureNonZero(work, start, first_zero - start)) return false;
      start = at;
    }
    zeros = 0;
  }
  return start >= end || CaptureNonZero(work, start, end - start);
}

}  // namespace elsewhere::capture
