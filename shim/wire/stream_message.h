// What the stream components of two agents say to each other (runtime/stream*).
//
// A *stream* is one open file description of its *origin*, the host whose kernel has the object, that is open
// on another host too. There a local kernel object (its *mirror*) stands for it. Towards the origin bytes are
// sent as they are written, never further ahead than a window; away from it they are asked for, request
// by request. Positions count bytes from the stream's start on that host, so they never go back.
//
// The origin numbers its grants of a stream to a host (one per job that lists it). StreamClose says which
// ones the closing host has seen: where others are left, a job with the stream is on its way, perhaps one
// that was made earlier, and the stream stays open.
#pragma once

#include <chrono>
#include <cstdint>
#include <tuple>
#include <vector>

#include "shim/wire/message.h"

namespace elsewhere::wire {

// Bytes on their way, per stream and host.
inline constexpr uint64_t kStreamWindow = 512 << 10;
// Of a pipe, which somebody may stop reading: all hosts that write to it together, as long as it is read, but
// each host at least. With what their stand-ins hold the least of seven fits into the largest pipe that the
// kernel gives an ordinary user, and what was written can be put in.
inline constexpr uint64_t kPipeWindow = 256 << 10;
inline constexpr uint64_t kLeastPipeWindow = 64 << 10;
inline constexpr uint64_t kStreamPart = 128 << 10;  // bytes in one message, about
inline constexpr uint64_t kStreamPullLimit = 1 << 20;
// How long somebody waits for bytes to be in where nobody reads.
inline constexpr std::chrono::milliseconds kRoomPatience{100};  // a pipe is made larger then
inline constexpr std::chrono::seconds kStreamPatience{1};       // of a socket
inline constexpr std::chrono::seconds kPipePatience{60};        // of a pipe that cannot be made larger
enum class Patience : uint32_t {
  kLong = 0,  // as long as these
  kRoom = 1,  // until no more room can be made
};

// A reader elsewhere wants up to `bytes`. `wait`: answer when there is something, otherwise at once. `cancel`
// takes `request` back. Every request is answered exactly once, by one or more StreamPulled.
struct StreamPull {
  static constexpr MessageType kType = MessageType::kStreamPull;
  StreamId stream = 0;
  uint64_t request = 0;
  uint64_t bytes = 0;
  uint64_t room = 0;  // what may come beyond `bytes` if nobody else can read it
  bool wait = true;
  bool as_said = false;  // `wait`, unless the description says O_NONBLOCK
  bool cancel = false;
  bool ahead = false;      // nobody reads yet: the bytes are wanted to show that something is there
  Incarnation reader = 0;  // who reads; of a terminal, its group must be in the foreground
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.request, s.bytes, s.room, s.wait, s.as_said, s.cancel, s.ahead, s.reader);
  }
};
// Bytes written elsewhere. `records`: the sizes of the writes that make them up, each to stay whole if it is
// at most PIPE_BUF, or a datagram; empty: a byte stream without borders.
struct StreamData {
  static constexpr MessageType kType = MessageType::kStreamData;
  StreamId stream = 0;
  // A host that closed the stream may get it again under the same name while its close is on the way:
  // positions count from the start of one generation, named by the first grant that it was opened for.
  uint32_t generation = 0;
  uint64_t position = 0;  // of the first byte
  std::vector<uint32_t> records;
  std::vector<uint8_t> bytes;
  std::vector<StreamPull> pulls;  // sent right behind: who has answered usually reads next
  // Passed over a socket, with the first of the bytes (runtime/stream/passing.h).
  std::vector<JobDescriptor> passed;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.generation, s.position, s.records, s.bytes, s.pulls, s.passed);
  }
};
// Everything before `position` is in (or thrown away): the sender may be `window` bytes ahead of it.
struct StreamCredit {
  static constexpr MessageType kType = MessageType::kStreamCredit;
  StreamId stream = 0;
  uint32_t generation = 0;
  uint64_t position = 0;
  uint64_t window = 0;
  bool last = false;  // the stream has ended for that host: nothing of any generation is under way
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.generation, s.position, s.window, s.last);
  }
};
// The last holder on the sending host is gone; everything it wrote was sent before.
struct StreamClose {
  static constexpr MessageType kType = MessageType::kStreamClose;
  StreamId stream = 0;
  std::vector<uint32_t> grants;  // first and last number of each run of them
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.grants);
  }
};
// The origin takes no more bytes: `error` is what a write there gave (EPIPE).
struct StreamBroken {
  static constexpr MessageType kType = MessageType::kStreamBroken;
  StreamId stream = 0;
  int32_t error = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.error);
  }
};
// A socket's holder elsewhere called shutdown(SHUT_WR); what it wrote before was sent before.
struct StreamShutdown {
  static constexpr MessageType kType = MessageType::kStreamShutdown;
  StreamId stream = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream);
  }
};

struct StreamPulled {
  static constexpr MessageType kType = MessageType::kStreamPulled;
  StreamId stream = 0;
  uint64_t request = 0;
  int32_t error = 0;                  // errno; EAGAIN: nothing there and wait was false, or taken back
  bool last = true;                   // of this request
  bool end = false;                   // end of file
  std::vector<uint8_t> bytes;         // none, without error and end: an empty datagram
  std::vector<JobDescriptor> passed;  // as of StreamData
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.request, s.error, s.last, s.end, s.bytes, s.passed);
  }
};
// Bytes that were pulled and that nobody read: the next request of anyone gets them first. Of a listening
// socket a connection that nobody took, `bytes` its peer's address.
struct StreamReturn {
  static constexpr MessageType kType = MessageType::kStreamReturn;
  StreamId stream = 0;
  std::vector<uint8_t> bytes;
  std::vector<JobDescriptor> passed;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.bytes, s.passed);
  }
};

// Is the stream readable? Answered at once by a StreamReady, and where the answer was no and `stay` is set
// once more when it has become so. A later watch replaces an earlier one; `stay` false with `ask` false ends
// it.
struct StreamWatch {
  static constexpr MessageType kType = MessageType::kStreamWatch;
  StreamId stream = 0;
  uint64_t request = 0;
  bool ask = true;
  bool stay = true;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.request, s.ask, s.stay);
  }
};
struct StreamReady {
  static constexpr MessageType kType = MessageType::kStreamReady;
  StreamId stream = 0;
  uint64_t request = 0;
  uint32_t events = 0;  // POLL*; 0: not yet
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.request, s.events);
  }
};

// A call on the object itself. Of a file or a terminal it is made after the bytes that were sent before.
// kCancel: an earlier one, of the same number, is answered soon, with EINTR unless it was done by then.
enum class StreamOperation : uint32_t {
  kSeek = 1,
  kStat = 2,
  kIoctl = 3,
  kAvailable = 4,
  kCall = 5,
  kCancel = 6
};
struct StreamControl {
  static constexpr MessageType kType = MessageType::kStreamControl;
  StreamId stream = 0;
  uint64_t request = 0;
  StreamOperation operation{};
  int64_t first = 0;   // kSeek: offset; kIoctl: request
  int64_t second = 0;  // kSeek: whence
  int64_t third = 0;
  int64_t call = 0;  // kCall: a StreamCall with its arguments
  std::vector<uint8_t> payload;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.request, s.operation, s.first, s.second, s.third, s.call, s.payload);
  }
};
struct StreamControlled {
  static constexpr MessageType kType = MessageType::kStreamControlled;
  uint64_t request = 0;
  int64_t result = 0;
  int32_t error = 0;
  std::vector<uint8_t> payload;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.result, s.error, s.payload);
  }
};

// Answered by StreamDrained(request) once everything that the sender sent for `streams` before is in, or once
// one of them is stuck: a socket that has taken nothing for kStreamPatience, a pipe for `patience`. Nobody
// may ever read it, or only after what the asker's answer is awaited for. What is in is credited before.
struct StreamDrain {
  static constexpr MessageType kType = MessageType::kStreamDrain;
  uint64_t request = 0;
  std::vector<StreamId> streams;
  Patience patience{};
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.streams, s.patience);
  }
};
struct StreamDrained {
  static constexpr MessageType kType = MessageType::kStreamDrained;
  uint64_t request = 0;
  bool stuck = false;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.request, s.stuck);
  }
};
// Sent before the process's end is reported: of `streams`, bytes are not known to be in, and they may be its
// own.
struct StreamLast {
  static constexpr MessageType kType = MessageType::kStreamLast;
  Incarnation incarnation = 0;
  std::vector<StreamId> streams;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.incarnation, s.streams);
  }
};
// Home to a stream's origin: `share` is from now on another name for it, granted once; for a third host, or
// for home itself.
struct StreamShare {
  static constexpr MessageType kType = MessageType::kStreamShare;
  StreamId stream = 0;  // a share that the origin knows
  StreamId share = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.share);
  }
};
// Home to the one host whose processes hold both ends of a pipe of home's: let it be yours. Taken, the pipe
// is that host's from its answer on; home sends what is still in it, in order, by StreamMoved, and forgets
// it. What either side knew when it said so, so that nothing that names the pipe is on its way: the last
// grant of each end, and how many references to it have come home (runtime/stream/passing.h).
struct StreamMove {
  static constexpr MessageType kType = MessageType::kStreamMove;
  StreamId read = 0;
  StreamId write = 0;
  uint32_t read_grants = 0;
  uint32_t write_grants = 0;
  uint64_t references = 0;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.read, s.write, s.read_grants, s.write_grants, s.references);
  }
};
enum class MoveAnswer : uint32_t { kTaken = 0, kNotNow = 1, kNever = 2 };
// Everything that its host says about the pipe as home's is said before kTaken.
struct StreamMoveAnswer {
  static constexpr MessageType kType = MessageType::kStreamMoveAnswer;
  StreamId read = 0;
  StreamId write = 0;
  MoveAnswer answer{};
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.read, s.write, s.answer);
  }
};
struct StreamMoved {
  static constexpr MessageType kType = MessageType::kStreamMoved;
  StreamId read = 0;
  std::vector<uint8_t> bytes;
  bool last = false;
  int32_t status_flags = 0;  // of the read end
  int32_t capacity = 0;      // bytes
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.read, s.bytes, s.last, s.status_flags, s.capacity);
  }
};

// The shared offset of a plain file that was opened again by name (runtime/stream/plain_files.h): moved by
// processes of the sender since it was `before`; and, from the origin, where it is now. `gives_up`: the
// sender has no right to it any more, as the origin wanted with `recalled`; offset -1: it has not
// moved it, or had none.
struct StreamOffset {
  static constexpr MessageType kType = MessageType::kStreamOffset;
  StreamId stream = 0;
  int64_t offset = 0;
  int64_t before = 0;
  bool gives_up = false;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.offset, s.before, s.gives_up);
  }
};
struct StreamOffsetNow {
  static constexpr MessageType kType = MessageType::kStreamOffsetNow;
  StreamId stream = 0;
  int64_t offset = 0;
  bool recalled = false;
  template <class Self>
  static auto Fields(Self& s) {
    return std::tie(s.stream, s.offset, s.recalled);
  }
};

}  // namespace elsewhere::wire
