// poll, select and epoll on descriptors whose object is elsewhere.
//
// While a process watches the read end of a pipe, the agent makes the local pipe look hung up as soon as its
// origin is readable (no byte is moved: it might be somebody else's). So the real poll runs on the real
// descriptors, ours and all others, and only what it says of such an end is put right afterwards: the agent
// knows whether POLLHUP means "readable" or the end, or nothing any more because somebody else has read
// meanwhile; then the wait goes on. Sockets and terminals get their bytes as soon as they are watched; the
// kernel's word stands.
//
// An epoll instance watches until the descriptor is closed. Its events carry the program's data, not the
// descriptor, so a table remembers which data belongs to which pipe; what does not fit into it shows POLLHUP,
// which every program takes as a reason to read.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

#include "preload/home_queue.h"
#include "preload/hooks.h"
#include "preload/message_queue.h"
#include "preload/output_file.h"
#include "preload/readable.h"
#include "preload/real.h"
#include "preload/stream.h"
#include "shim/wire/raw_syscall.h"

namespace elsewhere::preload {
namespace {

constexpr int64_t kNoLimit = -1;

int64_t Now() {
  timespec now{};
  raw::Syscall(SYS_clock_gettime, CLOCK_MONOTONIC, raw::Address(&now));
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

// What is left of a wait in nanoseconds; kNoLimit: no limit.
class Deadline {
 public:
  explicit Deadline(int64_t nanoseconds) : end_(nanoseconds < 0 ? kNoLimit : Now() + nanoseconds) {}
  int64_t Left() const {
    if (end_ == kNoLimit) return kNoLimit;
    const int64_t left = end_ - Now();
    return left > 0 ? left : 0;
  }
  // The same for calls that want a timespec; null: no limit.
  const timespec* Left(timespec* room) const {
    const int64_t left = Left();
    if (left == kNoLimit) return nullptr;
    *room = {left / 1'000'000'000, left % 1'000'000'000};
    return room;
  }

 private:
  int64_t end_;
};

int64_t Nanoseconds(const timespec* time) {
  return time == nullptr ? kNoLimit : time->tv_sec * 1'000'000'000 + time->tv_nsec;
}

bool WantsInput(const pollfd& one) {
  return (one.events & (POLLIN | POLLRDNORM)) != 0 && one.fd >= 0 && IsStreamInput(one.fd);
}

// What the agent says in place of a pipe's own POLLHUP.
short Corrected(short events, short seen, int known) {
  const int readable = (known & POLLIN) != 0 ? events & (POLLIN | POLLRDNORM) : 0;
  return static_cast<short>((seen & ~POLLHUP) | readable | (known & POLLHUP));
}

// ---- poll

void StartWatching(pollfd* all, nfds_t count, bool answer) {
  for (nfds_t i = 0; i < count; ++i) {
    if (WantsInput(all[i])) WatchStream(all[i].fd, Watching::kOnce, answer);
  }
}

// Ends what StartWatching began and puts the results right. Returns how many remain ready. `*replaced`: what
// was seen of a number is not what it is by now.
int StopWatching(pollfd* all, nfds_t count, int ready, bool* replaced) {
  const int before = errno;
  for (nfds_t i = 0; i < count; ++i) {
    if (!WantsInput(all[i])) continue;
    const int known = WatchStream(all[i].fd, Watching::kOff, false);
    *replaced |= known == kNowNative;
    const bool hung_up = ready > 0 && (all[i].revents & POLLHUP) != 0;
    if (known < 0 || !hung_up || KindOf(all[i].fd) != DescriptorKind::kPipeRead) continue;
    all[i].revents = Corrected(all[i].events, all[i].revents, known);
    if (all[i].revents == 0) --ready;
  }
  errno = before;
  return ready;
}

// Something is ready, perhaps before the agent has heard from a stream's origin, and it may always be: a loop
// that also waits for a socket to be writable would never hear of its input. So the answer of those that are
// not ready is awaited. True: there were any.
bool AwaitAnswers(pollfd* all, nfds_t count) {
  bool any = false;
  for (nfds_t i = 0; i < count; ++i) {
    if (!WantsInput(all[i]) || all[i].revents != 0) continue;
    WatchStream(all[i].fd, Watching::kOnce, true);
    any = true;
  }
  return any;
}

int Poll(pollfd* all, nfds_t count, const Deadline& deadline, const sigset_t* mask) {
  for (;;) {
    timespec room;
    const timespec* left = deadline.Left(&room);
    const bool at_once = left != nullptr && left->tv_sec == 0 && left->tv_nsec == 0;
    StartWatching(all, count, at_once);
    int seen = real::ppoll(all, count, left, mask);
    if (!at_once && seen > 0 && AwaitAnswers(all, count)) seen = real::poll(all, count, 0);
    bool replaced = false;
    const int ready = StopWatching(all, count, seen, &replaced);
    if (replaced && seen > 0) continue;
    if (ready != 0 || seen <= 0) return ready;
    if (deadline.Left() == 0) return 0;
  }
}

bool AnyStream(const pollfd* all, nfds_t count) {
  if (!IsReadable(all, count * sizeof *all)) return false;
  for (nfds_t i = 0; i < count; ++i) {
    if (WantsInput(all[i])) return true;
  }
  return false;
}

// ---- select

struct Sets {
  fd_set* read;
  fd_set* write;
  fd_set* except;
};

size_t BytesOf(int count) {
  return static_cast<size_t>((count + 63) / 64) * 8;
}

bool AnyStream(int count, const fd_set* set) {
  if (set == nullptr || !IsReadable(set, BytesOf(count))) return false;
  for (int fd = 0; fd < count; ++fd) {
    if (FD_ISSET(fd, set) && IsStreamInput(fd)) return true;
  }
  return false;
}

void Copy(fd_set* to, const fd_set* from, int count) {
  if (to != nullptr) __builtin_memcpy(to, from, BytesOf(count));
}

// As the other one, for sets.
bool AwaitAnswers(int count, const fd_set& wanted, const fd_set* ready) {
  bool any = false;
  for (int fd = 0; fd < count; ++fd) {
    if (!FD_ISSET(fd, &wanted) || !IsStreamInput(fd) || FD_ISSET(fd, ready)) continue;
    WatchStream(fd, Watching::kOnce, true);
    any = true;
  }
  return any;
}

int Select(int count, const Sets& sets, const Deadline& deadline, const sigset_t* mask) {
  const fd_set nothing{};
  if (count > FD_SETSIZE) count = FD_SETSIZE;
  fd_set wanted_read = nothing, wanted_write = nothing, wanted_except = nothing;
  Copy(&wanted_read, sets.read, count);
  if (sets.write != nullptr) Copy(&wanted_write, sets.write, count);
  if (sets.except != nullptr) Copy(&wanted_except, sets.except, count);
  for (;;) {
    timespec room;
    const timespec* left = deadline.Left(&room);
    const bool at_once = left != nullptr && left->tv_sec == 0 && left->tv_nsec == 0;
    for (int fd = 0; fd < count; ++fd) {
      if (FD_ISSET(fd, &wanted_read) && IsStreamInput(fd)) WatchStream(fd, Watching::kOnce, at_once);
    }
    int ready = real::pselect(count, sets.read, sets.write, sets.except, left, mask);
    if (!at_once && ready > 0 && AwaitAnswers(count, wanted_read, sets.read)) {
      const timespec now{};
      Copy(sets.read, &wanted_read, count);
      Copy(sets.write, &wanted_write, count);
      Copy(sets.except, &wanted_except, count);
      ready = real::pselect(count, sets.read, sets.write, sets.except, &now, nullptr);
    }
    const int seen = ready, error = errno;
    bool replaced = false;
    for (int fd = 0; fd < count; ++fd) {
      if (!FD_ISSET(fd, &wanted_read) || !IsStreamInput(fd)) continue;
      const int known = WatchStream(fd, Watching::kOff, false);
      replaced |= known == kNowNative;
      if (seen <= 0 || known != 0 || KindOf(fd) != DescriptorKind::kPipeRead || !FD_ISSET(fd, sets.read))
        continue;
      FD_CLR(fd, sets.read);
      --ready;
    }
    errno = error;
    const bool again = replaced && seen > 0;
    if (!again && (ready != 0 || seen <= 0 || deadline.Left() == 0)) return ready;
    Copy(sets.read, &wanted_read, count);
    Copy(sets.write, &wanted_write, count);
    Copy(sets.except, &wanted_except, count);
  }
}

// ---- epoll

struct Interest {
  std::atomic<uint64_t> key;  // epoll descriptor + 1 in the upper half, descriptor in the lower; 0: free
  std::atomic<uint64_t> data;
  std::atomic<uint32_t> events;
  std::atomic<bool> asleep;  // nobody has waited for it yet
};
constexpr size_t kInterests = 256;
constinit Interest interests[kInterests] = {};
constinit std::atomic<bool> any_asleep{false};

uint64_t KeyOf(int epoll, int fd) {
  return (static_cast<uint64_t>(static_cast<uint32_t>(epoll) + 1) << 32) | static_cast<uint32_t>(fd);
}

Interest* Find(uint64_t key) {
  for (Interest& interest : interests) {
    if (interest.key.load(std::memory_order_relaxed) == key) return &interest;
  }
  return nullptr;
}

// False: there is no room for more.
bool Remember(int epoll, int fd, const epoll_event& event, bool asleep) {
  const uint64_t key = KeyOf(epoll, fd);
  Interest* place = Find(key);
  if (place == nullptr) place = Find(0);
  if (place == nullptr) return false;
  place->asleep.store(asleep, std::memory_order_relaxed);
  place->data.store(event.data.u64, std::memory_order_relaxed);
  place->events.store(event.events, std::memory_order_relaxed);
  place->key.store(key, std::memory_order_release);
  return true;
}

// Somebody waits on the instance, or has another one wait on it.
void WakeInterests(int epoll) {
  if (!any_asleep.load(std::memory_order_relaxed)) return;
  const int before = errno;
  for (Interest& interest : interests) {
    const uint64_t key = interest.key.load(std::memory_order_acquire);
    if (key >> 32 != static_cast<uint32_t>(epoll) + 1) continue;
    if (interest.asleep.exchange(false))
      WatchStream(static_cast<int>(static_cast<uint32_t>(key)), Watching::kUntilClosed, false);
  }
  errno = before;
}

void WakeInterests(const pollfd* all, nfds_t count) {
  if (!any_asleep.load(std::memory_order_relaxed) || !IsReadable(all, count * sizeof *all)) return;
  for (nfds_t i = 0; i < count; ++i) {
    if (all[i].fd >= 0) WakeInterests(all[i].fd);
  }
}

void WakeInterests(int count, const fd_set* read) {
  if (!any_asleep.load(std::memory_order_relaxed) || read == nullptr || !IsReadable(read, BytesOf(count)))
    return;
  for (int fd = 0; fd < count && fd < FD_SETSIZE; ++fd) {
    if (FD_ISSET(fd, read)) WakeInterests(fd);
  }
}

// The pipe that an event of this instance is about, or -1.
int PipeOf(int epoll, uint64_t data, uint32_t* events) {
  for (Interest& interest : interests) {
    const uint64_t key = interest.key.load(std::memory_order_acquire);
    if (key >> 32 != static_cast<uint32_t>(epoll) + 1 ||
        interest.data.load(std::memory_order_relaxed) != data) {
      continue;
    }
    const int fd = static_cast<int>(static_cast<uint32_t>(key));
    if (KindOf(fd) != DescriptorKind::kPipeRead) continue;
    *events = interest.events.load(std::memory_order_relaxed);
    return fd;
  }
  return -1;
}

// Puts the events of pipes right; those that turned out to be nothing are taken out. Returns how many remain.
int Correct(int epoll, epoll_event* events, int count) {
  const int before = errno;
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    uint32_t wanted = 0;
    const int fd = (events[i].events & EPOLLHUP) != 0 ? PipeOf(epoll, events[i].data.u64, &wanted) : -1;
    if (fd >= 0) {
      const int known = WatchStream(fd, Watching::kQuery, false);
      if (known >= 0) {
        const auto seen = static_cast<short>(events[i].events);
        events[i].events = static_cast<uint32_t>(Corrected(static_cast<short>(wanted), seen, known));
      }
      if (events[i].events == 0 || known == kNowNative) continue;
    }
    events[kept++] = events[i];
  }
  errno = before;
  return kept;
}

template <class Wait>
int EpollWait(int epoll, epoll_event* events, int64_t nanoseconds, Wait wait) {
  const Deadline deadline(nanoseconds);
  for (;;) {
    const int64_t left = deadline.Left();
    const int seen = wait(left < 0 ? -1 : static_cast<int>((left + 999'999) / 1'000'000));
    const int kept = seen > 0 ? Correct(epoll, events, seen) : seen;
    if (kept != 0 || seen <= 0 || deadline.Left() == 0) return kept;
  }
}

int64_t Milliseconds(int timeout) {
  return timeout < 0 ? kNoLimit : timeout * int64_t{1'000'000};
}

}  // namespace

void EnterEpollAsleep(int epoll, int fd, const epoll_event& event) {
  epoll_event copy = event;
  const bool watched = IsStreamInput(fd) && (event.events & (EPOLLIN | EPOLLRDNORM)) != 0;
  if (!watched || real::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &copy) != 0) {
    if (!watched) hooks::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &copy);
    return;
  }
  if (Remember(epoll, fd, event, true)) {
    any_asleep.store(true, std::memory_order_relaxed);
  } else {
    WatchStream(fd, Watching::kUntilClosed, false);
  }
}

bool LeaveEpolls(int fd) {
  bool any = false;
  for (const Interest& interest : interests) {
    const uint64_t key = interest.key.load(std::memory_order_acquire);
    if (key == 0 || static_cast<uint32_t>(key) != static_cast<uint32_t>(fd)) continue;
    real::epoll_ctl(static_cast<int>(key >> 32) - 1, EPOLL_CTL_DEL, fd, nullptr);
    any = true;
  }
  return any;
}

void EnterEpolls(int fd) {
  for (Interest& interest : interests) {
    const uint64_t key = interest.key.load(std::memory_order_acquire);
    if (key == 0 || static_cast<uint32_t>(key) != static_cast<uint32_t>(fd)) continue;
    epoll_event event{};
    event.events = interest.events.load(std::memory_order_relaxed);
    event.data.u64 = interest.data.load(std::memory_order_relaxed);
    interest.key.store(0, std::memory_order_relaxed);
    real::epoll_ctl(static_cast<int>(key >> 32) - 1, EPOLL_CTL_ADD, fd, &event);
  }
}

bool WatchesAnyStream() {
  for (const Interest& interest : interests) {
    const uint64_t key = interest.key.load(std::memory_order_relaxed);
    if (key != 0 && KindOf(static_cast<int>(static_cast<uint32_t>(key))) == DescriptorKind::kPipeRead)
      return true;
  }
  return false;
}

void StreamCloses(int fd) {
  if (IsOutputFile(fd)) OutputFileCloses(fd);
  if (!IsStreamInput(fd)) return;
  bool watched = false;
  for (Interest& interest : interests) {
    const uint64_t key = interest.key.load(std::memory_order_relaxed);
    if (key == 0 || static_cast<uint32_t>(key) != static_cast<uint32_t>(fd)) continue;
    interest.key.store(0, std::memory_order_relaxed);
    watched = true;
  }
  const int before = errno;
  if (watched) WatchStream(fd, Watching::kForget, false);
  errno = before;
}

namespace hooks {

int poll(pollfd* all, nfds_t count, int timeout) {
  WatchQueues(all, count);
  WakeInterests(all, count);
  if (!AnyStream(all, count)) return real::poll(all, count, timeout);
  return Poll(all, count, Deadline(Milliseconds(timeout)), nullptr);
}

int __poll_chk(pollfd* all, nfds_t count, int timeout, size_t room) {
  WatchQueues(all, count);
  WakeInterests(all, count);
  if (!AnyStream(all, count)) return real::__poll_chk(all, count, timeout, room);
  return Poll(all, count, Deadline(Milliseconds(timeout)), nullptr);
}

int ppoll(pollfd* all, nfds_t count, const timespec* timeout, const sigset_t* mask) {
  WatchQueues(all, count);
  WakeInterests(all, count);
  if (!AnyStream(all, count)) return real::ppoll(all, count, timeout, mask);
  return Poll(all, count, Deadline(Nanoseconds(timeout)), mask);
}

int __ppoll_chk(pollfd* all, nfds_t count, const timespec* timeout, const sigset_t* mask, size_t room) {
  WatchQueues(all, count);
  WakeInterests(all, count);
  if (!AnyStream(all, count)) return real::__ppoll_chk(all, count, timeout, mask, room);
  return Poll(all, count, Deadline(Nanoseconds(timeout)), mask);
}

int select(int count, fd_set* read, fd_set* write, fd_set* except, timeval* timeout) {
  WatchQueues(count, read, write);
  WakeInterests(count, read);
  if (!AnyStream(count, read)) return real::select(count, read, write, except, timeout);
  const Deadline deadline(timeout == nullptr ? kNoLimit
                                             : timeout->tv_sec * 1'000'000'000 + timeout->tv_usec * 1'000);
  const int ready = Select(count, {read, write, except}, deadline, nullptr);
  if (timeout != nullptr) {  // Linux says what was left
    const int64_t left = deadline.Left();
    *timeout = {left / 1'000'000'000, left % 1'000'000'000 / 1'000};
  }
  return ready;
}

int pselect(int count, fd_set* read, fd_set* write, fd_set* except, const timespec* timeout,
            const sigset_t* mask) {
  WatchQueues(count, read, write);
  WakeInterests(count, read);
  if (!AnyStream(count, read)) return real::pselect(count, read, write, except, timeout, mask);
  return Select(count, {read, write, except}, Deadline(Nanoseconds(timeout)), mask);
}

int epoll_ctl(int epoll, int operation, int fd, epoll_event* event) {
  const int result = real::epoll_ctl(epoll, operation, fd, event);
  if (result == 0 && operation != EPOLL_CTL_DEL && (IsQueue(fd) || IsHomeQueue(fd))) QueueEntersEpoll(fd);
  if (result == 0 && operation == EPOLL_CTL_ADD) WakeInterests(fd);
  if (result != 0 || !IsStreamInput(fd)) return result;
  const int before = errno;
  if (operation != EPOLL_CTL_DEL && event != nullptr && (event->events & (EPOLLIN | EPOLLRDNORM)) != 0) {
    Remember(epoll, fd, *event, false);
    WatchStream(fd, Watching::kUntilClosed, false);
  } else if (Interest* interest = Find(KeyOf(epoll, fd)); interest != nullptr) {
    interest->key.store(0, std::memory_order_relaxed);
    WatchStream(fd, Watching::kForget, false);
  }
  errno = before;
  return result;
}

int epoll_wait(int epoll, epoll_event* events, int room, int timeout) {
  WatchQueuesInEpoll();
  WakeInterests(epoll);
  return EpollWait(epoll, events, Milliseconds(timeout),
                   [&](int left) { return real::epoll_wait(epoll, events, room, left); });
}

int epoll_pwait(int epoll, epoll_event* events, int room, int timeout, const sigset_t* mask) {
  WatchQueuesInEpoll();
  WakeInterests(epoll);
  return EpollWait(epoll, events, Milliseconds(timeout),
                   [&](int left) { return real::epoll_pwait(epoll, events, room, left, mask); });
}

int epoll_pwait2(int epoll, epoll_event* events, int room, const timespec* timeout, const sigset_t* mask) {
  WatchQueuesInEpoll();
  WakeInterests(epoll);
  const Deadline deadline(Nanoseconds(timeout));
  for (;;) {
    timespec rest;
    const int seen = real::epoll_pwait2(epoll, events, room, deadline.Left(&rest), mask);
    const int kept = seen > 0 ? Correct(epoll, events, seen) : seen;
    if (kept != 0 || seen <= 0 || deadline.Left() == 0) return kept;
  }
}

}  // namespace hooks
}  // namespace elsewhere::preload
