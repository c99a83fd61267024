// One host's copy of a shared segment: a live object that processes of this host map, and its shadow.
//
// Algorithm (release consistency, several writers; after TreadMarks and Munin, with hosts as the nodes):
//   - The shadow is the state that this host has published or received last. Live against shadow is what its
//   processes
//     changed since: a Publication is that difference, numbered 1, 2, ... per publisher, and goes to every
//     member of the segment before whatever releases (a semaphore post, stream bytes, an exit) leaves this
//     host.
//   - An incoming publication goes into shadow and live together. Publishers' numbers have no gaps; a
//   repeated one is
//     skipped.
//   - A host joins with a Snapshot of home's shadow and, for each publisher, the number of the last
//   publication that is
//     in it. Publications that arrive before the snapshot are kept and then applied as far as they are newer.
//
// Conflicts. A publication says, for each publisher, what its sender had seen. It conflicts with ours when it
// changes a byte that (1) live differs from shadow in: we changed it and have not released; or (2) we
// published and its sender had not seen that. In both cases nothing ordered the two changes, so one of them
// would be lost. Equal values conflict too: two increments of one counter look like that. Changes below a
// byte (bit fields) count as changes of the byte. Best effort: the memory of own publications is bounded
// (kRememberedRuns), and a value changed there and back is no difference.
//
// Size. A segment is as large as its object was when it was made, or, where the object is a file that anybody
// may make larger or smaller (Size::kFollowed), as large as the first member's file: that one looks before
// each publication and tells the others (Resize). What lies behind the end is zero when it comes back, and
// what others still publish there is gone, as if they had stored it before.
//
// Thread-safety: none. Errors: EPROTO for bytes that are no publication, EBUSY for a conflict; both end the
// session.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "shim/memory/diff.h"
#include "shim/wire/result.h"

namespace elsewhere::memory {

using HostId = uint32_t;
using SegmentId = uint64_t;

// For each host, the number of its last publication that is included.
using Seen = std::map<HostId, uint64_t>;

struct Publication {
  HostId from = 0;
  uint64_t number = 0;
  Seen seen;
  std::vector<uint8_t> diff;
};

struct Snapshot {
  Seen seen;
  std::vector<std::vector<uint8_t>> diffs;  // against zeros, in ascending order
};

// A piece of a publication or snapshot stays near this size: one entry of an inbox.
inline constexpr size_t kPieceBytes = 512 * 1024;

enum class Size { kFixed, kFollowed };

class Segment {
 public:
  // Maps the object behind `descriptor` (opened to read and write; stays the caller's) for `size` bytes.
  // `name`: for messages to people. The first member's live object is the truth: its shadow begins equal to
  // it.
  static Result<std::unique_ptr<Segment>> Adopt(SegmentId id, HostId self, int descriptor, uint64_t size,
                                                std::string name, Size kind = Size::kFixed);
  // The same for an attached System V segment, which has no descriptor; detached at the end. It does not
  // shrink.
  static Result<std::unique_ptr<Segment>> AdoptAttached(SegmentId id, HostId self, uint8_t* live,
                                                        uint64_t size, std::string name);
  // A zeroed object of this host's own, to be filled by Load.
  static Result<std::unique_ptr<Segment>> CreateEmpty(SegmentId id, HostId self, uint64_t size,
                                                      std::string name, Size kind = Size::kFixed);
  ~Segment();
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  SegmentId id() const { return id_; }
  uint64_t size() const { return twins_.size; }
  int descriptor() const { return descriptor_; }  // of the live object; dup it to hand it on
  const std::string& name() const { return name_; }
  bool loaded() const { return loaded_; }
  bool follows_size() const { return kind_ == Size::kFollowed; }
  // Not so where the object has become larger than can be mapped: what lies there is not equal any more.
  const Status& followed() const { return followed_; }
  // First member: the sizes that the object was seen to have since the last call, as far as the others must
  // take them on, one after the other, before what was published since. Between two there may have been less.
  std::vector<uint64_t> TakeSizes();
  // Others: one of them.
  Status Resize(uint64_t size);
  uint8_t* live() { return twins_.live; }

  // What changed here since the last call, in pieces; empty: nothing. Everything returned must be sent to
  // every member, in this order, before anything that the processes of this host released afterwards.
  std::vector<Publication> Publish();

  // Of the shadow as it is now. Publish first where the newest local state is wanted.
  Snapshot TakeSnapshot() const;
  Status Load(const Snapshot& snapshot);

  Status Apply(const Publication& publication);

 private:
  static constexpr size_t kRememberedRuns = 65536;

  Segment(SegmentId id, HostId self, int descriptor, std::string name, Size kind = Size::kFixed)
      : id_(id), self_(self), kind_(kind), descriptor_(descriptor), name_(std::move(name)) {}
  Status Map(uint64_t size);
  Status MakeShadow(uint64_t size);
  void CopyToShadow();
  void ClampToObject();
  Status Follow(uint64_t size);
  uint64_t DiffLimit() const { return follows_size() ? UINT64_MAX : twins_.size; }
  Run Inside(const Run& run) const;
  using Extents = std::vector<std::pair<uint64_t, uint64_t>>;
  Extents DataExtents() const;
  Extents ExtentsToCompare();
  void Remember(uint64_t number, std::span<const uint8_t> diff);
  std::optional<uint64_t> ConflictAt(const Run& run, uint64_t seen_of_ours) const;
  Error Conflict(HostId other, uint64_t offset) const;

  struct Remembered {
    uint64_t number;
    std::vector<std::pair<uint64_t, uint64_t>> ranges;  // [first, last), ascending
  };

  const SegmentId id_;
  const HostId self_;
  const Size kind_;
  int descriptor_;
  const std::string name_;
  Twins twins_;
  uint64_t mapped_ = 0;
  uint64_t told_size_ = 0;
  uint64_t least_size_ = 0;         // since that was told
  Extents had_data_;                // of a followed object, since the last publication
  mutable uint64_t full_size_ = 0;  // when it had no holes
  mutable uint32_t looks_saved_ = 0;
  bool loaded_ = true;
  Status followed_ = Ok{};
  uint64_t published_ = 0;
  Seen seen_;
  std::deque<Remembered> own_;
  size_t remembered_runs_ = 0;
  std::vector<Publication> waiting_;  // arrived before the snapshot
};

}  // namespace elsewhere::memory
