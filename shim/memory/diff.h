// Diffs of shared memory: which bytes changed, and to what.
//
// A diff is a list of runs in ascending order, each { gap, length, bytes }: gap and length are LEB128
// varints, the gap counts from the end of the run before. A run holds changed bytes only, never a byte that
// merely lies between two changes: another host may be the one that writes it (several writers per page).
//
// Reading and writing memory that running processes use: whole aligned 8-byte words, each loaded once and
// stored once (merged by compare-exchange where only some of its bytes change), so that a number is never
// seen half old, half new, and a neighbour byte that somebody stores meanwhile is not lost. Nothing here does
// I/O.
//
// Thread-safety: none for the objects; the live memory may be written by anyone at any time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace elsewhere::memory {

struct Run {
  uint64_t offset = 0;
  std::span<const uint8_t> bytes;  // borrows the diff
};

class DiffWriter {
 public:
  // `offset` must not lie before the end of what was added last. Runs that touch become one.
  void Add(uint64_t offset, std::span<const uint8_t> bytes);
  bool empty() const { return bytes_.empty() && run_.empty(); }
  size_t size() const { return bytes_.size() + run_.size(); }
  std::vector<uint8_t> Take();

 private:
  void EndRun();

  std::vector<uint8_t> bytes_;
  std::vector<uint8_t> run_;
  uint64_t run_offset_ = 0;
  uint64_t position_ = 0;  // end of the last encoded run
};

// Reads untrusted bytes: every run it returns is not empty, lies behind the one before and ends at or before
// `limit`.
class DiffReader {
 public:
  DiffReader(std::span<const uint8_t> diff, uint64_t limit) : rest_(diff), limit_(limit) {}
  bool Next(Run* run);             // false: at the end, or malformed
  bool ok() const { return ok_; }  // false: malformed

 private:
  bool ReadVarint(uint64_t* value);

  std::span<const uint8_t> rest_;
  uint64_t limit_;
  uint64_t position_ = 0;
  bool ok_ = true;
};

// Memory that is compared and patched: both 8-byte aligned, `size` bytes of each.
struct Twins {
  uint8_t* live = nullptr;    // other processes write it at any time
  uint8_t* shadow = nullptr;  // ours alone: what was last published or received
  uint64_t size = 0;
};

// Appends what differs at or after `from` to `out` and makes the shadow equal. Stops behind the word that
// brings `out` to `byte_limit`; returns where it stopped: twins.size when through.
uint64_t CollectChanges(const Twins& twins, uint64_t from, size_t byte_limit, DiffWriter* out);

// The same of memory that differs from zeros, for somebody who has nothing else: zeros between may be said,
// too. `from` is a multiple of 64.
uint64_t CollectContent(const uint8_t* content, uint64_t from, uint64_t size, size_t byte_limit,
                        DiffWriter* out);

// The first byte of `run` that was changed here and not yet published; run.offset + run.bytes.size() if none
// was.
uint64_t FirstUnpublished(const Twins& twins, const Run& run);

// Stores the run's bytes into both. The run must lie inside.
void ApplyRun(const Twins& twins, const Run& run);

}  // namespace elsewhere::memory
