#include "preload/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "preload/agent.h"
#include "preload/descriptor_list.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/kernel_call.h"
#include "preload/message_queue.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/signals.h"
#include "preload/stdio.h"
#include "preload/terminal.h"
#include "shim/wire/raw_syscall.h"
#include "shim/wire/stream_mark.h"

namespace elsewhere::preload {

constinit std::atomic<bool> has_streams = false;
constinit thread_local bool told_of_end = false;

namespace {

DescriptorKind KindOfMark(long mark) {
  switch (static_cast<wire::StreamMark>(mark)) {
    case wire::StreamMark::kPipeRead:
      return DescriptorKind::kPipeRead;
    case wire::StreamMark::kPipeWrite:
      return DescriptorKind::kPipeWrite;
    case wire::StreamMark::kSocket:
      return DescriptorKind::kSocket;
    case wire::StreamMark::kTerminal:
      return DescriptorKind::kTerminal;
    case wire::StreamMark::kOutputFile:
      return DescriptorKind::kOutputFile;
    case wire::StreamMark::kEvent:
      return DescriptorKind::kEvent;
    case wire::StreamMark::kTimer:
      return DescriptorKind::kTimer;
    case wire::StreamMark::kListener:
      return DescriptorKind::kListener;
    case wire::StreamMark::kMessageQueue:
      return DescriptorKind::kMessageQueue;
    case wire::StreamMark::kSignals:
      return DescriptorKind::kSignals;
    case wire::StreamMark::kSharedFile:
      return DescriptorKind::kSharedFile;
    case wire::StreamMark::kMappedFile:
      return DescriptorKind::kMappedFile;
    case wire::StreamMark::kMappedDirectory:
      return DescriptorKind::kMappedDirectory;
    default:
      return DescriptorKind::kNothing;
  }
}

// The local object, which is how the agent knows it.
bool ObjectOf(int fd, int64_t* device, int64_t* inode) {
  struct stat status;
  if (raw::Failed(raw::Syscall(SYS_fstat, fd, raw::Address(&status)))) return false;
  *device = static_cast<int64_t>(status.st_dev);
  *inode = static_cast<int64_t>(status.st_ino);
  return true;
}

// A call about fd's object, whose identity is the first two arguments.
int64_t CallAboutObject(abi::Operation operation, int fd, int64_t (&arguments)[6], const Payload& payload,
                        Interruption interruption, bool* stranger) {
  *stranger = !ObjectOf(fd, &arguments[0], &arguments[1]);
  if (*stranger) return -1;
  const int before = errno;
  const int64_t result = CallAgent(
      operation, {arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]},
      payload, interruption);
  if (result == -1 && errno == wire::kNotOpenForThat) {
    errno = EBADF;
    return result;
  }
  if (result != -1 || errno != EBADF) return result;
  SetKind(fd, DescriptorKind::kNothing);
  *stranger = true;
  errno = before;
  return -1;
}

}  // namespace

size_t WaitingHere(int fd) {
  int bytes = 0;
  return raw::Syscall(SYS_ioctl, fd, FIONREAD, raw::Address(&bytes)) == 0 && bytes > 0
             ? static_cast<size_t>(bytes)
             : 0;
}

int64_t CallAboutStream(abi::Operation operation, int fd, int64_t first, int64_t second,
                        const Payload& payload, Interruption interruption, bool* stranger) {
  int64_t arguments[6] = {0, 0, first, second};
  return CallAboutObject(operation, fd, arguments, payload, interruption, stranger);
}

int64_t CallAtOrigin(int fd, wire::StreamCall call, std::initializer_list<int64_t> arguments,
                     const Payload& payload, bool* stranger, Interruption interruption) {
  int64_t all[6] = {0, 0, static_cast<int64_t>(call)};
  size_t count = 3;
  for (const int64_t argument : arguments) all[count++] = argument;
  return CallAboutObject(abi::Operation::kAtOrigin, fd, all, payload, interruption, stranger);
}

void FindStream(int fd) {
  const long mark = raw::Syscall(SYS_fcntl, fd, F_GETSIG);
  if (mark < wire::kFirstStreamMark || mark > wire::kLastStreamMark) return;
  const DescriptorKind kind = KindOfMark(mark);
  if (kind == DescriptorKind::kMappedFile || kind == DescriptorKind::kMappedDirectory) {
    if (HasMaps()) FileOpened(fd, 0, kind == DescriptorKind::kMappedDirectory);
    return;
  }
  SetKind(fd, kind);
  if (!HasStreams()) FollowStdio();
  if (IsQueue(fd)) NoteKernelObjects();
  has_streams.store(true, std::memory_order_relaxed);
}

void FindStreams() {
  ForEachDescriptor([](int fd) {
    if (KindOf(fd) != DescriptorKind::kOwn) FindStream(fd);
  });
}

// A read that follows another one of the same pipe, with nothing between them that the agent heard of,
// belongs to it (a header and its body). When a handler interrupts it, bytes that came nevertheless are
// taken: a system call would have found them there at once. Those of a first read go back, as if the handler
// had come first, so that a message is taken whole or not at all.
int AskForInput(int fd, size_t bytes, bool wait) {
  constinit static thread_local int last_fd = -1;
  constinit static thread_local uint32_t last_call = 0;
  if (bytes == 0 || WaitingHere(fd) > 0) return 1;
  const bool continues = fd == last_fd && CallsOfThread() == last_call;
  const uint32_t handlers = HandlersRun(false);
  int64_t mode = (wait ? 0 : 1) | (continues ? abi::kPullContinues : 0);
  if (InVforkChild()) mode |= abi::kPullStays;
  bool stranger, interrupted = false;
  wire::MovedPipe moved;
  Payload payload{nullptr, 0, &moved, sizeof moved, &interrupted};
  int64_t result;
  for (;;) {
    result = CallAboutStream(abi::Operation::kPull, fd, static_cast<int64_t>(bytes), mode, payload,
                             Interruption::kAllowed, &stranger);
    if (stranger) return 1;
    if (result < 0 && errno == wire::kPipeHasMoved) {
      const Taken taken = TakeMovedPipe(fd, moved);
      // What interrupted the wait here does not interrupt the kernel's.
      const bool over = wait && (interrupted || HandlersRun(false) != handlers);
      if (taken == Taken::kClosed || over) {
        errno = taken == Taken::kClosed ? EBADF : EINTR;
        return -1;
      }
      if (taken == Taken::kYes) return 1;
      mode |= abi::kPullStays;
      continue;
    }
    if (result >= 0 || errno != ERESTART) break;
    // A terminal that is another group's at present.
    if (!AwaitForeground(SIGTTIN)) return -1;
  }
  if (interrupted && result > 0 && !continues && KindOf(fd) == DescriptorKind::kPipeRead) {
    CallAboutStream(abi::Operation::kPull, fd, 0, abi::kPullBack, {}, Interruption::kNone, &stranger);
    errno = EINTR;
    result = -1;
  }
  last_fd = result > 0 ? fd : -1;
  last_call = CallsOfThread();
  return result > 0 ? 1 : static_cast<int>(result);
}

// What a peek asked for stays here, and the next call may want more than that: it gets what there is, as
// natively. One descriptor is remembered; of another one peeked at meanwhile less is seen at first.
void AskBehindPeek(int fd, size_t bytes, int flags) {
  constinit static std::atomic<int> peeked{-1};
  const bool peeks = (flags & MSG_PEEK) != 0;
  const bool peeked_before = peeked.load(std::memory_order_relaxed) == fd;
  if (peeks == peeked_before && !peeks) return;
  const size_t there = WaitingHere(fd);
  int type = 0;
  socklen_t size = sizeof type;
  raw::Syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, raw::Address(&type), raw::Address(&size));
  if (type != SOCK_STREAM) return;  // a message is here whole
  bool stranger;
  const int before = errno;
  if (there > 0 && there < bytes)
    CallAboutStream(abi::Operation::kPull, fd, static_cast<int64_t>(bytes - there), 3, {},
                    Interruption::kNone, &stranger);
  errno = before;
  peeked.store(peeks ? fd : -1, std::memory_order_relaxed);
}

int ReceiveLimit(int fd) {
  if (!IsSocketElsewhere(fd)) return -1;
  timeval limit{};
  socklen_t size = sizeof limit;
  if (raw::Failed(raw::Syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, raw::Address(&limit),
                               raw::Address(&size))) ||
      (limit.tv_sec == 0 && limit.tv_usec == 0)) {
    return -1;
  }
  constexpr int64_t kLongest = INT32_MAX;
  const int64_t milliseconds = limit.tv_sec * int64_t{1000} + (limit.tv_usec + 999) / 1000;
  return static_cast<int>(milliseconds < kLongest ? milliseconds : kLongest);
}

// What it saw another process may take: then its reader waits without a limit.
bool AwaitReceivable(int fd, int limit) {
  pollfd wait{fd, POLLIN, 0};
  const int ready = hooks::poll(&wait, 1, limit);
  if (ready == 0) errno = EAGAIN;
  return ready > 0;
}

// The end of file needs no word from here: the real call sees it on the local object.
bool PullStream(int fd, size_t bytes, int flags) {
  // A pipe's local end never blocks; whether the program's does, its origin knows.
  const long status = KindOf(fd) == DescriptorKind::kPipeRead ? 0 : raw::Syscall(SYS_fcntl, fd, F_GETFL);
  const bool wait = (flags & MSG_DONTWAIT) == 0 && (status < 0 || (status & O_NONBLOCK) == 0);
  if (wait && WaitingHere(fd) == 0) {
    if (const int limit = ReceiveLimit(fd); limit >= 0 && !AwaitReceivable(fd, limit)) return false;
  }
  if ((flags & MSG_WAITALL) == 0) {
    AskBehindPeek(fd, bytes, flags);
    const int asked = AskForInput(fd, bytes, wait);
    told_of_end = asked == 0;
    return asked >= 0;
  }
  for (size_t there = WaitingHere(fd); there < bytes;) {
    bool stranger;
    // More than is there must be asked for although something is.
    const int64_t result = CallAboutStream(abi::Operation::kPull, fd, static_cast<int64_t>(bytes - there), 2,
                                           {}, Interruption::kAllowed, &stranger);
    if (stranger || result == 0 || (result < 0 && there > 0)) return true;
    if (result < 0) return false;
    there = WaitingHere(fd);
  }
  return true;
}

off_t SeekStream(int fd, off_t offset, int whence) {
  bool stranger;
  const int64_t result =
      CallAboutStream(abi::Operation::kSeek, fd, offset, whence, {}, Interruption::kNone, &stranger);
  return stranger ? real::lseek(fd, offset, whence) : static_cast<off_t>(result);
}

int WatchStream(int fd, Watching watching, bool answer) {
  int64_t options = (answer ? abi::kWatchAnswers : 0) | (InVforkChild() ? abi::kWatchStays : 0);
  for (;;) {
    wire::MovedPipe moved;
    bool stranger;
    const int64_t result =
        CallAboutStream(abi::Operation::kWatch, fd, static_cast<int64_t>(watching), options,
                        {nullptr, 0, &moved, sizeof moved}, Interruption::kNone, &stranger);
    if (stranger || (result < 0 && errno != wire::kPipeHasMoved)) return -1;
    if (result >= 0) return static_cast<int>(result);
    if (TakeMovedPipe(fd, moved) != Taken::kCannot) return kNowNative;
    options |= abi::kWatchStays;
  }
}

long AvailableAtOrigin(int fd) {
  bool stranger;
  return CallAboutStream(abi::Operation::kIoctl, fd, FIONREAD, 0, {}, Interruption::kNone, &stranger);
}

namespace {

// What the agent has not taken, and what the peer has not read of the rest.
int UnsentOf(int fd, int* unsent) {
  int there = 0, here = 0;
  bool stranger;
  const int64_t result = CallAboutStream(abi::Operation::kIoctl, fd, TIOCOUTQ, 0,
                                         {nullptr, 0, &there, sizeof there}, Interruption::kNone, &stranger);
  if (stranger) return real::ioctl(fd, TIOCOUTQ, unsent);
  if (result < 0 || real::ioctl(fd, TIOCOUTQ, &here) != 0) return -1;
  *unsent = here + there;
  return 0;
}

}  // namespace

bool HasRoomElsewhere(int fd) {
  const int before = errno;
  bool stranger;
  const int64_t result =
      CallAboutStream(abi::Operation::kForward, fd, 0, 0, {}, Interruption::kNone, &stranger);
  errno = before;
  return stranger || result > 0;
}

namespace {

// ---- Terminals: attributes and size are those of the terminal at home

bool IsTerminalRequest(unsigned long request) {
  switch (request) {
    case TCGETS:
    case TCSETS:
    case TCSETSW:
    case TCSETSF:
    case TIOCGWINSZ:
    case TIOCSWINSZ:
    case TIOCOUTQ:
    case TIOCGDEV:
      return true;
    default:
      return false;
  }
}

size_t SizeOf(unsigned long request) {
  if (request == TIOCGWINSZ || request == TIOCSWINSZ) return sizeof(winsize);
  return request == TIOCOUTQ || request == TIOCGDEV ? sizeof(int) : 36;  // the kernel's struct termios
}

// Requests whose argument is a number.
int TerminalAction(int fd, unsigned long request, long argument) {
  if (!MayChangeTerminal(fd)) return -1;
  bool stranger;
  const int64_t result = CallAboutStream(abi::Operation::kIoctl, fd, static_cast<int64_t>(request), argument,
                                         {}, Interruption::kNone, &stranger);
  return stranger ? real::ioctl(fd, request, reinterpret_cast<void*>(argument)) : static_cast<int>(result);
}

// The kernel's layout of struct termios; libc's has more control characters and the speeds apart.
struct KernelTermios {
  uint32_t flags[4];
  uint8_t line;
  uint8_t characters[19];
};
static_assert(sizeof(KernelTermios) == 36);

}  // namespace

int TerminalAtHome(int fd, unsigned long request, void* argument) {
  const size_t size = SizeOf(request);
  bool stranger;
  const int64_t result = CallAboutStream(abi::Operation::kIoctl, fd, static_cast<int64_t>(request), 0,
                                         {argument, size, argument, size}, Interruption::kNone, &stranger);
  if (stranger) return real::ioctl(fd, request, argument);
  // The stand-in shows the same size to whoever asks it without libc.
  if (result == 0 && request == TIOCSWINSZ) real::ioctl(fd, request, argument);
  return static_cast<int>(result);
}

namespace {

bool FindsUnsentOutput() {
  if (output_elsewhere.load(std::memory_order_relaxed)) return true;
  if (output_closed.exchange(false, std::memory_order_relaxed)) return true;
  for (int fd = 0; fd < kLookedAt; ++fd) {
    const DescriptorKind kind = KindOf(fd);
    if (!IsOutput(kind)) continue;
    // Of a terminal and of a mapped file the kernel does not tell.
    const bool pipe = kind == DescriptorKind::kPipeWrite || kind == DescriptorKind::kOutputFile;
    if (!pipe && kind != DescriptorKind::kSocket) return true;
    int unsent = 0;
    const long asked = raw::Syscall(SYS_ioctl, fd, pipe ? FIONREAD : TIOCOUTQ, raw::Address(&unsent));
    // A pipe that has become this host's has no mark any more.
    if (asked == 0 && unsent != 0 && kind == DescriptorKind::kPipeWrite &&
        raw::Syscall(SYS_fcntl, fd, F_GETSIG) == 0) {
      SetKind(fd, DescriptorKind::kNothing);
      continue;
    }
    if (asked != 0 || unsent != 0) return true;
  }
  return false;
}

}  // namespace

constinit std::atomic<uint64_t> outputs_sent{0};

bool LookForUnsentOutput(uint64_t now) {
  if (FindsUnsentOutput()) return true;
  // Without stdio's own writes the number does not tell.
  if (FollowsStdio()) outputs_sent.store(now, std::memory_order_relaxed);
  return false;
}

namespace hooks {

int dup(int fd) {
  if (IsOwn(fd)) {
    errno = EBADF;
    return -1;
  }
  const StreamNumbers held(MayBeReplaced(fd));
  return Copied(fd, real::dup(fd), 0);
}

int ioctl(int fd, unsigned long request, void* argument) {
  if (request == FIONBIO && IsReadable(argument, sizeof(int)))
    return SetNonBlocking(fd, *static_cast<const int*>(argument) != 0);
  if (request == FIONREAD && (IsStreamInput(fd) || KindOf(fd) == DescriptorKind::kPipeWrite)) {
    const long there = AvailableAtOrigin(fd);
    const int result = real::ioctl(fd, request, argument);
    if (result == 0 && KindOf(fd) == DescriptorKind::kPipeWrite && there >= 0)
      *static_cast<int*>(argument) = 0;
    if (result == 0 && there > 0) *static_cast<int*>(argument) += static_cast<int>(there);
    return result;
  }
  if (request == TIOCOUTQ && KindOf(fd) == DescriptorKind::kSocket && IsReadable(argument, sizeof(int)))
    return UnsentOf(fd, static_cast<int*>(argument));
  // The local file may have holes where its content was not fetched: it is no object to share blocks with.
  if (request == FICLONE || request == FICLONERANGE || request == FIDEDUPERANGE) {
    errno = EOPNOTSUPP;
    return -1;
  }
  if (KindOf(fd) == DescriptorKind::kTerminal && IsTerminalRequest(request)) {
    const bool changes =
        request == TCSETS || request == TCSETSW || request == TCSETSF || request == TIOCSWINSZ;
    if (changes && !MayChangeTerminal(fd)) return -1;
    return TerminalAtHome(fd, request, argument);
  }
  if (OnWorker() && IsJobControlRequest(request)) {
    return JobControlRequest(fd, request, argument);
  }
  if (KindOf(fd) == DescriptorKind::kTerminal &&
      (request == TCSBRK || request == TCXONC || request == TCFLSH)) {
    return TerminalAction(fd, request, reinterpret_cast<intptr_t>(argument));
  }
  return real::ioctl(fd, request, argument);
}

int fstat(int fd, struct stat* status) {
  if (IsMapped(fd)) return StatusOfFile(fd, status);
  bool stranger = true;
  if (IsOwn(fd)) {
    errno = EBADF;
    return -1;
  }
  if (KindOf(fd) == DescriptorKind::kOutputFile) {
    const int64_t result =
        CallAboutStream(abi::Operation::kStat, fd, 0, 0, {nullptr, 0, status, sizeof *status},
                        Interruption::kNone, &stranger);
    if (!stranger) return static_cast<int>(result);
  }
  return real::fstat(fd, status);
}

int tcgetattr(int fd, struct termios* attributes) {
  KernelTermios kernel{};
  if (TerminalAtHome(fd, TCGETS, &kernel) != 0) return -1;
  memset(attributes, 0, sizeof *attributes);
  attributes->c_iflag = kernel.flags[0];
  attributes->c_oflag = kernel.flags[1];
  attributes->c_cflag = kernel.flags[2];
  attributes->c_lflag = kernel.flags[3];
  attributes->c_line = kernel.line;
  memcpy(attributes->c_cc, kernel.characters, sizeof kernel.characters);
  attributes->c_ispeed = attributes->c_ospeed = kernel.flags[2] & (CBAUD | CBAUDEX);
  return 0;
}

int tcsetattr(int fd, int when, const struct termios* attributes) {
  if (when != TCSANOW && when != TCSADRAIN && when != TCSAFLUSH) {
    errno = EINVAL;
    return -1;
  }
  KernelTermios kernel{{attributes->c_iflag, attributes->c_oflag, attributes->c_cflag, attributes->c_lflag},
                       attributes->c_line,
                       {}};
  memcpy(kernel.characters, attributes->c_cc, sizeof kernel.characters);
  if (!MayChangeTerminal(fd)) return -1;
  return TerminalAtHome(fd, TCSETS + static_cast<unsigned long>(when), &kernel);
}

int tcdrain(int fd) {
  return TerminalAction(fd, TCSBRK, 1);
}
int tcflush(int fd, int queue) {
  return TerminalAction(fd, TCFLSH, queue);
}
int tcflow(int fd, int action) {
  return TerminalAction(fd, TCXONC, action);
}

}  // namespace hooks
}  // namespace elsewhere::preload
