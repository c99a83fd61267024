#include "preload/message_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <string.h>

#include "preload/home_call.h"
#include "preload/home_queue.h"
#include "preload/hooks.h"
#include "preload/kernel_call.h"
#include "preload/lent_queue.h"
#include "preload/readable.h"
#include "preload/real.h"
#include "preload/self.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"
#include "shim/wire/stream_mark.h"

namespace elsewhere::preload {
namespace {

constexpr size_t kNameLimit = 4096;  // PATH_MAX: what is longer is too long however long it is
constexpr size_t kMostMessage = 16 << 20;

constinit std::atomic<uint64_t> stand_ins{0};
constinit std::atomic<int> in_epoll[64] = {};  // descriptor + 1; 0: free
constinit std::atomic<bool> notifies_by_thread{false};

int Fail(int error) {
  errno = error;
  return -1;
}

// Libc or a system call of the program's own may have closed what was a queue.
bool IsStillQueue(int fd) {
  if (!IsQueue(fd)) return false;
  if (raw::Syscall(SYS_fcntl, fd, F_GETSIG) == static_cast<int>(wire::StreamMark::kMessageQueue)) return true;
  SetKind(fd, DescriptorKind::kNothing);
  return false;
}

char* Append(char* to, uint64_t number) {
  char digits[20];
  size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (count > 0) *to++ = digits[--count];
  return to;
}

// A queue without a name that holds two messages of one byte.
int MakeStandIn() {
  char name[64] = "/elsewhere-";
  char* end = Append(name + strlen(name), static_cast<uint64_t>(raw::Syscall(SYS_getpid)));
  *end++ = '-';
  *Append(end, stand_ins.fetch_add(1)) = '\0';
  struct mq_attr attributes {};
  attributes.mq_maxmsg = 2;
  attributes.mq_msgsize = 1;
  const mqd_t fd = real::mq_open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600, &attributes);
  if (fd < 0) return -1;
  real::mq_unlink(name);
  raw::Syscall(SYS_fcntl, fd, F_SETSIG, static_cast<long>(wire::StreamMark::kMessageQueue));
  return fd;
}

// The process's own mask; nothing asks for it without changing it but this file.
mode_t Umask() {
  const long file = raw::Syscall(SYS_open, raw::Address("/proc/self/status"), O_RDONLY | O_CLOEXEC);
  char text[512];
  const long size = raw::Failed(file) ? -1 : raw::Read(static_cast<int>(file), text, sizeof text - 1);
  if (!raw::Failed(file)) raw::Close(static_cast<int>(file));
  if (size < 0) return 022;
  text[size] = '\0';
  const char* field = strstr(text, "Umask:\t");
  mode_t mask = 0;
  for (field = field == nullptr ? "" : field + 7; *field >= '0' && *field <= '7'; ++field)
    mask = mask * 8 + static_cast<mode_t>(*field - '0');
  return mask;
}

int64_t Watch(int fd) {
  return KernelCall(abi::DeputyCall::kWatchQueue).Number(fd).Make();
}

void WatchKeepingErrno(int fd) {
  if (IsHomeQueue(fd)) return PinHomeQueue(fd);
  const int before = errno;
  if (IsStillQueue(fd)) Watch(fd);
  errno = before;
}

bool IsAnyQueue(int fd) {
  return IsQueue(fd) || IsHomeQueue(fd);
}

// A call on a queue, `here` where that is lent to this host, else `there`.
template <class Result, class Here, class There>
Result WhereItIs(int fd, Here here, There there) {
  const QueueWait wait;
  abi::LentQueue queue{};
  bool is_here = FindLentQueue(fd, &queue);
  for (;;) {
    Result result = 0;
    const Lent how = is_here ? here(queue, &result) : Lent::kGone;
    if (how == Lent::kDone) return result;
    if (is_here) ForgetLentQueue(fd);
    const int64_t asked = there(how == Lent::kWaits, &queue);
    is_here = asked == abi::kQueueLent;
    if (is_here) RememberLentQueue(fd, queue);
    if (!is_here && asked != abi::kQueueAgain) return static_cast<Result>(asked);
    if (!is_here && QueueWait::Interrupted()) return Fail(EINTR);
  }
}

}  // namespace

void QueueCloses(int fd) {
  if (!IsStillQueue(fd)) return;
  const int before = errno;
  ForgetLentQueue(fd);
  for (auto& entry : in_epoll) {
    int expected = fd + 1;
    entry.compare_exchange_strong(expected, 0);
  }
  KernelCall(abi::DeputyCall::kClose).Number(fd).Make();
  errno = before;
}

void QueueCopied(int fd, int to, int flags) {
  const int before = errno;
  ForgetLentQueue(to);
  KernelCall(abi::DeputyCall::kDuplicate).Number(fd).Number(to).Number(flags & O_CLOEXEC).Make();
  errno = before;
}

int QueueFlags(int fd, int command, long argument) {
  return static_cast<int>(HomeCall(SYS_fcntl, {fd, command, argument}));
}

void WatchQueues(const pollfd* all, nfds_t count) {
  if (!IsReadable(all, count * sizeof *all)) return;
  for (nfds_t i = 0; i < count; ++i) {
    if (all[i].fd >= 0 && IsAnyQueue(all[i].fd)) WatchKeepingErrno(all[i].fd);
  }
}

void WatchQueues(int count, const fd_set* read, const fd_set* write) {
  const size_t bytes = static_cast<size_t>(count < 0 ? 0 : count < FD_SETSIZE ? count : FD_SETSIZE) / 8;
  for (const fd_set* set : {read, write}) {
    if (set != nullptr && !IsReadable(set, bytes)) return;
  }
  for (int fd = 0; fd < count && fd < FD_SETSIZE; ++fd) {
    const bool wanted = (read != nullptr && FD_ISSET(fd, read)) || (write != nullptr && FD_ISSET(fd, write));
    if (wanted && IsAnyQueue(fd)) WatchKeepingErrno(fd);
  }
}

void QueueEntersEpoll(int fd) {
  WatchKeepingErrno(fd);
  if (IsHomeQueue(fd)) return;
  for (auto& entry : in_epoll) {
    int expected = 0;
    if (entry.load() == fd + 1 || entry.compare_exchange_strong(expected, fd + 1)) return;
  }
}

void WatchQueuesInEpoll() {
  for (auto& entry : in_epoll) {
    const int fd = entry.load(std::memory_order_relaxed) - 1;
    if (fd >= 0 && IsQueue(fd)) WatchKeepingErrno(fd);
  }
}

// What the kernel tells of a queue to who reads it as a file.
ssize_t ReadQueue(int fd, void* to, size_t size) {
  if (!IsStillQueue(fd)) return real::read(fd, to, size);
  const size_t most = size > kMostMessage ? kMostMessage : size;
  return static_cast<ssize_t>(
      KernelCall(SYS_read).Number(fd).Message(to, most, 0).Number(static_cast<int64_t>(most)).Make());
}

namespace hooks {

mqd_t mq_open(const char* name, int flags, mode_t mode, struct mq_attr* attributes) {
  if (!OnWorker()) {
    const mqd_t opened = real::mq_open(name, flags, mode, attributes);
    if (opened >= 0) HomeQueueOpened(opened);
    return opened;
  }
  if (name[0] != '/') return Fail(EINVAL);
  const int fd = MakeStandIn();
  if (fd < 0) return -1;
  const bool creates = (flags & O_CREAT) != 0;
  NoteKernelObjects();
  const int64_t opened = KernelCall(abi::DeputyCall::kOpenQueue)
                             .In(name + 1, strnlen(name + 1, kNameLimit) + 1)
                             .Number(flags)
                             .Number(creates ? mode & ~Umask() : 0)
                             .In(creates ? attributes : nullptr, sizeof *attributes)
                             .Number(fd)
                             .Make();
  if (opened < 0) {
    raw::Close(fd);
    return -1;
  }
  FindStream(fd);
  ForgetLentQueue(fd);
  return fd;
}

mqd_t __mq_open_2(const char* name, int flags) {
  if ((flags & O_CREAT) != 0) return real::__mq_open_2(name, flags);  // says what is wrong, and aborts
  return hooks::mq_open(name, flags, 0, nullptr);
}

int mq_unlink(const char* name) {
  if (name[0] != '/') return Fail(EINVAL);
  const int64_t result = KernelCall(SYS_mq_unlink).In(name + 1, strnlen(name + 1, kNameLimit) + 1).Make();
  if (result < 0 && errno == EPERM) errno = EACCES;  // as libc
  return static_cast<int>(result);
}

int mq_close(mqd_t fd) {
  return hooks::close(fd);
}

int mq_timedsend(mqd_t fd, const char* message, size_t size, unsigned priority,
                 const struct timespec* limit) {
  if (!IsStillQueue(fd)) {
    const HomeQueueUse use(fd, HomeQueueUse::Kind::kSend);
    return real::mq_timedsend(fd, message, size, priority, limit);
  }
  const auto here = [&](const abi::LentQueue& queue, int* result) {
    return SendToLent(queue, message, size, priority, limit, result);
  };
  return WhereItIs<int>(fd, here, [&](bool waits, abi::LentQueue* lent) {
    return KernelCall(SYS_mq_timedsend)
        .Number(fd)
        .In(message, size > kMostMessage ? 0 : size)
        .Number(static_cast<int64_t>(size))
        .Number(priority)
        .In(limit, sizeof *limit)
        .Waits(waits)
        .Make(Interruption::kAllowed, lent);
  });
}

int mq_send(mqd_t fd, const char* message, size_t size, unsigned priority) {
  return hooks::mq_timedsend(fd, message, size, priority, nullptr);
}

ssize_t mq_timedreceive(mqd_t fd, char* message, size_t size, unsigned* priority,
                        const struct timespec* limit) {
  if (!IsStillQueue(fd)) {
    const HomeQueueUse use(fd);
    return real::mq_timedreceive(fd, message, size, priority, limit);
  }
  const auto here = [&](const abi::LentQueue& queue, ssize_t* result) {
    return ReceiveFromLent(queue, message, size, priority, limit, result);
  };
  return WhereItIs<ssize_t>(fd, here, [&](bool waits, abi::LentQueue* lent) {
    return KernelCall(SYS_mq_timedreceive)
        .Number(fd)
        .Argument(3)
        .Out(priority, sizeof *priority)
        .In(limit, sizeof *limit)
        .Argument(1)
        .Message(message, size > kMostMessage ? kMostMessage : size, 0)
        .Number(static_cast<int64_t>(size))
        .Waits(waits)
        .Make(Interruption::kAllowed, lent);
  });
}

ssize_t mq_receive(mqd_t fd, char* message, size_t size, unsigned* priority) {
  return hooks::mq_timedreceive(fd, message, size, priority, nullptr);
}

int mq_setattr(mqd_t fd, const struct mq_attr* attributes, struct mq_attr* old) {
  if (!IsStillQueue(fd)) {
    const HomeQueueUse use(fd);
    return real::mq_setattr(fd, attributes, old);
  }
  const auto here = [&](const abi::LentQueue& queue, int* result) {
    return attributes == nullptr && old != nullptr ? LookAtLent(queue, old, result) : Lent::kGone;
  };
  return WhereItIs<int>(fd, here, [&](bool, abi::LentQueue* lent) {
    return KernelCall(SYS_mq_getsetattr)
        .Number(fd)
        .In(attributes, sizeof *attributes)
        .Out(old, sizeof *old)
        .Make(Interruption::kNone, lent);
  });
}

int mq_getattr(mqd_t fd, struct mq_attr* attributes) {
  return hooks::mq_setattr(fd, nullptr, attributes);
}

// A notification by thread is libc's, on the stand-in: home's queue signals the deputy, which the agent turns
// into a message for the stand-in. All else is the deputy's, whose signals are this process's.
int mq_notify(mqd_t fd, const struct sigevent* event) {
  if (!IsStillQueue(fd)) {
    PinHomeQueue(fd);
    return real::mq_notify(fd, event);
  }
  const auto at_home = [fd](const struct sigevent* what) {
    return static_cast<int>(KernelCall(SYS_mq_notify).Number(fd).In(what, sizeof *what).Make());
  };
  const bool thread = event != nullptr && event->sigev_notify == SIGEV_THREAD;
  if (!thread) {
    const int result = at_home(event);
    if (result == 0 && event == nullptr && notifies_by_thread.exchange(false)) real::mq_notify(fd, nullptr);
    return result;
  }
  constexpr int kSignalNotify = 32;  // preload/proxy/kernel_call.h
  struct sigevent signal {};
  signal.sigev_notify = SIGEV_SIGNAL;
  signal.sigev_signo = kSignalNotify;
  signal.sigev_value.sival_int = fd;
  if (Watch(fd) < 0 || at_home(&signal) != 0) return -1;
  real::mq_notify(fd, nullptr);  // of a notification that home's end of it has outlived
  if (real::mq_notify(fd, event) == 0) {
    notifies_by_thread.store(true);
    return 0;
  }
  const int error = errno;
  at_home(nullptr);
  return Fail(error);
}

}  // namespace hooks
}  // namespace elsewhere::preload
