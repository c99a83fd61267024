// What the preload knows of a descriptor beyond what the kernel knows: one byte per number, zero for nothing.
//
// Most calls are on descriptors of which nothing is known; they pay one relaxed load and a branch. A byte
// that is set names the kind whose operations are asked before the real call is made on the kernel object,
// which always exists (a redirected descriptor is a real descriptor). Numbers at or above kDescriptorCount
// are never given a kind.
#pragma once

#include <errno.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "shim/wire/abi.h"

namespace elsewhere::preload {

inline constexpr unsigned kDescriptorCount = 65536;

// Libc closes descriptors without calling close (fclose, closedir, posix_spawn's file actions), so a byte can
// outlive what it spoke of: the operations of a kind check the identity of the kernel object first.
extern constinit std::atomic<uint8_t> descriptor_kinds[kDescriptorCount];

inline bool IsKnown(int fd) {
  const auto number = static_cast<unsigned>(fd);
  return number < kDescriptorCount && descriptor_kinds[number].load(std::memory_order_relaxed) != 0;
}

// Saturates: a caller's sizes are checked by the kernel, not here.
size_t TotalSize(const struct iovec* parts, size_t count);
inline size_t TotalSize(const struct iovec* parts, int count) {
  return TotalSize(parts, count < 0 ? 0 : static_cast<size_t>(count));
}

// What a kind of descriptor does before (or in place of) the kernel. Each may block as the call itself may,
// and is interrupted as it would be. false: the call fails with the errno that was set, and the kernel is not
// asked. Async-signal-safe.
struct DescriptorOperations {
  bool (*before_input)(int fd, size_t bytes, int flags);  // flags: of recv, MSG_DONTWAIT above all
  bool (*before_output)(int fd);
  off_t (*seek)(int fd, off_t offset, int whence);
};

// The kinds, and at the same time the rows of descriptor.cpp.
enum class DescriptorKind : uint8_t {
  kNothing = 0,
  kOwn = 1,  // a descriptor of ours in the program's table: for the program it does not exist
  // On a worker, of an object elsewhere (preload/stream.h):
  kPipeRead = 2,
  kPipeWrite = 3,
  kSocket = 4,
  kTerminal = 5,
  kOutputFile = 6,    // written at its origin, locally a pipe
  kEvent = 7,         // an eventfd
  kMessageQueue = 8,  // preload/message_queue.h
  kSignals = 9,       // a signalfd: what is read from it is translated (preload/signals.h)
  // Of a mapped directory (preload/files.h):
  kMappedFile = 10,
  kMappedDirectory = 11,
  kTimer = 12,       // a timerfd of another host, as kEvent
  kListener = 13,    // a listening socket elsewhere
  kHomeQueue = 14,   // at home: a message queue that other hosts may have, too (preload/home_queue.h)
  kSharedFile = 15,  // on a worker: preload/shared_file.h
};

inline DescriptorKind KindOf(int fd) {
  const auto number = static_cast<unsigned>(fd);
  if (number >= kDescriptorCount) return DescriptorKind::kNothing;
  return static_cast<DescriptorKind>(descriptor_kinds[number].load(std::memory_order_relaxed));
}
// Whether what a process wrote to objects elsewhere may be unsent. `outputs` grows before and behind every
// output to one; what it was when nothing was unsent tells whether there was output since (stream.h).
inline constexpr int kLookedAt = 512;
extern constinit std::atomic<uint64_t> outputs;
extern constinit std::atomic<bool> output_elsewhere;  // for good: descriptors at kLookedAt or above
extern constinit std::atomic<bool> output_closed;     // one was closed or replaced

inline bool IsOutput(DescriptorKind kind) {
  return kind == DescriptorKind::kPipeWrite || kind == DescriptorKind::kSocket ||
         kind == DescriptorKind::kTerminal || kind == DescriptorKind::kOutputFile ||
         kind == DescriptorKind::kMappedFile;
}
inline void SetKind(int fd, DescriptorKind kind) {
  const auto number = static_cast<unsigned>(fd);
  if (number >= kDescriptorCount) return;
  if (IsOutput(KindOf(fd))) output_closed.store(true, std::memory_order_relaxed);
  if (IsOutput(KindOf(fd)) || IsOutput(kind)) outputs.fetch_add(1, std::memory_order_release);
  if (fd >= kLookedAt && IsOutput(kind)) output_elsewhere.store(true, std::memory_order_relaxed);
  descriptor_kinds[number].store(static_cast<uint8_t>(kind), std::memory_order_relaxed);
}

// Of what was written there, some may wait for room at its origin.
inline bool MayBeFull(DescriptorKind kind) {
  return kind == DescriptorKind::kPipeWrite || kind == DescriptorKind::kSocket;
}

// Which descriptors this thread has written objects elsewhere through since it last released something
// (abi::WroteTo): what is waited for at its next release (runtime/stream/README.md).
extern constinit thread_local uint64_t written_to;

// Of a file that is written at home: where memory of this host has what is in such files, what was written is
// in it when this returns. Leaves errno alone.
void AwaitWritten(int fd);

// Around an output. Before it for handlers that run in between, behind it for other threads that look.
class NotedOutput {
 public:
  explicit NotedOutput(int fd)
      : fd_(fd), counts_(IsOutput(KindOf(fd))), written_(abi::WroteTo(fd, MayBeFull(KindOf(fd)))) {
    Count();
  }
  NotedOutput(const NotedOutput&) = delete;
  NotedOutput& operator=(const NotedOutput&) = delete;
  ~NotedOutput() {
    Count();
    if (KindOf(fd_) == DescriptorKind::kOutputFile) AwaitWritten(fd_);
  }

 private:
  void Count() const {
    if (!counts_) return;
    outputs.fetch_add(1, std::memory_order_release);
    written_to |= written_;
  }
  const int fd_;
  const bool counts_;
  const uint64_t written_;
};

// What is known of a descriptor is known of its copy. Returns the copy, which may be -1. `flags`: O_CLOEXEC.
int Copied(int from, int to, int flags);

// The operations of what is known of fd. False of the first two: fail with the errno that was set.
bool BeforeInput(int fd, size_t bytes, int flags);
bool BeforeOutput(int fd);

// Whether the offset may be another host's (preload/shared_file.h).
inline bool MayBeAway(DescriptorKind kind) {
  return kind == DescriptorKind::kSharedFile || kind == DescriptorKind::kMappedFile;
}
// Of such a file, where nothing was read. True: its offset was away, and is here now.
bool TakeOffset(int fd);

// What this thread was last told of a pipe elsewhere: that its end has come.
extern constinit thread_local bool told_of_end;

// Makes `read` when fd can answer it as its object would. What was asked for can be gone by then: another
// process of this host that reads the same pipe has taken it. So its local end never blocks, and what was
// found empty is asked for again; it looks like the end where somebody else watches
// (preload/stream_readiness.cpp).
template <class Read>
auto WithInput(int fd, size_t bytes, int flags, Read read) -> decltype(read()) {
  const int before = errno;
  while (BeforeInput(fd, bytes, flags)) {
    const auto result = read();
    if (result != -1) errno = before;
    const bool nothing = result == -1 ? errno == EAGAIN : result == 0 && bytes > 0 && !told_of_end;
    if (nothing && MayBeAway(KindOf(fd)) && TakeOffset(fd)) continue;
    if (!nothing || KindOf(fd) != DescriptorKind::kPipeRead) return result;
  }
  return -1;
}

// Has what was written to the write end of a pipe elsewhere been sent on, so that there is room for more?
bool HasRoomElsewhere(int fd);

// Makes `write`, which may not wait. What stands for a pipe elsewhere holds few writes, however small: where
// it refuses one, the agent takes them first, as far as the pipe's readers leave it room.
template <class Write>
auto WithOutput(int fd, Write write) -> decltype(write()) {
  const int before = errno;
  for (;;) {
    const auto written = write();
    if (written != -1) errno = before;
    if (written != -1 || errno != EAGAIN || KindOf(fd) != DescriptorKind::kPipeWrite) return written;
    if (!HasRoomElsewhere(fd)) return written;
  }
}

// ---- Descriptors of ours (the agent's socket and doorbell, the lifeline, shared memory's) ----

// Moves `fd` out of the way of the program's numbers, close-on-exec. The new number, or -errno; fd is closed
// either way.
int MoveToOwn(int fd);
// Says that `fd`, wherever it sits, is ours.
void MarkOwn(int fd);
void CloseOwn(int fd);
// It is closed already, or in another process.
void ForgetOwn(int fd);
inline bool IsOwn(int fd) {
  return KindOf(fd) == DescriptorKind::kOwn;
}

}  // namespace elsewhere::preload
