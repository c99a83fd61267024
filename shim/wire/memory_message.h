// What the memory and semaphore components of two agents say to each other (runtime/ipc).
#pragma once

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "shim/wire/message.h"

namespace elsewhere::wire {

// The number of the last publication of `host` that is included.
struct SeenPublication {
  HostId host = 0;
  uint64_t number = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.host, s.number);
  }
};

// One publication of a segment (shim/memory/segment.h), to home and from there to every other member.
struct SegmentDiff {
  static constexpr MessageType kType = MessageType::kSegmentDiff;
  uint64_t segment = 0;
  HostId origin = 0;  // who published it
  uint64_t number = 0;
  std::vector<SeenPublication> seen;
  std::vector<uint8_t> diff;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.segment, s.origin, s.number, s.seen, s.diff);
  }
};
// To home: the sender has the segment from now on and wants its content.
struct SegmentJoin {
  static constexpr MessageType kType = MessageType::kSegmentJoin;
  uint64_t segment = 0;
  uint64_t request = 0;  // the sender's, echoed
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.segment, s.request);
  }
};
// Home to the members: the object, whose size is followed, has another one.
struct SegmentResized {
  static constexpr MessageType kType = MessageType::kSegmentResized;
  uint64_t segment = 0;
  uint64_t size = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.segment, s.size);
  }
};
struct SegmentLeave {
  static constexpr MessageType kType = MessageType::kSegmentLeave;
  uint64_t segment = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.segment);
  }
};
// Home's answer to SegmentJoin, in pieces. `known` false: there is no such segment (any more).
struct SegmentContent {
  static constexpr MessageType kType = MessageType::kSegmentContent;
  uint64_t segment = 0;
  uint64_t request = 0;
  bool known = true;
  bool last = true;
  std::vector<SeenPublication> seen;  // in the last piece
  std::vector<uint8_t> diff;          // against zeros
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.segment, s.request, s.known, s.last, s.seen, s.diff);
  }
};

// An operation on a promoted semaphore, to home; from kLend on an order of home's to the host that has its
// count. `request`: the sender's, echoed; 0: no answer is wanted.
struct SemaphoreRequest {
  static constexpr MessageType kType = MessageType::kSemaphoreRequest;
  enum class Operation : uint32_t {
    kCreate = 1,  // argument: count
    kDestroy = 2,
    kPost = 3,     // argument: how many more than one
    kWait = 4,     // argument: waiter, as the sender names it
    kTryWait = 5,  // likewise
    kCancel = 6,   // likewise. value: 1 if it waited
    kGetValue = 7,
    kReturn = 8,  // the lease ends. argument: count; process: 1: it could not be taken at all
    kLend = 9,  // argument: count; process: how many of this host's posts are in it. Others are on their way,
                // and this host's to add. What it waits for at home it tries again for itself
    kRecall = 10,  // to be answered by kReturn
    kForget = 11,  // it was destroyed
    kKnown = 12,   // argument: its count + 1, 0: not known; process: how many of this host's posts are in it
  };
  uint64_t request = 0;
  Operation operation{};
  uint64_t object = 0;
  uint64_t argument = 0;
  Incarnation process = 0;  // that waits
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.operation, s.object, s.argument, s.process);
  }
};
// What home tells of a count beside whatever it says. `known`: it + 1, 0: nothing; `posts`: of the receiver,
// that are in it.
struct SemaphoreNow {
  uint64_t object = 0;
  uint32_t known = 0;
  uint64_t posts = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.object, s.known, s.posts);
  }
};
struct SemaphoreAnswer {
  static constexpr MessageType kType = MessageType::kSemaphoreAnswer;
  uint64_t request = 0;
  int32_t error = 0;
  uint32_t value = 0;
  SemaphoreNow now;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.error, s.value, s.now);
  }
};
// Parts of a large count (semaphore_share.h), on their way between home and a host.
struct SemaphorePartMessage {
  static constexpr MessageType kType = MessageType::kSemaphorePart;
  enum class What : uint32_t {
    kGive = 1,    // from home: a part, count and room
    kNews = 2,    // count: from a host its own, from home what is elsewhere; room: passed on
    kRecall = 3,  // from home, to be answered by kReturn
    kReturn = 4,  // also unasked; count and room
    kForget = 5,  // from home: it was destroyed
  };
  What what{};
  uint64_t object = 0;
  uint32_t count = 0;
  uint32_t room = 0;
  uint32_t elsewhere = 0;  // of kGive. Of kReturn: 1: that host cannot take it at any time
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.what, s.object, s.count, s.room, s.elsewhere);
  }
};

// Home gave a waiter its token.
struct SemaphoreGrant {
  static constexpr MessageType kType = MessageType::kSemaphoreGrant;
  uint64_t object = 0;
  uint64_t waiter = 0;  // as the waiting host named it
  SemaphoreNow now;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.object, s.waiter, s.now);
  }
};

// sem_open or sem_unlink on a worker: home keeps the names.
struct SemaphoreName {
  static constexpr MessageType kType = MessageType::kSemaphoreName;
  uint64_t request = 0;  // the sender's, echoed
  Incarnation caller = 0;
  uint32_t user = 0;  // the caller's
  bool unlink = false;
  int64_t flags = 0;
  uint32_t mode = 0;
  uint32_t value = 0;
  std::string name;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.caller, s.user, s.unlink, s.flags, s.mode, s.value, s.name);
  }
};
struct SemaphoreNamed {
  static constexpr MessageType kType = MessageType::kSemaphoreNamed;
  uint64_t request = 0;
  int32_t error = 0;    // errno
  uint32_t cell = 0;    // of the tables of all hosts
  uint64_t object = 0;  // at the broker
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.error, s.cell, s.object);
  }
};

// Job::memory: what a process brings along that others have too.
struct SharedState {
  struct Segment {
    uint64_t segment = 0;
    uint64_t device = 0;  // of home's object
    uint64_t inode = 0;
    uint64_t size = 0;
    uint32_t object = 0;  // index into the manifest's objects; image::kNone: only descriptors refer to it
    std::string name;
    bool follows_size = false;
    template <class Self>
    static auto Fields(Self& s) {
      return std::tie(s.segment, s.device, s.inode, s.size, s.object, s.name, s.follows_size);
    }
  };
  struct Descriptor {  // that refers to a segment's object
    int32_t number = -1;
    int32_t flags = 0;
    uint64_t segment = 0;
    template <class Self>
    static auto Fields(Self& s) {
      return std::tie(s.number, s.flags, s.segment);
    }
  };
  struct Semaphore {
    uint32_t cell = 0;
    uint64_t object = 0;
    template <class Self>
    static auto Fields(Self& s) {
      return std::tie(s.cell, s.object);
    }
  };
  std::vector<Segment> segments;
  std::vector<Descriptor> descriptors;
  std::vector<Semaphore> semaphores;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.segments, s.descriptors, s.semaphores);
  }
};

// A worker to home: a process attaches a System V segment of home's kernel, by its id.
struct SegmentWanted {
  static constexpr MessageType kType = MessageType::kSegmentWanted;
  uint64_t incarnation = 0;
  uint64_t request = 0;
  int32_t id = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.request, s.id);
  }
};
struct SegmentOffered {
  static constexpr MessageType kType = MessageType::kSegmentOffered;
  uint64_t request = 0;
  int32_t error = 0;  // errno
  SharedState::Segment segment;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.error, s.segment);
  }
};

}  // namespace elsewhere::wire
