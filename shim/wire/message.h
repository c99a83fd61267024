// What agents of different hosts say to each other, one binary blob per entry of the receiver's inbox.
//
//   Envelope { version, type, sender host, sequence } + the fields of the message in the order of its
//   Fields().
//
// Rules:
//  - The broker keeps one total order: what a host sends arrives in that order, and what it sent before a
//  script
//    ran arrives before whatever that script sends. "Data before Exited" needs no acknowledgement for that
//    reason.
//  - A sender may send an entry again after a lost connection; the receiver drops what has a sequence that it
//  saw.
//  - A process is named by its incarnation, which is never used twice in a session (HostOf tells who made it
//  up).
//    A message about an incarnation that the receiver does not know, or knows to be fenced, is dropped.
//  - Decode checks everything; a bad blob is an error, never a guess.
// A changed field, type number or meaning bumps kMessageVersion. Thread-safety: like any value.
#pragma once

#include <sys/resource.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "shim/wire/codec.h"
#include "shim/wire/result.h"

namespace elsewhere::wire {

inline constexpr uint16_t kMessageVersion = 18;

using HostId = uint32_t;  // 0: home
inline constexpr HostId kHome = 0;

// Upper 16 bits: the host that made the number up. Never 0.
using Incarnation = uint64_t;
inline constexpr Incarnation MakeIncarnation(HostId host, uint64_t counter) {
  return (static_cast<uint64_t>(host) << 48) | counter;
}
inline constexpr HostId HostOf(Incarnation incarnation) {
  return static_cast<HostId>(incarnation >> 48);
}

// Names a bridged end of a stream for the session's life; upper 16 bits: the host that made the number up.
using StreamId = uint64_t;

enum class MessageType : uint16_t {
  kHostHello = 1,
  kHostBye = 2,
  kHeartbeat = 3,
  kShutdown = 4,
  kHostGone = 5,
  kJob = 16,
  kJobRejected = 17,
  kStarted = 18,
  kExited = 19,
  kSignal = 20,
  kStopped = 21,
  kContinued = 22,
  kKill = 23,
  kHomeCall = 24,
  kHomeResult = 25,
  kNestedFork = 26,
  kNestedForked = 27,
  kNote = 28,
  kStreamData = 48,  // 48 to 79: shim/wire/stream_message.h
  kStreamCredit = 49,
  kStreamClose = 50,
  kStreamBroken = 51,
  kStreamShutdown = 52,
  kStreamPull = 53,
  kStreamPulled = 54,
  kStreamReturn = 55,
  kStreamWatch = 56,
  kStreamReady = 57,
  kStreamControl = 58,
  kStreamControlled = 59,
  kStreamDrain = 60,
  kStreamDrained = 61,
  kStreamLast = 62,
  kStreamOffset = 63,
  kStreamShare = 64,
  kStreamMove = 65,
  kStreamMoveAnswer = 66,
  kStreamMoved = 67,
  kStreamOffsetNow = 72,
  kSegmentDiff = 80,  // 80 to 95: shim/wire/memory_message.h
  kSemaphoreGrant = 81,
  kSegmentJoin = 82,
  kSegmentLeave = 83,
  kSegmentContent = 84,
  kSemaphoreName = 85,
  kSemaphoreNamed = 86,
  kSemaphoreRequest = 87,
  kSemaphoreAnswer = 88,
  kSemaphorePart = 89,
  kSegmentWanted = 92,
  kSegmentOffered = 93,
  kSegmentResized = 94,
  kKernelCall = 96,  // 96 to 103: shim/wire/kernel_message.h
  kKernelResult = 97,
  kKernelCancel = 98,
  kKernelEvent = 99,
  kQueueOrder = 100,
  kQueueReturn = 101,
  kQueueSend = 102,
  kQueueRightEnd = 103,
  kFilesChanged = 112,  // 112 to 115: shim/wire/file_message.h
  kNameLeaves = 113,
  kNameKept = 114,
  kNameSettled = 115,
  kFileLock = 104,  // 104 to 110: shim/wire/lock_message.h
  kFileLockAnswer = 105,
  kFileLockCancel = 106,
  kFileLockWanted = 107,
  kFileLockGiven = 108,
  kFileLocksLeft = 109,
  kFileLocksStored = 110,
  kSharedRequest = 116,  // 116 to 119: shim/wire/shared_message.h
  kSharedAnswer = 117,
  kSharedOrder = 118,
  kObjectCounts = 120,  // shim/wire/object_message.h
};

struct Envelope {
  uint16_t version = kMessageVersion;
  MessageType type{};
  HostId sender = 0;
  uint64_t sequence = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.version, s.type, s.sender, s.sequence);
  }
};

// ---- Hosts ----

// A worker is ready for jobs.
struct HostHello {
  static constexpr MessageType kType = MessageType::kHostHello;
  uint32_t slots = 0;                      // processes it would like to run at once
  uint64_t memory_free = 0;                // bytes that it may use for them
  std::array<uint64_t, 8> cpu_features{};  // shim/image/cpu_features.h
  std::string machine;                     // equal for hosts that share a kernel and its clocks (boot id)
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.slots, s.memory_free, s.cpu_features, s.machine);
  }
};

struct HostBye {
  static constexpr MessageType kType = MessageType::kHostBye;
  std::string reason;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.reason);
  }
};

// Home to itself: the engine says that the worker is gone. It stands behind what that worker still sent.
struct HostGone {
  static constexpr MessageType kType = MessageType::kHostGone;
  HostId host = 0;
  std::string reason;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.host, s.reason);
  }
};

struct Heartbeat {
  static constexpr MessageType kType = MessageType::kHeartbeat;
  uint32_t running = 0;
  uint64_t memory_free = 0;  // bytes
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.running, s.memory_free);
  }
};

// Home to workers: the session is over, end every process and leave.
struct Shutdown {
  static constexpr MessageType kType = MessageType::kShutdown;
  std::string reason;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.reason);
  }
};

// ---- Processes ----

// What home's streams decided for one descriptor of the image; the receiver's streams make it real.
struct JobDescriptor {
  int32_t number = -1;       // in the process
  int32_t flags = 0;         // FD_CLOEXEC
  uint32_t kind = 0;         // streams' own numbering
  int32_t status_flags = 0;  // O_*
  StreamId stream = 0;       // entries with the same number share one open file description
  int64_t offset = 0;        // plain files
  std::string path;          // plain files and what else is opened by name
  std::vector<uint8_t> extra;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.number, s.flags, s.kind, s.status_flags, s.stream, s.offset, s.path, s.extra);
  }
};

struct Job {
  static constexpr MessageType kType = MessageType::kJob;
  Incarnation incarnation = 0;
  int32_t session_pid = 0;        // the deputy's
  int32_t parent_pid = 0;         // session pid of the parent at the fork
  bool same_machine = false;      // processor mask and clocks mean the same there
  std::vector<uint8_t> manifest;  // shim/wire/image.h, its chunks named by pack
  std::vector<JobDescriptor> descriptors;
  std::vector<uint8_t> memory;  // shared segments, for the memory component
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.session_pid, s.parent_pid, s.same_machine, s.manifest, s.descriptors,
                    s.memory);
  }
};

// The worker did not and will not start it: home may, or give it to another.
struct JobRejected {
  static constexpr MessageType kType = MessageType::kJobRejected;
  Incarnation incarnation = 0;
  std::string reason;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.reason);
  }
};

struct Started {
  static constexpr MessageType kType = MessageType::kStarted;
  Incarnation incarnation = 0;
  int32_t kernel_pid = 0;  // in the worker's pid namespace
  uint64_t received_nanoseconds = 0;
  uint64_t fetch_nanoseconds = 0;
  uint64_t restore_nanoseconds = 0;
  uint64_t fetched_bytes = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.kernel_pid, s.received_nanoseconds, s.fetch_nanoseconds,
                    s.restore_nanoseconds, s.fetched_bytes);
  }
};

struct Exited {
  static constexpr MessageType kType = MessageType::kExited;
  Incarnation incarnation = 0;
  int32_t status = 0;               // as waitpid gives it
  bool expected = true;             // false: SIGKILL that nobody of the session sent
  std::array<int64_t, 16> usage{};  // struct rusage, field by field (PackUsage)
  uint64_t ended_nanoseconds = 0;   // CLOCK_MONOTONIC of the worker when it saw the end
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.status, s.expected, s.usage, s.ended_nanoseconds);
  }
};

// A signal that the deputy received, for the process.
struct Signal {
  static constexpr MessageType kType = MessageType::kSignal;
  Incarnation incarnation = 0;
  int32_t signal = 0;
  int32_t code = 0;
  int32_t sender = 0;  // session pid
  uint32_t user = 0;
  uint64_t value = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.signal, s.code, s.sender, s.user, s.value);
  }
};

// The process stopped by `signal`, or goes on. `continues`: how many SIGCONTs it had been sent by home.
struct Stopped {
  static constexpr MessageType kType = MessageType::kStopped;
  Incarnation incarnation = 0;
  int32_t signal = 0;
  uint32_t continues = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.signal, s.continues);
  }
};
struct Continued {
  static constexpr MessageType kType = MessageType::kContinued;
  Incarnation incarnation = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation);
  }
};

// The deputy is dead: this incarnation is fenced. The worker kills the process and reports nothing more of it
// but its end.
struct Kill {
  static constexpr MessageType kType = MessageType::kKill;
  Incarnation incarnation = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation);
  }
};

// A system call that the deputy of `incarnation` makes at home.
struct HomeCall {
  static constexpr MessageType kType = MessageType::kHomeCall;
  Incarnation incarnation = 0;
  uint64_t id = 0;  // the sender's, echoed
  int64_t number = 0;
  std::array<int64_t, 6> arguments{};
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.id, s.number, s.arguments);
  }
};
struct HomeResult {
  static constexpr MessageType kType = MessageType::kHomeResult;
  Incarnation incarnation = 0;
  uint64_t id = 0;
  int64_t result = 0;  // negative errno on failure
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.id, s.result);
  }
};

// `caller` forked on its worker; the child is `child`. Its deputy must be forked by the caller's.
struct NestedFork {
  static constexpr MessageType kType = MessageType::kNestedFork;
  Incarnation caller = 0;
  Incarnation child = 0;
  int32_t kernel_pid = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.caller, s.child, s.kernel_pid);
  }
};
struct NestedForked {
  static constexpr MessageType kType = MessageType::kNestedForked;
  Incarnation child = 0;
  int32_t session_pid = -1;
  int32_t error = 0;  // errno when session_pid is -1
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.child, s.session_pid, s.error);
  }
};

// One line for the end-of-run summary.
struct Note {
  static constexpr MessageType kType = MessageType::kNote;
  std::string text;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.text);
  }
};

// ---- Encoding ----

template <class M>
concept AnyMessage = requires {
  requires std::is_same_v<decltype(M::kType), const MessageType>;
}
&&Record<M>;

template <AnyMessage M>
std::vector<uint8_t> Encode(HostId sender, uint64_t sequence, const M& message) {
  Writer writer;
  writer.Write(Envelope{kMessageVersion, M::kType, sender, sequence});
  writer.Write(message);
  return writer.Take();
}

// The envelope, and the rest of the blob for DecodeBody. EPROTO: too short or of another version.
struct Opened {
  Envelope envelope;
  std::span<const uint8_t> body;  // borrows the blob
};
inline Result<Opened> OpenEnvelope(std::span<const uint8_t> blob) {
  Reader reader(blob);
  Opened opened;
  reader.Read(opened.envelope);
  if (!reader.ok()) return Error{EPROTO, "message of " + std::to_string(blob.size()) + " bytes is too short"};
  if (opened.envelope.version != kMessageVersion) {
    return Error{EPROTO, "message of version " + std::to_string(opened.envelope.version) + ", expected " +
                             std::to_string(kMessageVersion) + ": all hosts must run the same elsewhere"};
  }
  opened.body = blob.last(reader.left());
  return opened;
}

// EPROTO: fields missing, lengths that do not fit, or bytes left over.
template <AnyMessage M>
Result<M> DecodeBody(std::span<const uint8_t> body) {
  Reader reader(body);
  M message;
  reader.Read(message);
  if (!reader.AtEnd()) {
    return Error{EPROTO, "malformed message of type " + std::to_string(static_cast<int>(M::kType))};
  }
  return message;
}

inline std::array<int64_t, 16> PackUsage(const rusage& u) {
  return {u.ru_utime.tv_sec, u.ru_utime.tv_usec, u.ru_stime.tv_sec, u.ru_stime.tv_usec,
          u.ru_maxrss,       u.ru_ixrss,         u.ru_idrss,        u.ru_isrss,
          u.ru_minflt,       u.ru_majflt,        u.ru_nswap,        u.ru_inblock,
          u.ru_oublock,      u.ru_nvcsw,         u.ru_nivcsw,       u.ru_nsignals};
}
inline rusage UnpackUsage(const std::array<int64_t, 16>& f) {
  rusage u{};
  u.ru_utime = {f[0], f[1]};
  u.ru_stime = {f[2], f[3]};
  u.ru_maxrss = f[4];
  u.ru_ixrss = f[5];
  u.ru_idrss = f[6];
  u.ru_isrss = f[7];
  u.ru_minflt = f[8];
  u.ru_majflt = f[9];
  u.ru_nswap = f[10];
  u.ru_inblock = f[11];
  u.ru_oublock = f[12];
  u.ru_nvcsw = f[13];
  u.ru_nivcsw = f[14];
  u.ru_nsignals = f[15];
  return u;
}

}  // namespace elsewhere::wire
