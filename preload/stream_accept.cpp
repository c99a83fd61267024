// Listening sockets that are elsewhere, and what is asked of sockets that are.
//
// Accepting is a read of one record: a request that waits where the socket is, in the order in which requests
// came, and whose answer is a connection. That stays where it was accepted, like every stream; what comes
// here is a stand-in. Names and options are those of the real socket.
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

#include "preload/agent.h"
#include "preload/home_call.h"
#include "preload/hooks.h"
#include "preload/readable.h"
#include "preload/real.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

void CopyAddress(const void* from, size_t size, sockaddr* to, socklen_t* room) {
  if (to == nullptr || room == nullptr) return;
  memcpy(to, from, size < *room ? size : *room);
  *room = static_cast<socklen_t>(size);
}

// Under the lowest free number, as accept gives it.
int Lowest(int fd, bool close_on_exec) {
  const int lowest =
      static_cast<int>(raw::Syscall(SYS_fcntl, fd, close_on_exec ? F_DUPFD_CLOEXEC : F_DUPFD, 0));
  raw::Close(fd);
  return lowest;
}

int Accept(int fd, sockaddr* from, socklen_t* size, int flags, bool* stranger) {
  wire::Accepted accepted{};
  const long status = raw::Syscall(SYS_fcntl, fd, F_GETFL);
  const int64_t at_once = status >= 0 && (status & O_NONBLOCK) != 0 ? 1 : 0;
  if (const int limit = at_once != 0 ? -1 : ReceiveLimit(fd); limit >= 0 && !AwaitReceivable(fd, limit)) {
    *stranger = false;
    return -1;
  }
  const int64_t result =
      CallAboutStream(abi::Operation::kPull, fd, sizeof accepted, at_once,
                      {nullptr, 0, &accepted, sizeof accepted}, Interruption::kAllowed, stranger);
  if (*stranger || result < 0) return -1;
  int made = FetchDescriptor(accepted.token);
  if (made >= 0) made = Lowest(made, (flags & SOCK_CLOEXEC) != 0);
  if (made < 0) {
    errno = -made;
    return -1;
  }
  TakePassed(made);
  if ((flags & SOCK_NONBLOCK) != 0) SetNonBlocking(made, true);
  CopyAddress(accepted.address, accepted.address_size, from, size);
  return made;
}

int Name(int fd, bool of_peer, sockaddr* name, socklen_t* size, bool* stranger) {
  sockaddr_storage address;
  if (!IsReadable(size, sizeof *size) || !IsReadable(name, 1)) {
    *stranger = false;
    errno = EFAULT;
    return -1;
  }
  const int64_t result = CallAtOrigin(fd, wire::StreamCall::kSocketName, {of_peer ? 1 : 0},
                                      {nullptr, 0, &address, sizeof address}, stranger);
  if (*stranger || result < 0) return -1;
  CopyAddress(&address, static_cast<size_t>(result), name, size);
  return 0;
}

}  // namespace

ClosingListener::ClosingListener(unsigned first, unsigned last) {
  if (!HasStreams() || InVforkChild()) return;
  for (unsigned fd = first; fd <= last && fd < kDescriptorCount && !any_; ++fd)
    any_ = KindOf(static_cast<int>(fd)) == DescriptorKind::kListener;
}

// The deputy has the socket, too, until it has heard that its process began: what it answers is behind that.
ClosingListener::~ClosingListener() {
  if (!any_) return;
  const int before = errno;
  CallAgent(abi::Operation::kListenerClosed, {});
  if (OnWorker()) HomeCall(SYS_getpid, {});
  errno = before;
}

namespace hooks {

int accept4(int fd, sockaddr* from, socklen_t* size, int flags) {
  if (KindOf(fd) != DescriptorKind::kListener) {
    // Home's agent may accept for others between this call's entry and its look at the queue, with the socket
    // made non-blocking for that moment: such an EAGAIN is not this call's.
    for (;;) {
      const int made = real::accept4(fd, from, size, flags);
      if (made >= 0 || errno != EAGAIN) return made;
      timeval limit{};
      socklen_t room = sizeof limit;
      const long status = raw::Syscall(SYS_fcntl, fd, F_GETFL);
      const bool waits = status >= 0 && (status & O_NONBLOCK) == 0;
      if (!waits || real::getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, &room) != 0 || limit.tv_sec != 0 ||
          limit.tv_usec != 0) {
        errno = EAGAIN;
        return -1;
      }
    }
  }
  bool stranger;
  const int made = Accept(fd, from, size, flags, &stranger);
  return stranger ? real::accept4(fd, from, size, flags) : made;
}

int accept(int fd, sockaddr* from, socklen_t* size) {
  return hooks::accept4(fd, from, size, 0);
}

// Of a socket elsewhere the stand-in is shut down for those who write without libc. What the real one still
// has is read first, also after SHUT_RD: so the stand-in's input ends when the origin says so.
int shutdown(int fd, int how) {
  bool stranger = true;
  int result = 0;
  if (IsSocketElsewhere(fd))
    result = static_cast<int>(CallAtOrigin(fd, wire::StreamCall::kShutDown, {how}, {}, &stranger));
  if (!stranger) return result != 0 || how == SHUT_RD ? result : real::shutdown(fd, SHUT_WR);
  result = real::shutdown(fd, how);
  const int before = errno;
  const abi::Table* const table = result == 0 ? AgentTable() : nullptr;
  if (table != nullptr && table->header.shared_sockets.load() != 0) CallAgent(abi::Operation::kShutDown, {});
  errno = before;
  return result;
}

int getsockname(int fd, sockaddr* name, socklen_t* size) {
  bool stranger;
  const int result = Name(fd, false, name, size, &stranger);
  return stranger ? real::getsockname(fd, name, size) : result;
}

int getpeername(int fd, sockaddr* name, socklen_t* size) {
  bool stranger;
  const int result = Name(fd, true, name, size, &stranger);
  return stranger ? real::getpeername(fd, name, size) : result;
}

// Who made the connection is a process of home's; locally it would be the agent.
int getsockopt(int fd, int level, int option, void* value, socklen_t* size) {
  bool stranger;
  if (!IsReadable(size, sizeof *size) || !IsReadable(value, *size)) {
    errno = EFAULT;
    return -1;
  }
  const size_t room = *size < abi::kSlotPayload ? *size : abi::kSlotPayload;
  const auto result = static_cast<int>(CallAtOrigin(fd, wire::StreamCall::kGetOption,
                                                    {level, option, static_cast<int64_t>(room)},
                                                    {nullptr, 0, value, room}, &stranger));
  if (stranger) return real::getsockopt(fd, level, option, value, size);
  if (result < 0) return -1;
  *size = static_cast<socklen_t>(result);
  return 0;
}

// Here too what the kernel does with this process's own calls.
int setsockopt(int fd, int level, int option, const void* value, socklen_t size) {
  bool stranger;
  if (!IsReadable(value, size)) {
    errno = EFAULT;
    return -1;
  }
  const auto result = static_cast<int>(
      CallAtOrigin(fd, wire::StreamCall::kSetOption, {level, option}, {value, size}, &stranger));
  if (stranger) return real::setsockopt(fd, level, option, value, size);
  const bool ours = option == SO_PASSCRED || option == SO_RCVTIMEO || option == SO_SNDTIMEO;
  if (result == 0 && level == SOL_SOCKET && ours) real::setsockopt(fd, level, option, value, size);
  return result;
}

}  // namespace hooks
}  // namespace elsewhere::preload
