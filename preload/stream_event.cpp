// Descriptors of which whole records are read: counters (eventfd, timerfd) whose count is elsewhere, and
// signals (signalfd), whose pids are translated.
//
// Values are not bytes of a stream: the local object, a socket, refuses nothing and never has one to be read.
// A read is a call whose answer is the value; a write is checked here and then goes the way of all output.
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "preload/agent.h"
#include "preload/files.h"
#include "preload/hooks.h"
#include "preload/message_queue.h"
#include "preload/output_file.h"
#include "preload/real.h"
#include "preload/shared_file.h"
#include "preload/signals.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

bool IsCounter(int fd) {
  return KindOf(fd) == DescriptorKind::kEvent || KindOf(fd) == DescriptorKind::kTimer;
}

ssize_t ReadEvent(int fd, void* to, size_t room) {
  uint64_t value = 0;
  if (room < sizeof value) {
    errno = EINVAL;
    return -1;
  }
  const long status = raw::Syscall(SYS_fcntl, fd, F_GETFL);
  const int64_t at_once = status >= 0 && (status & O_NONBLOCK) != 0 ? 1 : 0;
  bool stranger;
  const int64_t result =
      CallAboutStream(abi::Operation::kPull, fd, sizeof value, at_once, {nullptr, 0, &value, sizeof value},
                      Interruption::kAllowed, &stranger);
  if (stranger) return real::read(fd, to, room);
  if (result != sizeof value) return -1;
  memcpy(to, &value, sizeof value);
  return sizeof value;
}

ssize_t WriteEvent(int fd, const void* from, size_t size) {
  uint64_t value = UINT64_MAX;
  if (size >= sizeof value && !IsReadable(from, sizeof value)) {
    errno = EFAULT;
    return -1;
  }
  if (size >= sizeof value) memcpy(&value, from, sizeof value);
  if (value != UINT64_MAX) return real::write(fd, &value, sizeof value);
  errno = EINVAL;
  return -1;
}

ssize_t ReadSignals(int fd, void* to, size_t room) {
  const ssize_t size = real::read(fd, to, room);
  TranslateSignals(to, size);
  return size;
}

}  // namespace

namespace hooks {

ssize_t read(int fd, void* buffer, size_t size) {
  if (KindOf(fd) == DescriptorKind::kSignals) return ReadSignals(fd, buffer, size);
  if (IsCounter(fd)) return ReadEvent(fd, buffer, size);
  if (IsQueue(fd)) return ReadQueue(fd, buffer, size);
  if (IsOutputFile(fd)) return output::read(fd, buffer, size);
  return WithInput(fd, size, 0, [&] { return real::read(fd, buffer, size); });
}
ssize_t __read_chk(int fd, void* buffer, size_t size, size_t room) {
  if (size <= room) return hooks::read(fd, buffer, size);
  return real::__read_chk(fd, buffer, size, room);
}
ssize_t readv(int fd, const iovec* parts, int count) {
  // The kernel fills the first part with whole records, as read does.
  if (KindOf(fd) == DescriptorKind::kSignals && count > 0) {
    return ReadSignals(fd, parts[0].iov_base, parts[0].iov_len);
  }
  if (IsOutputFile(fd)) return output::preadv2(fd, parts, count, -1, 0);
  if (!IsCounter(fd)) {
    return WithInput(fd, TotalSize(parts, count), 0, [&] { return real::readv(fd, parts, count); });
  }
  // A value that is spread over several parts is for the kernel to refuse; nobody does that.
  return count > 0 ? ReadEvent(fd, parts[0].iov_base, parts[0].iov_len) : real::readv(fd, parts, count);
}
ssize_t write(int fd, const void* buffer, size_t size) {
  const NotedOutput noted(fd);
  if (KindOf(fd) == DescriptorKind::kEvent) return WriteEvent(fd, buffer, size);
  if (KindOf(fd) == DescriptorKind::kTimer) {
    errno = EINVAL;
    return -1;
  }
  const iovec part{const_cast<void*>(buffer), size};
  if (IsSharedFile(fd))
    return WriteShared(fd, size, [&](off_t place) { return real::pwritev2(fd, &part, 1, place, 0); });
  const auto write = [&] { return real::write(fd, buffer, size); };
  if (IsMappedFile(fd)) return WriteMapped(fd, size, -1, write);
  return BeforeOutput(fd) ? WithOutput(fd, write) : -1;
}
ssize_t writev(int fd, const iovec* parts, int count) {
  const size_t size = TotalSize(parts, count);
  const NotedOutput noted(fd);
  if (IsSharedFile(fd))
    return WriteShared(fd, size, [&](off_t place) { return real::pwritev2(fd, parts, count, place, 0); });
  const auto write = [&] { return real::writev(fd, parts, count); };
  if (IsMappedFile(fd)) return WriteMapped(fd, size, -1, write);
  return BeforeOutput(fd) ? WithOutput(fd, write) : -1;
}
int eventfd_read(int fd, eventfd_t* value) {
  return hooks::read(fd, value, sizeof *value) == sizeof *value ? 0 : -1;
}
int eventfd_write(int fd, eventfd_t value) {
  return hooks::write(fd, &value, sizeof value) == sizeof value ? 0 : -1;
}

int timerfd_settime(int fd, int flags, const struct itimerspec* wanted, struct itimerspec* old) {
  struct itimerspec before;
  bool stranger;
  if (wanted == nullptr) return real::timerfd_settime(fd, flags, wanted, old);
  const auto result = static_cast<int>(CallAtOrigin(
      fd, wire::StreamCall::kSetTimer, {flags}, {wanted, sizeof *wanted, &before, sizeof before}, &stranger));
  if (stranger) return real::timerfd_settime(fd, flags, wanted, old);
  if (result == 0 && old != nullptr) *old = before;
  return result;
}
int timerfd_gettime(int fd, struct itimerspec* left) {
  bool stranger;
  const auto result = static_cast<int>(
      CallAtOrigin(fd, wire::StreamCall::kGetTimer, {}, {nullptr, 0, left, sizeof *left}, &stranger));
  return stranger ? real::timerfd_gettime(fd, left) : result;
}

}  // namespace hooks
}  // namespace elsewhere::preload
