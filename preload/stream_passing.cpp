// Descriptors and credentials that come and go with a message over a Unix socket.
//
// What came is looked at as after an exec: it may stand for an object elsewhere, also in a process at home
// that never had such a descriptor. Before descriptors go to another host the agent is asked whether they
// can, so that what cannot fails here and is not lost there. The kernel speaks of processes by this host's
// pids, the program by home's.
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "preload/children.h"
#include "preload/hooks.h"
#include "preload/readable.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/stream.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kMostDescriptors = 253;  // SCM_MAX_FD

// Calls `each` with every descriptor of a message.
template <class Each>
void ForDescriptors(const msghdr& message, Each each) {
  auto* walk = const_cast<msghdr*>(&message);
  for (cmsghdr* header = CMSG_FIRSTHDR(walk); header != nullptr; header = CMSG_NXTHDR(walk, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      each(fd);
    }
  }
}

}  // namespace

void TakePassed(int fd) {
  SetKind(fd, DescriptorKind::kNothing);
  FindStream(fd);
  switch (KindOf(fd)) {
    case DescriptorKind::kPipeRead:
    case DescriptorKind::kPipeWrite:
    case DescriptorKind::kSocket:
    case DescriptorKind::kTerminal:
    case DescriptorKind::kOutputFile:
    case DescriptorKind::kEvent:
    case DescriptorKind::kTimer:
    case DescriptorKind::kListener: {
      bool stranger;
      CallAboutStream(abi::Operation::kAdopt, fd, 0, 0, {}, Interruption::kNone, &stranger);
      break;
    }
    default:
      break;
  }
}

namespace {

void TakeAll(const msghdr& message) {
  if (message.msg_controllen == 0) return;
  const int before = errno;
  ForDescriptors(message, TakePassed);
  errno = before;
}

// False, with errno: what the message passes cannot go where this socket's other end is.
bool CanPass(int fd, const msghdr& message) {
  if (KindOf(fd) != DescriptorKind::kSocket || message.msg_controllen == 0) return true;
  int32_t all[kMostDescriptors];
  size_t count = 0;
  ForDescriptors(message, [&](int passed) {
    if (count < kMostDescriptors) all[count++] = passed;
  });
  constexpr size_t kAtOnce = abi::kSlotPayload / sizeof(int32_t);
  for (size_t at = 0; at < count; at += kAtOnce) {
    const size_t some = count - at < kAtOnce ? count - at : kAtOnce;
    if (CallAgent(abi::Operation::kPassable, {}, {all + at, some * sizeof(int32_t)}) != 0) return false;
  }
  return true;
}

}  // namespace

namespace hooks {

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  if (!IsReadable(message, sizeof *message)) return real::recvmsg(fd, message, flags);
  if (!BeforeInput(fd, TotalSize(message->msg_iov, message->msg_iovlen), flags)) return -1;
  const ssize_t size = real::recvmsg(fd, message, flags);
  if (size >= 0) TakeAll(*message);
  return size;
}

int recvmmsg(int fd, mmsghdr* messages, unsigned count, int flags, timespec* timeout) {
  if (!BeforeInput(fd, 1, flags)) return -1;
  const int received = real::recvmmsg(fd, messages, count, flags, timeout);
  for (int i = 0; i < received; ++i) TakeAll(messages[i].msg_hdr);
  return received;
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  const NotedOutput noted(fd);
  if (!IsReadable(message, sizeof *message)) return real::sendmsg(fd, message, flags);
  return BeforeOutput(fd) && CanPass(fd, *message) ? real::sendmsg(fd, message, flags) : -1;
}

int sendmmsg(int fd, mmsghdr* messages, unsigned count, int flags) {
  const NotedOutput noted(fd);
  if (!IsReadable(messages, count * sizeof *messages)) return real::sendmmsg(fd, messages, count, flags);
  if (!BeforeOutput(fd)) return -1;
  unsigned passable = 0;
  while (passable < count && CanPass(fd, messages[passable].msg_hdr)) ++passable;
  return passable == 0 && count > 0 ? -1 : real::sendmmsg(fd, messages, passable, flags);
}

}  // namespace hooks
}  // namespace elsewhere::preload
