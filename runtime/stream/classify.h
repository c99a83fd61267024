// What an inherited descriptor is, and so how it gets to another host.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <string>

#include "shim/wire/result.h"

namespace elsewhere::runtime::stream {

// Travels as JobDescriptor::kind.
enum class Kind : uint32_t {
  kPipeRead = 1,       // bridged: read end of a pipe or FIFO
  kPipeWrite = 2,      // bridged: write end
  kSocket = 3,         // bridged: connected Unix or TCP socket, end of a socketpair
  kTerminal = 4,       // bridged
  kOutputFile = 5,     // bridged: plain file that is write-only or has no name; its offset is its origin's
  kPlainFile = 6,      // opened again by name; the offset is carried there and back
  kReopened = 7,       // directory or stateless device: opened again by name
  kAnonymousFile = 8,  // memfd or unlinked file: made anew where nobody can write it; offset as kPlainFile
  kEvent = 9,          // bridged: eventfd, whose count is one for all
  kTimer = 10,         // bridged: timerfd, whose expirations are there for one reader
  kSignal = 11,        // signalfd with its mask
  kEpoll = 12,    // a new, empty instance; the process enters its interests again (preload/epoll_image.h)
  kInotify = 13,  // a new, empty instance
  kMessageQueue = 14,  // a stand-in; the deputy keeps the queue
  kReference = 15,     // passed: a description of the receiver's (passing.h)
  kListener = 16,      // bridged: listening socket; who accepts gets a bridged connection
  kMappedFile = 17,    // of a map, or a directory of one: opened by the files component; offset as kPlainFile
};

// A read takes a number of eight bytes.
inline constexpr bool IsCounter(Kind kind) {
  return kind == Kind::kEvent || kind == Kind::kTimer;
}

// One description for all processes of a host, whose offset is carried there and back.
inline constexpr bool CarriesOffset(Kind kind) {
  return kind == Kind::kPlainFile || kind == Kind::kMappedFile || kind == Kind::kAnonymousFile;
}

inline constexpr bool IsBridged(Kind kind) {
  return kind <= Kind::kOutputFile || IsCounter(kind) || kind == Kind::kListener;
}

// What is read of it is a record that the reader's call is answered with, never bytes in the local object.
inline constexpr bool AnswersCalls(Kind kind) {
  return IsCounter(kind) || kind == Kind::kListener;
}

// One that cannot be opened again: what stands for it elsewhere is each job's own.
inline constexpr bool IsEachJobsOwn(Kind kind) {
  return kind == Kind::kSocket || kind == Kind::kListener;
}

// Do calls on the object come after the bytes that were written before? Those of a pipe or socket may stay
// outside for as long as nobody reads.
inline constexpr bool WaitsForBytes(Kind kind) {
  return kind == Kind::kOutputFile || kind == Kind::kTerminal;
}

// May it take nothing for ever, because nobody reads?
inline constexpr bool CanGetStuck(Kind kind) {
  return kind == Kind::kPipeWrite || kind == Kind::kSocket;
}

// Anonymous files beyond this are not copied: they must be shared memory, or stay home.
inline constexpr uint64_t kMaxAnonymousFile = 1 << 20;

// `link` is what /proc/self/fd/N of the process said, `flags` its F_GETFL. An error is the reason why the
// process must stay; `descriptor` is a dup, only looked at.
Result<Kind> Classify(int descriptor, const struct stat& status, const std::string& link, int flags);

// Of a file without a name: one in memory, which processes use by mapping it.
bool IsMadeForMapping(const std::string& link);

// Has anybody a description through which the file can be written?
bool MayBeWritten(int descriptor);

// Of an anonymous file: bytes that nobody can change any more, or that this descriptor cannot: a copy of
// others would be another file.
bool MayBeCopied(int descriptor, uint32_t flags);

}  // namespace elsewhere::runtime::stream
