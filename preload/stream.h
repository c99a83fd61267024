// Descriptors whose object is on another host: what a process does before it lets the kernel work on the
// local object (runtime/stream has the other half).
//
// The local object of a readable stream is empty until its bytes were asked for, so everything that may block
// for input asks first: kPull names how many bytes the call wants, waits where the object is, and when it is
// answered the bytes are in the local object. Async-signal-safe, except the epoll registry's lock-free table
// being what it is: of two threads that change one epoll instance's interest in one descriptor the later
// wins.
#pragma once

#include <poll.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "preload/agent.h"
#include "preload/descriptor.h"
#include "shim/wire/stream_call.h"

namespace elsewhere::preload {

// Set once a descriptor was ever found to be a stream's; until then poll and its kin go straight to libc.
extern std::atomic<bool> has_streams;
inline bool HasStreams() {
  return has_streams.load(std::memory_order_relaxed);
}

inline bool IsStreamInput(int fd) {
  const DescriptorKind kind = KindOf(fd);
  return kind == DescriptorKind::kPipeRead || kind == DescriptorKind::kSocket ||
         kind == DescriptorKind::kTerminal || kind == DescriptorKind::kEvent ||
         kind == DescriptorKind::kTimer || kind == DescriptorKind::kListener;
}

inline bool IsSocketElsewhere(int fd) {
  return KindOf(fd) == DescriptorKind::kSocket || KindOf(fd) == DescriptorKind::kListener;
}

// Looks at every open descriptor for a mark: in a program that was just executed or restored on a worker.
void FindStreams();
// Looks at one: after it came from somewhere.
void FindStream(int fd);

// Looks at one that came from another process, and tells the agent that this one holds it.
void TakePassed(int fd);

// A call about fd's object. EBADF from the agent: it is none of its streams, and libc closed what was; the
// kind is forgotten and `*stranger` set.
int64_t CallAboutStream(abi::Operation operation, int fd, int64_t first, int64_t second,
                        const Payload& payload, Interruption interruption, bool* stranger);

// A call that is made on the object itself, where it is.
int64_t CallAtOrigin(int fd, wire::StreamCall call, std::initializer_list<int64_t> arguments,
                     const Payload& payload, bool* stranger, Interruption interruption = Interruption::kNone);

// What DescriptorOperations want.
bool PullStream(int fd, size_t bytes, int flags);
off_t SeekStream(int fd, off_t offset, int whence);

// Makes sure that `bytes` can be read without the kernel having to wait for what the origin has, as read
// would: blocks, or fails with EAGAIN or EINTR. 1: bytes are there; 0: end of file; -1: errno.
int AskForInput(int fd, size_t bytes, bool wait);
// The time limit that SO_RCVTIMEO gave the socket, in milliseconds; -1: none.
int ReceiveLimit(int fd);
// Waits for something to be received from a socket with a limit. False: errno, EAGAIN where the time is over.
bool AwaitReceivable(int fd, int limit);
// Bytes that can be read from the local object at once.
size_t WaitingHere(int fd);

// How a process watches a stream (arguments of abi::Operation::kWatch).
enum class Watching : int64_t {
  kOff = 0,          // ends kOnce
  kOnce = 1,         // until kOff
  kUntilClosed = 2,  // until kForget
  kQuery = 3,        // changes nothing
  kForget = 4,
  kHasLeft = 5,  // a number that stood for a pipe that has moved is the pipe itself by now
};
// Returns what the agent knows: POLL* bits that are there now, 0 for nothing, -1 if it is no stream (any
// more; it is forgotten then), kNowNative. `answer`: ask the origin and wait for what it says.
int WatchStream(int fd, Watching watching, bool answer);

inline constexpr int kNowNative = -2;  // WatchStream: the number is the pipe itself by now

// ---- Pipes that have moved to this host (stream_moved.cpp)

enum class Taken {
  kYes,     // the number is the pipe itself by now
  kClosed,  // the number is something else by now
  kCannot,  // there is no descriptor to be had: the agent brings its bytes (abi::kPullStays)
};
Taken TakeMovedPipe(int fd, const wire::MovedPipe& moved);

// While it exists no number is replaced by a pipe that has moved. Signals are blocked meanwhile.
class StreamNumbers {
 public:
  explicit StreamNumbers(bool needed);
  ~StreamNumbers();
  StreamNumbers(const StreamNumbers&) = delete;
  StreamNumbers& operator=(const StreamNumbers&) = delete;

 private:
  const bool needed_;
  uint64_t signals_ = 0;
};
inline bool MayBeReplaced(int fd) {
  return KindOf(fd) == DescriptorKind::kPipeRead;
}
// In a child: another thread of its parent may have held it.
void ResetStreamNumbers();

// While it exists the pipe whose write end `fd` is does not move, if it has not: its description's packet
// mode is the agent's.
class KeptPlace {
 public:
  explicit KeptPlace(int fd);
  ~KeptPlace();
  KeptPlace(const KeptPlace&) = delete;
  KeptPlace& operator=(const KeptPlace&) = delete;

 private:
  int fd_ = -1;
};

// The epoll instances in which this process has registered a stream's number: out of them, and in again as
// what the number is by then, which is nothing to remember. True: there were any.
bool LeaveEpolls(int fd);
void EnterEpolls(int fd);
bool WatchesAnyStream();

// epoll_ctl's EPOLL_CTL_ADD of what an instance watched before this process was restored: streams are watched
// from the first wait on.
void EnterEpollAsleep(int epoll, int fd, const epoll_event& event);

// fcntl's F_SETFL with O_NONBLOCK alone changed, here and at the origin.
int SetNonBlocking(int fd, bool on);

// `fd` is about to be closed or replaced.
void StreamCloses(int fd);

// Around the closing of descriptors in [first, last]: an address that one of them listens on is free when it
// is over, as natively.
class ClosingListener {
 public:
  explicit ClosingListener(unsigned first, unsigned last);
  explicit ClosingListener(int fd) : ClosingListener(static_cast<unsigned>(fd), static_cast<unsigned>(fd)) {}
  ~ClosingListener();
  ClosingListener(const ClosingListener&) = delete;
  ClosingListener& operator=(const ClosingListener&) = delete;

 private:
  bool any_ = false;
};

// An ioctl whose argument is a structure, on a terminal at home.
int TerminalAtHome(int fd, unsigned long request, void* argument);

// Whether what this process wrote to objects elsewhere is known to have left it, and what this thread wrote
// to be in: three loads.
extern constinit std::atomic<uint64_t> outputs_sent;  // what `outputs` was when nothing was unsent
inline bool OutputIsSent() {
  return (written_to & abi::kWroteAhead) == 0 &&
         outputs_sent.load(std::memory_order_relaxed) == outputs.load(std::memory_order_acquire);
}
// False only if all of it has left. Where it is not known yet, one system call for each such descriptor.
bool LookForUnsentOutput(uint64_t now);
inline bool MayHaveUnsentOutput() {
  if (OutputIsSent()) return false;
  return (written_to & abi::kWroteAhead) != 0 || LookForUnsentOutput(outputs.load(std::memory_order_acquire));
}

// FIONREAD where it is, or -1.
long AvailableAtOrigin(int fd);

}  // namespace elsewhere::preload
