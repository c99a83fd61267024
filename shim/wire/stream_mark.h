// How a process recognises a descriptor that stands for something on another host, or speaks of this one's.
//
// The worker agent marks the local object's open file description with a signal number that nothing uses
// (F_SETSIG has no effect without O_ASYNC). The mark belongs to the description, so it survives fork, dup,
// exec and SCM_RIGHTS, and finding it takes one system call and no help: a program that was just executed
// looks at each of its descriptors. A program that gives such a description a signal of its own loses the
// redirection of its reads (they then see what is in the local object only).
//
// Plain C layouts, included by freestanding code.
#pragma once

namespace elsewhere::wire {

enum class StreamMark : int {
  kNone = 0,
  kSharedFile = 52,       // a plain file open for reading and writing, whose offset other hosts share
  kListener = 53,         // a listening socket: locally as kEvent
  kTimer = 54,            // a timerfd: as kEvent
  kMappedFile = 55,       // the local file of a mapped one (shim/wire/file_call.h)
  kMappedDirectory = 56,  // its likeness in the host's tree
  kPipeRead = 57,         // read end of a pipe or FIFO: empty until bytes are asked for
  kPipeWrite = 58,   // write end: the local pipe is in packet mode (O_DIRECT), which is not the program's
  kSocket = 59,      // one end of a local socketpair
  kTerminal = 60,    // local pseudo-terminal in raw mode with VMIN 0
  kOutputFile = 61,  // a plain file at its origin that is only written or appended to; locally as kPipeWrite
  kEvent = 62,       // an eventfd: locally one end of a socketpair of records of eight bytes
  kMessageQueue = 63,  // a local queue that stands for one of home's (preload/message_queue.h)
  kSignals = 64,       // a signalfd of this host: its contents have the host's pids
};
inline constexpr int kFirstStreamMark = static_cast<int>(StreamMark::kSharedFile);
inline constexpr int kLastStreamMark = static_cast<int>(StreamMark::kSignals);

}  // namespace elsewhere::wire
