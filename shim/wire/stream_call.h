// Calls on a descriptor that are made where its object is (abi::Operation::kAtOrigin): what the program's
// call says, in the order of its arguments. Included by freestanding code.
#pragma once

#include <cerrno>
#include <cstdint>

namespace elsewhere::wire {

enum class StreamCall : int64_t {
  kControl = 1,           // fcntl: command, value
  kTruncate = 2,          // size
  kAllocate = 3,          // mode, offset, size
  kSync = 4,              // 1: data only
  kSyncRange = 5,         // offset, size, flags
  kAdvise = 6,            // offset, size, advice
  kSetMode = 7,           // mode
  kSetOwner = 8,          // user, group
  kSetTimes = 9,          // payload: two timespecs; none: now
  kWriteAt = 10,          // offset, RWF_* flags; payload: the bytes. offset -1: where the description is
  kFileSystem = 11,       // answer: struct statfs
  kStatus = 12,           // flags, mask of statx; answer: struct statx
  kName = 13,             // answer: what /proc/self/fd says there
  kLock = 14,             // flock: operation, number
  kPathLimit = 15,        // fpathconf: name
  kGetAttribute = 16,     // payload: name; answer: value. result: its size
  kSetAttribute = 17,     // flags, bytes of name with its zero; payload: name, value
  kListAttributes = 18,   // answer: list. result: its size
  kRemoveAttribute = 19,  // payload: name
  kSocketName = 20,       // 1: the peer's; answer: address. result: its size
  kSetTimer = 21,         // flags of timerfd_settime; payload: struct itimerspec. answer: the old one
  kGetTimer = 22,         // answer: struct itimerspec
  kGetOption = 23,        // level, option, room; answer: value. result: its size
  kSetOption = 24,        // level, option; payload: value
  kShutDown = 25,         // SHUT_*: of writing, when what other hosts sent before is in
  // fcntl: command, number, session pid of the caller, whose those are that are no F_OFD_*; payload and
  // answer: struct flock
  kRecordLock = 26,
  kReadAt = 27,  // bytes, offset, RWF_* flags; answer: the bytes. offset -1: where the description is
  kShare = 28,   // session pid of the caller, who wants to map it; answer: SharedFile
  // A plain file's offset: bytes, number. It goes behind so many bytes, which are the caller's to write.
  // Result: where they begin.
  kAdvance = 29,
  // Their end, number, where what was written of them ends: the offset goes back, unless it has gone on.
  // Result: where it is.
  kTakeBack = 30,
  // Unused, number. The caller's host is to have the offset, to read. Result: where it is.
  kTakeOffset = 31,
};

constexpr bool MovesOffset(int64_t call) {
  return call == static_cast<int64_t>(StreamCall::kAdvance) ||
         call == static_cast<int64_t>(StreamCall::kTakeBack);
}

// So far behind where it was is the offset of a file on a host that has no right to it, and no file has bytes
// there: what reads finds the end, and looks again. A move by that much is one step of the kernel's, as is
// each read.
inline constexpr int64_t kOffsetAway = int64_t{1} << 43;
constexpr bool IsAway(int64_t offset) {
  return offset >= kOffsetAway / 2;
}

// EBADF of a call that was made; EBADF itself says that it was not, for the descriptor is none of ours.
inline constexpr int kNotOpenForThat = EBADFD;

// The answer to kShare, and what the caller's agent is told then (abi::Operation::kSegmentOfFile).
struct SharedFile {
  uint64_t segment;  // home's number of it
  uint64_t device;   // of the file at home
  uint64_t inode;
  uint64_t size;
  uint32_t follows_size;  // as SharedState::Segment has it
  uint32_t reserved;
  char name[256];  // for messages to people
};
static_assert(sizeof(SharedFile) == 296);

// The answer to a process that accepted a connection on a socket elsewhere.
struct Accepted {
  uint64_t token;  // abi::Role::kFetch
  uint32_t address_size;
  uint32_t reserved;
  uint8_t address[128];  // struct sockaddr_storage
};
static_assert(sizeof(Accepted) == 144);

// The answer to kPull and kWatch, with the error kPipeHasMoved: the descriptor that the caller asked about,
// of this device and inode, is replaced by the one offered.
struct MovedPipe {
  uint64_t token;  // abi::Role::kFetch
  uint64_t device;
  uint64_t inode;
};
static_assert(sizeof(MovedPipe) == 24);
inline constexpr int kPipeHasMoved = EREMCHG;

}  // namespace elsewhere::wire
